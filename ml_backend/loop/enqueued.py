"""Jobs in RQ: find one by its ID, and remove one that is over."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta, timezone

from redis.client import Pipeline
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from ml_backend.services import Services

ENDED = (JobStatus.FINISHED, JobStatus.FAILED, JobStatus.CANCELED, JobStatus.STOPPED)
RETRY_SECONDS = [10, 60, 300]
"""How long a fine-tune that failed waits for each of its next tries."""
_CLOCKS_DIFFER = timedelta(seconds=60)  # between two machines, at most
_LONGEST_WAIT = timedelta(seconds=max(RETRY_SECONDS)) + _CLOCKS_DIFFER


def fetch(services: Services, job_id: str) -> Job | None:
    """A job by its ID, None where there is none."""
    with suppress(NoSuchJobError):
        return Job.fetch(job_id, connection=services.redis, serializer=JSONSerializer)
    return None


def clear_ended(services: Services, job_id: str) -> None:
    """Remove a job that is over, so that its ID is free again; one enqueued in the meantime stays."""

    def clear(pipeline: Pipeline) -> None:
        with suppress(NoSuchJobError, InvalidJobOperation):  # gone already, or removed at this moment
            job = Job.fetch(job_id, connection=services.redis, serializer=JSONSerializer)
            over = job.get_status(refresh=False) in ENDED or _is_of_0_1_0(job) or _is_of_the_future(services, job)
            pipeline.multi()
            if over:
                job.delete(pipeline=pipeline)

    services.redis.transaction(clear, Job.key_for(job_id))


def _is_of_0_1_0(job: Job) -> bool:
    """Whether release 0.1.0 enqueued a job: its function has moved since, so each try would fail."""
    return bool(job.func_name.startswith("ml_backend.jobs."))


def _is_of_the_future(services: Services, job: Job) -> bool:
    """Whether the clock was set back since a job was planned or last gave a sign of life.

    RQ would wait for the clock to catch up. A live worker gives a sign every few seconds, by the present clock.
    """
    now = datetime.now(timezone.utc)
    if job.get_status(refresh=False) == JobStatus.SCHEDULED:
        with suppress(NoSuchJobError):
            return bool(services.queue(job.origin).scheduled_job_registry.get_scheduled_time(job) > now + _LONGEST_WAIT)
    if job.get_status(refresh=False) == JobStatus.STARTED and job.last_heartbeat is not None:
        return bool(job.last_heartbeat > now + _CLOCKS_DIFFER)
    return False
