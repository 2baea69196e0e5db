"""The map of a project's pool for the lead's page: frames as points in a plane, laid out in the background."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ml_backend.store.files import written_aside


@dataclass(frozen=True)
class Sample:
    """A uniform sample of a pool of ``pool`` frames, to be laid out: ``tasks`` (n,) and ``embeddings`` (n, d)."""

    tasks: NDArray[np.int64]
    embeddings: NDArray[np.floating]
    pool: int


@dataclass(frozen=True, eq=False)
class PoolMap:
    """A map: ``tasks`` (n,) and their ``places`` (n, 2) in [0, 1]; the pool had ``pool`` frames."""

    tasks: NDArray[np.int64]
    places: NDArray[np.float32]
    pool: int


class PoolMapStore:
    """The map of one project below ``folder``, and the sample that waits to be laid out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._map, self._sample = folder / "map.npz", folder / "map-sample.npz"

    def read(self) -> PoolMap | None:
        """Return the map, None before the first or if it cannot be read (the next refresh asks for another)."""
        try:
            state = self._map.stat()
            return _read(self._map, state.st_mtime_ns, state.st_size)
        except (OSError, EOFError, BadZipFile, ValueError, KeyError):
            return None

    def write(self, drawn: PoolMap) -> None:
        """Replace the map, and forget the sample that it was made of."""
        _save(self._map, tasks=drawn.tasks, places=drawn.places, pool=np.array(drawn.pool))
        self.forget_sample()

    def waits(self) -> bool:
        """Return whether a sample waits."""
        return self._sample.exists()

    def sample(self) -> Sample:
        """Return the sample that waits."""
        with np.load(self._sample, allow_pickle=False) as arrays:
            return Sample(arrays["tasks"], arrays["embeddings"], int(arrays["pool"]))

    def keep_sample(self, sample: Sample) -> None:
        """Keep a sample until it is laid out."""
        _save(self._sample, tasks=sample.tasks, embeddings=sample.embeddings, pool=np.array(sample.pool))

    def forget_sample(self) -> None:
        """Remove the sample."""
        self._sample.unlink(missing_ok=True)


def _save(path: Path, **arrays: Any) -> None:
    with written_aside(path, durable=False) as file:
        np.savez(file, **arrays)


@lru_cache(maxsize=4)
def _read(path: Path, written_ns: int, size: int) -> PoolMap:
    """Read the file once for each time it is written."""
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
        return PoolMap(arrays["tasks"], arrays["places"], int(arrays["pool"]))
