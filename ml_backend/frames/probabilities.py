"""A version's probabilities, kept for the project: a refresh between two fine-tunes need not run the network again."""

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
    """The probabilities that a version gives the frames of a project, in ``folder``.

    Those of other versions are removed: one version serves at a time. A key names the content of the file and the
    version, so a replaced file never gets those of the old one.
    """

    def __init__(self, predictor: Predictor, manifest: Manifest, versions: VersionStore, folder: Path) -> None:
        self._predictor, self._manifest, self._versions = predictor, manifest, versions
        self._label_count = len(manifest.label_names)
        self._made_by = f"{manifest.version} {predictor.network(self._label_count).trunk_precision}"
        # An even number of columns, because rows are made of words of 8 bytes.
        self._store = VectorStore(folder / manifest.version, self._label_count + self._label_count % 2, "<f4")
        for other in folder.glob("*"):
            if other.name != manifest.version:
                shutil.rmtree(other, ignore_errors=True)

    def has(self, digests: Sequence[bytes]) -> list[bool]:
        """Whether the probabilities of contents are kept, in order."""
        return [row != ABSENT for row in self._store.rows(self._keys(digests)).tolist()]

    def scores(self, chunk: Chunk) -> Scores:
        """What the version says of a chunk's frames; the store is given the probabilities that it lacks.

        A frame without activations must have them in the store.
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
