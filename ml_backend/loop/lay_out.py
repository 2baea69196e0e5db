"""Lay out the sample of a pool that waits. This is a process of its own, which gives way to every other one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ml_backend.store.pool_map import PoolMap, PoolMapStore
from ml_backend.tsal.plane import laid_out

LOWEST_PRIORITY = 19
SEED = 0


def main(folder: str) -> None:
    """Lay out the sample in a project's ``folder`` and save the map."""
    os.nice(LOWEST_PRIORITY)
    store = PoolMapStore(Path(folder))
    sample = store.sample()
    store.write(PoolMap(sample.tasks, laid_out(sample.embeddings, SEED), sample.pool))


if __name__ == "__main__":
    main(sys.argv[1])
