"""Keep a map of the pool: sample it when it has grown, and have the sample laid out in the background."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import numpy as np
from numpy.typing import NDArray

from ml_backend.logs import event
from ml_backend.loop.remember import Memory
from ml_backend.loop.score import Embeddings
from ml_backend.services import Services
from ml_backend.store.pool_map import Sample
from ml_backend.tsal.plane import LEAST

logger = logging.getLogger(__name__)
MOST = 3000
"""Maximum number of frames on the map."""
GROWTH = 1.25
"""The map is made anew when the pool has grown by this factor."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def keep_sample(services: Services, project: int, pool: Embeddings, memory: Memory | None) -> None:
    """Keep a sample of the unanswered frames and the remembered ones if the map lacks many of them."""
    store = services.pool_map(project)
    drawn = store.read()
    remembered = np.array([frame.task for frame in memory.frames] if memory else (), np.int64)
    tasks, rows = np.unique(np.concatenate([pool.tasks, remembered]), return_index=True)
    if len(tasks) < (LEAST if drawn is None else GROWTH * drawn.pool):
        return
    chosen = np.sort(np.random.default_rng(services.settings.seed).permutation(len(tasks))[:MOST])
    embeddings = [_embedding(pool, memory, row) for row in rows[chosen].tolist()]
    try:
        store.keep_sample(Sample(tasks[chosen], np.array(embeddings), len(tasks)))
    except OSError as error:
        event(logger, "map not drawn", level=logging.WARNING, project=project, reason=error)


def _embedding(pool: Embeddings, memory: Memory | None, row: int) -> NDArray[np.floating]:
    """Return one embedding: the rows of the pool come first, then those of the memory."""
    before = len(pool.tasks)
    found: NDArray[np.floating] = (
        pool.features[row] if memory is None or row < before else memory.embeddings[row - before]
    )
    return found


def draw(services: Services, project: int, drawing: subprocess.Popen[bytes] | None) -> subprocess.Popen[bytes] | None:
    """Start a process that lays out the waiting sample, unless one runs already; return the running one, if any."""
    store = services.pool_map(project)
    if drawing is not None:
        status = drawing.poll()
        if status is None:
            return drawing
        if status:
            event(logger, "map not drawn", level=logging.WARNING, project=project, reason=f"status {status}")
            store.forget_sample()
    if not store.waits():
        return None
    return subprocess.Popen(  # noqa: S603  the command is ours
        [sys.executable, "-m", "ml_backend.loop.lay_out", str(store.folder)],
        env=os.environ | ONE_THREAD,
        stdin=subprocess.DEVNULL,
    )
