"""Run an RQ worker that fine-tunes, and scores its part of a pool, in the background."""

from __future__ import annotations

import argparse
import os

from rq import Worker
from rq.serializers import JSONSerializer

from ml_backend import jobs, scoring
from ml_backend.logs import configure
from ml_backend.services import Services
from scripts.command import run

NICENESS = 10
# How often an idle worker looks for jobs whose worker was killed; RQ's own seven minutes would hold the loop up.
LOST_SECONDS = 60


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
    names = [scoring.QUEUE] if options.scoring_only else [jobs.QUEUE, scoring.QUEUE]
    queues = [services.queue(name) for name in names]
    worker = Worker(
        queues,
        connection=services.redis,
        serializer=JSONSerializer,
        maintenance_interval=LOST_SECONDS,
        worker_ttl=LOST_SECONDS,
    )
    worker.work(burst=options.burst, with_scheduler=True, logging_level="WARNING")
    return 0


if __name__ == "__main__":
    run(main)
