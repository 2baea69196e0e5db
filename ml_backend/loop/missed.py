"""Jobs that are no longer in a queue, although no worker has begun them.

A worker takes a job out of its queue in one step and notes in later ones that the job has begun. If the worker dies in
between, RQ lists the job nowhere. Nobody would ever do it, and because it still counts as queued, no other job of its
name could be enqueued.
"""

from __future__ import annotations

import logging
import time

from rq.job import Job, JobStatus
from rq.queue import Queue

from ml_backend.logs import event
from ml_backend.services import Services

logger = logging.getLogger(__name__)
SECONDS = 60
"""A live worker needs much less time to begin a job that it has taken."""


def is_missing(queue: Queue, job: Job) -> bool:
    """Whether a queued job is neither in its queue nor with a worker; this is also true for a moment in between."""
    return (
        job.get_status() == JobStatus.QUEUED
        and job.get_position() is None
        and job.id not in queue.intermediate_queue.get_job_ids()
    )


def put_back(services: Services, name: str, job_id: str) -> None:
    """Put a job back into the queue ``name`` if it has been missing for so long that its worker must be dead.

    If the worker is alive after all, the job is done twice, which harms no job.
    """
    queue = services.queue(name)
    job = queue.fetch_job(job_id)
    key = f"tsal:missed:{job_id}"
    if job is None or not is_missing(queue, job):
        return
    first = services.redis.set(key, time.time(), nx=True, get=True, ex=60 * SECONDS)
    if first is not None and time.time() - float(first) >= SECONDS:
        queue.push_job_id(job_id)
        services.redis.delete(key)
        event(logger, "job put back", level=logging.WARNING, job=job_id, reason="the worker that took it has died")
