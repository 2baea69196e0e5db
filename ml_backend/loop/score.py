"""Scoring a whole pool, with the help of any number of RQ workers that share the cache of activations.

A worker does the dear part, the trunk, and leaves the activations in the cache. This process takes the frames in their
order and the workers begin at the end, so they meet: what no worker has begun is done here, and so is what a worker
fails to do. Whole pieces of `CHUNK` frames are shared out, so the network sees the same batches, and the result is the
same, however many workers there are.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from rq import Retry, Worker
from rq.exceptions import InvalidJobOperation
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from ml_backend.frames.activations import CHUNK
from ml_backend.frames.frame import Frame
from ml_backend.frames.scores import Scores, concatenate
from ml_backend.logs import event
from ml_backend.msml.sketch import WIDTH
from ml_backend.services import Services
from ml_backend.settings import load
from ml_backend.store.versions import Manifest

logger = logging.getLogger(__name__)
QUEUE = "tsal-scoring"
PART = 4 * CHUNK  # frames of a job: much more work than to start it, little enough to wait for the last one
LOOK_SECONDS = 0.2
Report = Callable[[str, int, int], None]
Piece = TypeVar("Piece")


@dataclass(frozen=True)
class Embeddings:
    """Sketches of the trunk's map: ``tasks`` (m,) int64, ``features`` (m, d) float16, ``unreadable`` {task: reason}."""

    tasks: NDArray[np.int64]
    features: NDArray[np.float16]
    unreadable: dict[int, str]


def score(services: Services, project: int, frames: Sequence[Frame], manifest: Manifest, report: Report) -> Scores:
    """What a version says of every frame, in the order of the frames."""
    label_count, versions = len(manifest.label_names), services.versions(project)

    def scored(part: Sequence[Frame]) -> Iterator[Scores]:
        return services.predictor.scores(part, manifest, versions, check=True)

    return concatenate(_in_parts(services, project, frames, label_count, report, scored), label_count)


def embed(services: Services, project: int, frames: Sequence[Frame], label_count: int, report: Report) -> Embeddings:
    """Pre-trained features of every frame, in the order of the frames."""
    network = services.predictor.network(label_count)

    def embedded(part: Sequence[Frame]) -> Iterator[Embeddings]:
        for chunk in services.predictor.activations(part, label_count, check=True):
            yield Embeddings(chunk.tasks, network.embed(chunk.activations), chunk.unreadable)

    empty = Embeddings(np.zeros(0, np.int64), np.zeros((0, WIDTH), np.float16), {})
    pieces = [empty, *_in_parts(services, project, frames, label_count, report, embedded)]
    return Embeddings(
        np.concatenate([piece.tasks for piece in pieces]),
        np.concatenate([piece.features for piece in pieces]),
        {task: reason for piece in pieces for task, reason in piece.unreadable.items()},
    )


def fill_cache(rows: list[tuple[int, str]], label_count: int) -> None:
    """The RQ job: put the activations of frames, ``rows`` of task and address, into the cache; twice does no harm."""
    services = Services(load())
    for _ in services.predictor.activations([Frame(task, url) for task, url in rows], label_count):
        pass
    services.count()


def _in_parts(
    services: Services,
    project: int,
    frames: Sequence[Frame],
    label_count: int,
    report: Report,
    work: Callable[[Sequence[Frame]], Iterator[Piece]],
) -> list[Piece]:
    """Do ``work``, which yields a piece for each `CHUNK` of frames, and let workers fill the cache ahead of it."""
    parts = [frames[start : start + PART] for start in range(0, len(frames), PART)]
    jobs = _shared_out(services, project, parts, label_count)
    done: list[Piece] = []
    try:
        for number, part in enumerate(parts):
            if number in jobs:
                _wait(services, project, jobs.pop(number))
            for piece in work(part):
                done.append(piece)
                report("scoring", min(len(done) * CHUNK, len(frames)), len(frames))
    finally:
        for job in jobs.values():
            _take_back(services, job)
    return done


def _shared_out(services: Services, project: int, parts: Sequence[Sequence[Frame]], label_count: int) -> dict[int, Job]:
    """Enqueue what is not cached of each part but the first, the last part first; returns the jobs by part."""
    queue = services.queue(QUEUE) if services.settings.scoring_workers > 1 and len(parts) > 1 else None
    if queue is None or Worker.count(queue=queue) == 0:
        return {}
    jobs = {}
    for number in range(len(parts) - 1, 0, -1):
        pieces = [parts[number][start : start + CHUNK] for start in range(0, len(parts[number]), CHUNK)]
        missing = [piece for piece in pieces if not services.predictor.has(piece, label_count)]
        if missing:
            jobs[number] = queue.enqueue_call(
                fill_cache,
                args=([(frame.task, frame.url) for piece in missing for frame in piece], label_count),
                timeout=services.settings.job_timeout,
                result_ttl=60,
                failure_ttl=3600,
                retry=Retry(max=1),
                description=f"part {number + 1} of {len(parts)} of the pool of project {project}",
            )
    return jobs


def _wait(services: Services, project: int, job: Job) -> None:
    """Wait until a worker is done with a job, or take the job back if none has begun it."""
    deadline = time.monotonic() + services.settings.job_timeout
    queue = services.queue(QUEUE)
    cleaner = Worker([queue], connection=services.redis, serializer=JSONSerializer)
    with suppress(InvalidJobOperation):  # it was over so long ago that Redis has forgotten it
        while (status := job.get_status()) in (JobStatus.QUEUED, JobStatus.STARTED) and time.monotonic() < deadline:
            if _take_back(services, job):
                return
            time.sleep(LOOK_SECONDS)
            # What a dead worker had begun, or was about to begin, goes back into the queue after a minute.
            queue.started_job_registry.cleanup()
            queue.intermediate_queue.cleanup(cleaner, queue)
        if status != JobStatus.FINISHED:
            event(logger, "part scored here", level=logging.WARNING, project=project, job=job.id, status=status.value)


def _take_back(services: Services, job: Job) -> bool:
    """Take a job out of the queue; False where a worker has begun it."""
    taken = bool(services.queue(QUEUE).remove(job))
    if taken:
        job.cleanup(ttl=1)  # `Job.delete` fails where a dead worker's execution has expired
    return taken
