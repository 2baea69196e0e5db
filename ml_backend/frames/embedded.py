"""Embeddings of frames: made from the trunk's activations as they pass, kept for the project, and read from there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ml_backend.frames.activations import Chunk, Vector
from ml_backend.msml import sketch
from ml_backend.store.embeddings import EmbeddingStore
from ml_backend.store.features import key
from ml_backend.store.quantised import CODEC
from ml_backend.store.trunks import Trunk
from ml_backend.store.vectors import ABSENT


class Embedder:
    """The embeddings that a trunk gives, in a project's store.

    Their keys name the content of the file and the trunk: neither a replaced file nor another trunk gets a wrong one.
    """

    def __init__(self, trunk: Trunk, store: EmbeddingStore) -> None:
        self._store = store
        self._made_by = f"{trunk.name} {CODEC} {sketch.NAME}"

    def kept(self, digests: Sequence[bytes]) -> dict[bytes, Vector]:
        """The embeddings (512,) that are in the store, by digest of the content."""
        rows = self._store.rows(self._keys(digests))
        vectors = self._store.vectors
        return {digest: vectors[row] for digest, row in zip(digests, rows, strict=True) if row != ABSENT}

    def of(self, chunk: Chunk) -> NDArray[np.float16]:
        """The embeddings (m, 512) of a chunk's frames; the store is given those that it lacks."""
        others = [place for place in range(len(chunk.frames)) if place not in chunk.embedded]
        kept = self.kept([chunk.digests[place] for place in others])
        found = np.empty((len(chunk.frames), sketch.WIDTH), np.float16)
        for place, digest in enumerate(chunk.digests):
            vector = chunk.embedded.get(place, kept.get(digest))
            if vector is not None:
                found[place] = vector
        lacking = [row for row, place in enumerate(others) if chunk.digests[place] not in kept]
        if lacking:
            places = [others[row] for row in lacking]
            found[places] = sketch.sketch(chunk.activations[lacking])
            self.keep([chunk.digests[place] for place in places], found[places])
        return found

    def keep(self, digests: Sequence[bytes], vectors: NDArray[np.float16]) -> None:
        """Give the store the embeddings (m, 512) of contents."""
        self._store.add(self._keys(digests), vectors)

    def _keys(self, digests: Sequence[bytes]) -> list[bytes]:
        return [key(digest, self._made_by) for digest in digests]
