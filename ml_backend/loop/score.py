"""Scoring a whole pool, with the help of any number of RQ workers that share the cache of activations.

A worker does the costly part, the trunk, and leaves the activations in the cache and the embeddings with the project.
This process takes the frames in their order and the workers begin at the end, so they meet: what no worker has begun is
done here, and so is what a worker fails to do. Whole pieces of `CHUNK` frames are shared out, so the network sees the
same batches, and the result is the same, however many workers there are.
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

from ml_backend.frames.activations import CHUNK, Kept, Vector
from ml_backend.frames.embedded import Embedder
from ml_backend.frames.frame import Frame
from ml_backend.frames.scores import Scores, concatenate
from ml_backend.logs import event
from ml_backend.loop.missed import SECONDS as MISSED_SECONDS
from ml_backend.loop.missed import is_missing
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


def score(
    services: Services, project: int, frames: Sequence[Frame], manifest: Manifest, report: Report
) -> tuple[Scores, Embeddings]:
    """What a version says of every frame, and their embeddings, in the order of the frames.

    Both without activations where the version has been asked before.
    """
    label_count = len(manifest.label_names)
    embedder, told = _embedder(services, project), services.probabilities(project, manifest)

    def kept(digests: Sequence[bytes]) -> dict[bytes, Vector]:
        known = [digest for digest, there in zip(digests, told.has(digests), strict=True) if there]
        return embedder.kept(known)

    def scored(part: Sequence[Frame]) -> Iterator[tuple[Scores, Embeddings]]:
        for chunk in services.predictor.activations(part, label_count, check=True, kept=kept):
            yield told.scores(chunk), Embeddings(chunk.tasks, embedder.of(chunk), chunk.unreadable)

    pieces = _in_parts(services, project, frames, label_count, report, scored, kept)
    return concatenate([scores for scores, _ in pieces], label_count), _joined([one for _, one in pieces])


def embed(services: Services, project: int, frames: Sequence[Frame], label_count: int, report: Report) -> Embeddings:
    """The embedding of every frame, in the order of the frames, without activations where it is in the store."""
    embedder = _embedder(services, project)

    def embedded(part: Sequence[Frame]) -> Iterator[Embeddings]:
        for chunk in services.predictor.activations(part, label_count, check=True, kept=embedder.kept):
            yield Embeddings(chunk.tasks, embedder.of(chunk), chunk.unreadable)

    return _joined(_in_parts(services, project, frames, label_count, report, embedded, embedder.kept))


def fill_cache(project: int, rows: list[tuple[int, str]], label_count: int, views: int = 1) -> None:
    """The RQ job: keep the activations and embeddings of frames, ``rows`` of task and address; twice does no harm.

    With ``views`` above 1, the activations of the augmented views are kept too; training draws from them.
    """
    services = Services(load())
    embedder = _embedder(services, project)
    for chunk in services.predictor.activations([Frame(task, url) for task, url in rows], label_count, views):
        embedder.of(chunk)
    services.count()


def _embedder(services: Services, project: int) -> Embedder:
    return Embedder(services.predictor.trunk, services.embeddings(project))


def _joined(pieces: Sequence[Embeddings]) -> Embeddings:
    empty = Embeddings(np.zeros(0, np.int64), np.zeros((0, WIDTH), np.float16), {})
    return Embeddings(
        np.concatenate([piece.tasks for piece in (empty, *pieces)]),
        np.concatenate([piece.features for piece in (empty, *pieces)]),
        {task: reason for piece in pieces for task, reason in piece.unreadable.items()},
    )


def _in_parts(
    services: Services,
    project: int,
    frames: Sequence[Frame],
    label_count: int,
    report: Report,
    work: Callable[[Sequence[Frame]], Iterator[Piece]],
    kept: Kept | None = None,
) -> list[Piece]:
    """Do ``work``, which yields a piece for each `CHUNK` of frames, and let workers fill the cache ahead of it.

    ``kept`` embeddings spare the work.
    """
    parts = [frames[start : start + PART] for start in range(0, len(frames), PART)]
    jobs = _shared_out(services, project, parts, label_count, kept)
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


def _shared_out(
    services: Services, project: int, parts: Sequence[Sequence[Frame]], label_count: int, kept: Kept | None
) -> dict[int, Job]:
    """Enqueue what is not there of each part but the first, the last part first; returns the jobs by part."""
    queue = services.queue(QUEUE) if services.settings.scoring_workers > 1 and len(parts) > 1 else None
    if queue is None or Worker.count(queue=queue) == 0:
        return {}
    jobs = {}
    for number in range(len(parts) - 1, 0, -1):
        pieces = [parts[number][start : start + CHUNK] for start in range(0, len(parts[number]), CHUNK)]
        missing = [piece for piece in pieces if not services.predictor.has(piece, kept)]
        if missing:
            jobs[number] = queue.enqueue_call(
                fill_cache,
                args=(project, [(frame.task, frame.url) for piece in missing for frame in piece], label_count),
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
    missing_since = float("inf")
    with suppress(InvalidJobOperation):  # it was over so long ago that Redis has forgotten it
        while (status := job.get_status()) in (JobStatus.QUEUED, JobStatus.STARTED) and time.monotonic() < deadline:
            if _take_back(services, job):
                return
            time.sleep(LOOK_SECONDS)
            # What a dead worker had begun, or was about to begin, goes back into the queue after a minute.
            queue.started_job_registry.cleanup()
            queue.intermediate_queue.cleanup(cleaner, queue)
            missing_since = min(missing_since, time.monotonic()) if is_missing(queue, job) else float("inf")
            if time.monotonic() - missing_since >= MISSED_SECONDS:
                break
        if status != JobStatus.FINISHED:
            event(logger, "part scored here", level=logging.WARNING, project=project, job=job.id, status=status.value)


def _take_back(services: Services, job: Job) -> bool:
    """Take a job out of the queue; False where a worker has begun it."""
    taken = bool(services.queue(QUEUE).remove(job))
    if taken:
        job.cleanup(ttl=1)  # `Job.delete` fails where a dead worker's execution has expired
    return taken
