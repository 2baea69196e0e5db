"""The RQ worker: runs fine-tunes and its share of a pool's scoring in the background."""

from __future__ import annotations

import os

from rq import Worker
from rq.serializers import JSONSerializer

from ml_backend.loop import asked, confirm, jobs
from ml_backend.loop import score as scoring
from ml_backend.loop.slow import import_slow
from ml_backend.services import Services

NICENESS = 10
# RQ counts a job as lost a minute after its worker missed a sign of life; an idle worker finds it when it looks for
# such jobs. With RQ's own intervals the loop would wait ten minutes.
SIGN_SECONDS = 5
LOST_SECONDS = 15


def work(*, burst: bool = False, scoring_only: bool = False) -> None:
    """Work until stopped, or with ``burst`` until the queues are empty; ``scoring_only``: run no fine-tunes."""
    # Annotators wait for the backend; nobody waits for a worker.
    os.nice(NICENESS)
    services = Services(jobs.settings_for_worker())
    confirm.unpark_after_changes(services)
    if services.settings.warm:  # each job is a fork of this process
        import_slow()
    names = [scoring.QUEUE] if scoring_only else [asked.QUEUE, jobs.QUEUE, scoring.QUEUE]
    worker = Worker(
        [services.queue(name) for name in names],
        connection=services.redis,
        serializer=JSONSerializer,
        maintenance_interval=LOST_SECONDS,
        job_monitoring_interval=SIGN_SECONDS,
        # A job that the system kills for its memory cannot count itself as failed.
        work_horse_killed_handler=lambda job, *_: jobs.killed(services, job),
        worker_ttl=LOST_SECONDS + 15,  # RQ waits for a job 15 s less than this before it looks
    )
    worker.work(burst=burst, with_scheduler=True, logging_level="WARNING")
