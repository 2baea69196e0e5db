"""The embeddings of a project's frames."""

from __future__ import annotations

from pathlib import Path

from ml_backend.msml.sketch import WIDTH
from ml_backend.store.vectors import VectorStore


class EmbeddingStore(VectorStore):
    """Embeddings (n, 512) float16 by key, 1 KB each."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, WIDTH, "<f2")
