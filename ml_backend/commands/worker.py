"""Run an RQ worker that fine-tunes, and scores its part of a pool, in the background."""

from __future__ import annotations

import argparse
import os

from rq import Worker
from rq.serializers import JSONSerializer

from ml_backend.logs import configure
from ml_backend.loop import confirm, jobs
from ml_backend.loop import score as scoring
from ml_backend.services import Services

NICENESS = 10
# RQ takes a job for lost a minute after its worker should have given a sign of life; an idle worker finds it when it
# looks for such jobs. RQ's own intervals would hold the loop up for ten minutes.
SIGN_SECONDS = 5
LOST_SECONDS = 15


def main(arguments: list[str] | None = None) -> int:
    """Work until stopped; several workers on several machines may share one Redis and one data folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--burst", action="store_true", help="end when the queues are empty")
    parser.add_argument("--scoring-only", action="store_true", help="leave fine-tunes to other workers")
    options = parser.parse_args(arguments)
    configure()
    # Annotators wait for the backend, nobody waits for a worker.
    os.nice(NICENESS)
    services = Services(jobs.settings_for_worker())
    confirm.unpark_after_changes(services)
    names = [scoring.QUEUE] if options.scoring_only else [jobs.QUEUE, scoring.QUEUE]
    queues = [services.queue(name) for name in names]
    worker = Worker(
        queues,
        connection=services.redis,
        serializer=JSONSerializer,
        maintenance_interval=LOST_SECONDS,
        job_monitoring_interval=SIGN_SECONDS,
        # Where the system kills it for its memory, the job cannot count itself.
        work_horse_killed_handler=lambda job, *_: jobs.killed(services, job),
        worker_ttl=LOST_SECONDS + 15,  # RQ waits for a job 15 s less than this before it looks
    )
    worker.work(burst=options.burst, with_scheduler=True, logging_level="WARNING")
    return 0
