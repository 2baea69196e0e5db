"""Read many files at once: decode them, drop near-duplicates, and keep the pictures that are left."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction

from PIL import Image

from ml_backend.errors import FrameUnreadable
from ml_backend.ingest.apart import FramesApart, Limits
from ml_backend.ingest.cut import WHOLE, Cut
from ml_backend.ingest.paths import ClipFile

_AHEAD = 2  # files in work or waiting to be taken, for each core


@dataclass(frozen=True)
class Kept:
    """A frame that is no near-duplicate: the name of its picture, its place in the file, and its time in seconds.

    ``number`` counts the sampled frames of the file from 1, ``frame`` all of its frames from 0.
    """

    name: str
    number: int
    frame: int
    time: float


@dataclass(frozen=True)
class Read:
    """What one file gave: how many frames were sampled, which were kept, and why it could not be read to its end."""

    file: ClipFile
    sampled: int
    kept: tuple[Kept, ...]
    fault: FrameUnreadable | None


def read_all(
    files: Iterable[ClipFile],
    every: Fraction,
    distance: int,
    keep: Callable[[Image.Image], str],
    cut: Cut = WHOLE,
    limits: Limits | None = None,
) -> Iterator[Read]:
    """Read files on all cores and yield what they gave, in their order.

    ``keep`` stores a picture and returns its name; it is called from several threads. What it raises ends the reading.
    See `frames_of` for ``every`` and ``cut``, `distinct` for ``distance``, and `Limits` for what one file may take.
    """
    cores = len(os.sched_getaffinity(0))
    stopped = threading.Event()
    pool = ThreadPoolExecutor(cores, thread_name_prefix="import")

    def read(file: ClipFile) -> Read:
        return _read(file, FramesApart(file.path, every, cut, distance, limits), keep, stopped)

    try:
        waiting: deque[Future[Read]] = deque()
        for file in files:
            waiting.append(pool.submit(read, file))
            if len(waiting) == cores * _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        stopped.set()  # or an interruption would wait until the clips in work are read to their ends
        pool.shutdown(cancel_futures=True)


def _read(file: ClipFile, frames: FramesApart, keep: Callable[[Image.Image], str], stopped: threading.Event) -> Read:
    kept: list[Kept] = []
    fault = None
    try:
        for frame in frames:
            if stopped.is_set():  # nobody takes the result
                break
            kept.append(Kept(keep(frame.picture), frames.sampled, frame.frame, frame.time))
    except FrameUnreadable as error:
        fault = error
    return Read(file, frames.sampled, tuple(kept), fault)
