"""Run an RQ worker that fine-tunes in the background."""

from __future__ import annotations

import argparse

from rq import Worker
from rq.serializers import JSONSerializer

from ml_backend import jobs
from ml_backend.logs import configure
from ml_backend.services import Services
from scripts.command import run


def main(arguments: list[str] | None = None) -> int:
    """Work until stopped; several workers on several machines may share one Redis and one data folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--burst", action="store_true", help="end when the queue is empty")
    options = parser.parse_args(arguments)
    configure()
    services = Services(jobs.settings_for_worker())
    worker = Worker([jobs.queue(services)], connection=services.redis, serializer=JSONSerializer)
    worker.work(burst=options.burst, with_scheduler=True, logging_level="WARNING")
    return 0


if __name__ == "__main__":
    run(main)
