"""Keep a map of the pool: sample it when it has grown, and have the sample laid out in the background."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import numpy as np

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
    tasks, embeddings = pool.tasks, pool.features
    if memory is not None and memory.frames:
        tasks = np.concatenate([tasks, [frame.task for frame in memory.frames]])
        embeddings = np.concatenate([embeddings, memory.embeddings])
    tasks, rows = np.unique(tasks, return_index=True)
    drawn = store.read()
    if len(tasks) < (LEAST if drawn is None else GROWTH * drawn.pool):
        return
    chosen = np.sort(np.random.default_rng(services.settings.seed).permutation(len(tasks))[:MOST])
    try:
        store.keep_sample(Sample(tasks[chosen], embeddings[rows[chosen]], len(tasks)))
    except OSError as error:
        event(logger, "map not drawn", level=logging.WARNING, project=project, reason=error)


def draw(services: Services, project: int, drawing: subprocess.Popen[bytes] | None) -> subprocess.Popen[bytes] | None:
    """Have the sample that waits laid out, by one process at a time; return the process while it runs."""
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
