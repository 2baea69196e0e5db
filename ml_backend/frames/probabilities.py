"""A version's probabilities, saved per project so that a refresh between two fine-tunes need not rerun the network."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml_backend.frames.activations import Chunk
from ml_backend.frames.predictor import Predictor
from ml_backend.frames.scores import Scores
from ml_backend.store.features import key
from ml_backend.store.vectors import ABSENT, VectorStore
from ml_backend.store.versions import Manifest, VersionStore


class KeptProbabilities:
    """A version's probabilities for the frames of a project, saved in ``folder``.

    Those of other versions are removed, as only one version serves at a time. Keys depend on the file's content and
    the version, so a replaced file never gets the probabilities of the old one.
    """

    def __init__(self, predictor: Predictor, manifest: Manifest, versions: VersionStore, folder: Path) -> None:
        self._predictor, self._manifest, self._versions = predictor, manifest, versions
        self._label_count = len(manifest.label_names)
        self._made_by = f"{manifest.version} {predictor.trunk.precision}"
        # The number of columns must be even, because rows consist of 8-byte words.
        self._store = VectorStore(folder / manifest.version, self._label_count + self._label_count % 2, "<f4")
        for other in folder.glob("*"):
            if other.name != manifest.version:
                shutil.rmtree(other, ignore_errors=True)

    def has(self, digests: Sequence[bytes]) -> list[bool]:
        """Return, for each digest of a file's content, whether its probabilities are saved."""
        return [row != ABSENT for row in self._store.rows(self._keys(digests)).tolist()]

    def scores(self, chunk: Chunk) -> Scores:
        """Score a chunk's frames with the version, and save the probabilities that were missing.

        Raises:
            ValueError: if a frame has neither activations nor saved probabilities.
        """
        found = np.empty((len(chunk.frames), self._label_count), np.float32)
        others = [place for place in range(len(chunk.frames)) if place not in chunk.embedded]
        kept = [*chunk.embedded]
        rows = self._store.rows(self._keys([chunk.digests[place] for place in kept]))
        if (rows == ABSENT).any():
            raise ValueError("a frame has neither activations nor kept probabilities")
        found[kept] = self._store.vectors[rows, : self._label_count]
        if others:
            found[others] = self._predictor.probabilities(chunk.activations, self._manifest, self._versions)
            self._keep([chunk.digests[place] for place in others], found[others])
        return self._predictor.judged(chunk, found, self._manifest)

    def _keep(self, digests: Sequence[bytes], probabilities: NDArray[np.float32]) -> None:
        self._store.add(
            self._keys(digests), np.pad(probabilities, ((0, 0), (0, self._store.width - self._label_count)))
        )

    def _keys(self, digests: Sequence[bytes]) -> list[bytes]:
        return [key(digest, self._made_by) for digest in digests]
