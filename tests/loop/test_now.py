"""The current work and the problems that the lead's page reports."""

from __future__ import annotations

from pathlib import Path

import pytest
from rq.job import JobStatus

from ml_backend.loop import enqueued, jobs
from ml_backend.loop.now import Now, now
from ml_backend.services import Services
from ml_backend.store import heartbeat
from ml_backend.store.doing import Doing, Step
from ml_backend.store.parked import Parked
from tests.installation import PROJECT, manifest_of, settings_in, write_no_weights

WELL = {"label_studio": "UP", "disk": "UP", "model": "UP"}


@pytest.fixture
def services(tmp_path: Path, redis_url: str) -> Services:
    services = Services(settings_in(tmp_path, redis_url))
    services.folder(PROJECT).mkdir(parents=True)
    heartbeat.beat(lambda: services.redis, heartbeat.SIDECAR)
    return services


def said(found: Now) -> str:
    return " | ".join(f"{one.what} {one.remedy}" for one in found.troubles)


def test_where_all_is_well_nothing_is_said(services: Services) -> None:
    assert now(services, PROJECT, WELL) == Now((), (), 0)


def test_a_fine_tune_waits_and_then_says_how_far_it_is(services: Services) -> None:
    job_id = jobs.enqueue(services, PROJECT, "poll", "a test")
    assert job_id is not None
    (work,) = now(services, PROJECT, WELL).works
    assert (work.what, work.share) == ("Fine-tune", None)
    job = enqueued.fetch(services, job_id)
    assert job is not None
    job.set_status(JobStatus.STARTED)
    job.meta.update(stage="training", done=4, total=10)
    job.save_meta()
    (work,) = now(services, PROJECT, WELL).works
    assert (work.detail, work.share) == ("training", 0.4)
    job.set_status(JobStatus.FINISHED)
    assert now(services, PROJECT, WELL).works == ()


def test_a_refresh_is_seen_while_it_lasts(services: Services) -> None:
    doing = Doing(lambda: services.redis, PROJECT)
    doing.note("scoring", 30, 120)
    doing.note("scoring", 31, 120)  # too soon after the last update, so dropped
    assert [work.share for work in now(services, PROJECT, WELL).works] == [0.25]
    doing.note("sending", 0, 0)
    assert doing.step() == Step("sending", 0, 0)
    assert [work.share for work in now(services, PROJECT, WELL).works] == [None]
    doing.end()
    assert now(services, PROJECT, WELL).works == ()


def test_what_is_wrong_is_named_with_a_remedy(services: Services) -> None:
    services.redis.delete(f"tsal:alive:{heartbeat.SIDECAR}")
    services.doing(PROJECT).note_trouble("StudioUnavailable: gone")
    store = services.versions(PROJECT)
    held = store.create(manifest_of(held_back="a fall of 0.2"), write_no_weights).version
    services.parked(PROJECT).put(
        Parked(parent=held, active=None, reason="too few", at="then", tried={}, configuration="", settings="")
    )
    ill = {"label_studio": "DOWN", "disk": "FULL", "model": "CANNOT BE BUILT (no weights)"}
    found = now(services, PROJECT, ill)
    assert len(found.troubles) == 7
    assert all(one.remedy for one in found.troubles)
    for part in ("sidecar", "gone", "DOWN", "FULL", "no weights", "too few", "a fall of 0.2"):
        assert part in said(found)
    services.doing(PROJECT).note_trouble(None)
    assert "gone" not in said(now(services, PROJECT, WELL))


def test_a_version_that_was_held_back_and_made_active_all_the_same_is_no_trouble(services: Services) -> None:
    store = services.versions(PROJECT)
    store.activate(store.create(manifest_of(held_back="worse"), write_no_weights).version, by="a test")
    assert now(services, PROJECT, WELL).troubles == ()


def test_without_redis_the_rest_is_said(tmp_path: Path) -> None:
    services = Services(settings_in(tmp_path, "redis://127.0.0.1:1/0"))
    found = now(services, PROJECT, {"disk": "FULL"})
    assert (found.works, found.pending, len(found.troubles)) == ((), None, 2)


def test_a_damaged_newest_version_is_named_and_hides_nothing_else(services: Services) -> None:
    one = services.versions(PROJECT).create(manifest_of(), write_no_weights)
    (services.folder(PROJECT) / "versions" / one.version / "manifest.json").write_text("{")
    found = now(services, PROJECT, WELL | {"disk": "FULL"})
    assert one.version in said(found)
    assert "FULL" in said(found)
