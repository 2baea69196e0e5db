"""A job that a worker took and died before it began it is done all the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from rq.job import JobStatus

from ml_backend.loop import asked, enqueued, jobs, missed, watch
from ml_backend.services import Services
from tests.installation import PROJECT, settings_in
from tests.studio_stand_in import StudioStandIn


@pytest.fixture
def services(tmp_path: Path, redis_url: str) -> Services:
    found = Services(settings_in(tmp_path, redis_url))
    found.studio = StudioStandIn()  # type: ignore[assignment]
    return found


def taken(services: Services, name: str) -> str:
    """Take a job out of its queue, as a worker does that dies at once; returns its ID."""
    popped = services.redis.lpop(services.queue(name).key)
    assert isinstance(popped, bytes)
    return popped.decode()


def minutes_later(services: Services) -> None:
    for key in services.redis.scan_iter("tsal:missed:*"):
        services.redis.set(key, 1, keepttl=True)


def test_a_fine_tune_that_died_with_its_worker_is_put_back(services: Services) -> None:
    job = jobs.enqueue(services, PROJECT, "poll", "a test")
    assert taken(services, jobs.QUEUE) == job
    assert jobs.enqueue(services, PROJECT, "poll", "a test") is None  # its name is taken: nobody else does it
    watch.look(services, PROJECT, watch.Watched())
    assert jobs.queue(services).job_ids == []  # perhaps its worker is about to begin
    minutes_later(services)
    watch.look(services, PROJECT, watch.Watched())
    assert jobs.queue(services).job_ids == [job]
    assert list(services.redis.scan_iter("tsal:missed:*")) == []


def test_a_request_of_the_lead_that_died_with_its_worker_is_put_back(services: Services) -> None:
    asked.ask(services, PROJECT, "give up", "a lead")
    job = taken(services, asked.QUEUE)
    missed.put_back(services, asked.QUEUE, job)
    minutes_later(services)
    missed.put_back(services, asked.QUEUE, job)
    assert services.queue(asked.QUEUE).job_ids == [job]


@pytest.mark.parametrize("status", [JobStatus.STARTED, JobStatus.FINISHED, JobStatus.SCHEDULED])
def test_a_job_that_a_worker_has_begun_is_not_missing(services: Services, status: JobStatus) -> None:
    name = jobs.enqueue(services, PROJECT, "poll", "a test")
    assert name is not None
    job = enqueued.fetch(services, name)
    assert job is not None
    assert not missed.is_missing(jobs.queue(services), job)  # it waits
    taken(services, jobs.QUEUE)
    assert missed.is_missing(jobs.queue(services), job)
    job.set_status(status)
    assert not missed.is_missing(jobs.queue(services), job)
