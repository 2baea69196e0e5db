"""A project that brings annotations along is learnt from at once: real Label Studio, real Redis, a real fine-tune."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from rq import SimpleWorker
from rq.serializers import JSONSerializer

from ml_backend.errors import BackendUnavailable
from ml_backend.loop import jobs
from ml_backend.services import Services
from ml_backend.settings import Settings
from ml_backend.setup.address import start_training
from ml_backend.setup.label_configuration import render
from ml_backend.store.parked import Parked
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.payloads import choices_result
from tests.installation import NO_ANSWER, environment_of
from tests.setup.test_connect import said, served
from tests.setup.test_connect import settings as connected
from tests.studio_server import StudioServer

__all__ = ["connected"]
COUNT = 12
COMBINATIONS = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0]], np.uint8)
CONFIGURATION = Configuration.parse(render())
TOLD = "first fine-tune"


@pytest.fixture
def settings(connected: Settings, redis_url: str) -> Settings:
    quick = {"redis_url": redis_url, "k_max": 8, "epochs": 1, "minimum_steps": 2, "views": 1, "evidence": False}
    return connected.model_copy(update=quick)


@pytest.fixture
def services(settings: Settings) -> Iterator[Services]:
    with served(settings):
        yield Services(settings)


@pytest.fixture
def api(studio_server: StudioServer) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Token {studio_server.token}"}
    with httpx.Client(base_url=studio_server.url, headers=headers, timeout=60) as client:
        yield client


@pytest.fixture
def project(services: Services) -> int:
    return services.studio.create_project("Older", render())


def frame(server: StudioServer, number: int) -> dict[str, Any]:
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels.repeat(8, axis=0).repeat(8, axis=1)).save(server.files / f"older-{number}.png")
    return {"image": f"/data/local-files/?d=older-{number}.png", "patient": f"P{number % 4}"}


def answer(number: int) -> list[dict[str, Any]]:
    return [choices_result(COMBINATIONS[number % len(COMBINATIONS)], CONFIGURATION)]


def brought(services: Services, api: httpx.Client, server: StudioServer, project: int) -> tuple[set[int], set[int]]:
    """Give the project annotations of every kind, as it would have them before anybody connects it.

    Returns the tasks that are to be learnt from, and all that have an annotation.
    """
    colleague = api.post("/api/users/", json={"email": f"colleague-{project}@example.com", "username": f"c{project}"})
    by = colleague.raise_for_status().json()["id"]
    studio = services.studio
    tasks = studio.import_tasks(project, [frame(server, number) for number in range(COUNT)])
    for number, task in enumerate(tasks[:6]):
        studio.submit(task, answer(number))
    # By another person, and as the ground truth.
    imported = [
        {"data": frame(server, 100 + number), "annotations": [{"result": answer(number), **about}]}
        for number, about in enumerate(({"completed_by": by}, {"ground_truth": True}, {"completed_by": by}))
    ]
    known = set(tasks)
    api.post(f"/api/projects/{project}/import", json=imported).raise_for_status()
    others = {task.id for task in studio.tasks(project)} - known
    assert len(others) == 3
    # Twice, skipped, of other labels, not assessable, and accepted unseen.
    studio.submit(tasks[0], answer(1))
    studio.skip(tasks[6])
    other = {**answer(0)[0], "value": {"choices": ["Consolidation"]}}
    studio.submit(tasks[7], [other])
    studio.submit(tasks[8], [NO_ANSWER])
    studio.import_predictions(project, [{"task": tasks[9], "model_version": "old", "score": 0.5, "result": answer(0)}])
    selected = {"all": False, "included": [tasks[9]]}
    copied = api.post(
        "/api/dm/actions/",
        params={"id": "predictions_to_annotations", "project": project},
        json={"selectedItems": selected, "model_version": "old"},
    )
    copied.raise_for_status()
    return {*tasks[:6], *others}, {*tasks[:6], *tasks[7:10], *others}


def test_annotations_of_every_kind_are_counted_and_learnt_from_at_once(
    services: Services,
    settings: Settings,
    api: httpx.Client,
    studio_server: StudioServer,
    project: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taught, annotated = brought(services, api, studio_server, project)
    before = said(services, project, dry_run=True)
    assert any(
        line.startswith("ok ") and f"{len(annotated)} frames" in line and f"{len(taught)} of" in line for line in before
    )
    left_out = [line for line in before if "not learnt from" in line]
    assert len(left_out) == 3
    assert all(": 1 " in line for line in left_out)
    assert [line.split()[0] for line in before if TOLD in line] == ["would"]
    assert services.projects() == []
    assert jobs.queue(services).job_ids == []

    lines = said(services, project)
    assert [line.split()[0] for line in lines if TOLD in line] == ["change"]
    assert jobs.queue(services).job_ids == [f"finetune-{project}-after-nothing"]
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    SimpleWorker([jobs.queue(services)], connection=services.redis, serializer=JSONSerializer).work(burst=True)
    newest = services.versions(project).newest()
    assert newest is not None
    assert {one.task for one in newest.seen} == taught
    assert newest.trigger == "request"

    again = said(services, project)
    assert [line for line in again if TOLD in line or line.startswith("change")] == []
    assert any(newest.version in line and f"{len(taught)} of" in line for line in again)


def test_too_few_and_those_that_are_all_alike_wait(
    services: Services, studio_server: StudioServer, project: int
) -> None:
    tasks = services.studio.import_tasks(project, [frame(studio_server, number) for number in range(9)])
    for task in tasks[:7]:
        services.studio.submit(task, answer(0))
    assert any("7 of them" in line and "1 more" in line for line in said(services, project, dry_run=True))
    services.studio.submit(tasks[7], answer(0))
    assert not [line for line in said(services, project) if TOLD in line]
    assert jobs.queue(services).job_ids == []
    services.studio.submit(tasks[8], answer(1))
    assert [line for line in said(services, project) if TOLD in line]
    assert len(jobs.queue(services).job_ids) == 1
    # The request is there already; asking again makes no second job.
    said(services, project)
    assert len(jobs.queue(services).job_ids) == 1


def test_a_parked_fine_tune_stays_parked(services: Services, studio_server: StudioServer, project: int) -> None:
    tasks = services.studio.import_tasks(project, [frame(studio_server, number) for number in range(8)])
    for number, task in enumerate(tasks):
        services.studio.submit(task, answer(number))
    parked = Parked(parent=None, active=None, reason="no good", at="2026-01-01T00:00", tried={}, settings="")
    services.parked(project).put(parked)
    lines = said(services, project)
    assert not [line for line in lines if TOLD in line]
    assert any("no good" in line for line in lines)


def test_a_backend_that_does_not_take_the_request_is_named(connected: Settings) -> None:
    with pytest.raises(BackendUnavailable, match=str(connected.port)):
        start_training(connected, 1)
    with served(connected), pytest.raises(BackendUnavailable, match="503"):  # it has no Redis
        start_training(connected, 1)
