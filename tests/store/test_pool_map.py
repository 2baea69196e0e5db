from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ml_backend.store.pool_map import PoolMap, PoolMapStore, Sample

MAP = PoolMap(np.array([3, 1]), np.array([[0, 1], [0.5, 0.25]], np.float32), 9)


def test_a_map_replaces_the_sample_that_it_was_made_of(tmp_path: Path) -> None:
    store = PoolMapStore(tmp_path / "7")
    assert (store.read(), store.waits()) == (None, False)
    store.keep_sample(Sample(MAP.tasks, np.eye(2, dtype=np.float16), 9))
    assert store.waits()
    sample = store.sample()
    assert (sample.tasks.tolist(), str(sample.embeddings.dtype), sample.pool) == ([3, 1], "float16", 9)
    store.write(MAP)
    assert not store.waits()
    found = store.read()
    assert found is not None
    assert (found.tasks.tolist(), found.places.tolist(), found.pool) == ([3, 1], [[0, 1], [0.5, 0.25]], 9)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04"])
def test_damage_counts_as_absence(tmp_path: Path, content: bytes) -> None:
    store = PoolMapStore(tmp_path)
    store.write(MAP)
    (tmp_path / "map.npz").write_bytes(content)
    assert store.read() is None
