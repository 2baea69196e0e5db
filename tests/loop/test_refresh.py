"""Refreshes of a process that holds no network, beside a real Label Studio."""

from __future__ import annotations

import logging
import threading

import pytest

from ml_backend.errors import StudioUnavailable
from ml_backend.launch import serve
from ml_backend.loop import jobs
from ml_backend.loop import order as ordering
from ml_backend.loop import refresh as refreshing
from ml_backend.loop.refresh import refresh_if_needed
from ml_backend.services import Services
from ml_backend.settings import Settings
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.payloads import choices_result
from tests.commands.test_sidecar import FRAMES, empty, order, project, services, settings, trained
from tests.events import events

__all__ = ["empty", "project", "services", "settings", "trained"]


@pytest.fixture
def without(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Services:
    """Services of a process that holds no network; the processes that it starts have the same settings."""
    changed = settings.model_copy(update={"refresh": 2})
    for name, value in serve.environment(changed).items():
        monkeypatch.setenv(name, value)
    return Services(changed, computes=False)


@pytest.fixture
def nothing_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where another process would compute."""

    def refuse(*_: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(refreshing, "call_aside", refuse)


def test_new_frames_are_scored_in_a_process_of_their_own(without: Services, project: int) -> None:
    refresh_if_needed(without, project, look_for_frames=True, look_for_changes=False)
    assert len(order(without, project).tasks) == FRAMES
    assert not without.predictor._networks


def test_what_is_remembered_needs_no_network(without: Services, project: int, request: pytest.FixtureRequest) -> None:
    refresh_if_needed(without, project, look_for_frames=True, look_for_changes=False)
    first = order(without, project)
    configuration = Configuration.parse(without.studio.project(project).label_config)
    for task in first.tasks[:2].tolist():
        labels = configuration.label_set.encode(["B-line"])
        without.studio.submit(task, [choices_result(labels, configuration)], lead_time=2.0)
    jobs.reconcile(without, project)
    request.getfixturevalue("nothing_aside")
    refresh_if_needed(without, project, look_for_frames=True, look_for_changes=True)
    second = order(without, project)
    assert second.about.name != first.about.name
    assert len(second.tasks) == FRAMES - 2
    assert second.told is not None
    assert len(second.told.remembered) == 2


def test_a_new_version_is_asked_in_a_process_of_its_own_before_anything_is_listed(
    without: Services, trained: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("this process began to refresh")

    monkeypatch.setattr(ordering, "refresh_if_needed", refuse)
    version = without.versions(trained).active()
    assert version is not None
    assert not without.has_scored(trained, version)
    refresh_if_needed(without, trained, look_for_frames=True, look_for_changes=True)
    assert order(without, trained).about.version == version
    assert without.has_scored(trained, version)


def confirm(services: Services, project: int, count: int) -> None:
    """Answer the first frames of the queue, with two different labels."""
    configuration = Configuration.parse(services.studio.project(project).label_config)
    for place, task in enumerate(order(services, project).tasks[:count].tolist()):
        labels = configuration.label_set.encode(["B-line" if place % 2 else "A-line"])
        services.studio.submit(task, [choices_result(labels, configuration)], lead_time=2.0)


@pytest.mark.usefixtures("nothing_aside")
def test_a_worker_at_work_on_the_same_queue_is_waited_for(without: Services, services: Services, trained: int) -> None:
    begun = threading.Event()

    def refresh() -> None:
        with services.orders(trained).alone():
            begun.set()
            ordering._refreshed(services, trained, lambda *_: None)

    worker = threading.Thread(target=refresh)
    worker.start()
    assert begun.wait(30)
    refresh_if_needed(without, trained, look_for_frames=True, look_for_changes=True)
    assert order(without, trained).about.version == without.versions(trained).active()
    worker.join()
    assert without.studio.project(trained).model_version == order(without, trained).about.name


def test_what_a_worker_that_died_left_undone_is_done(without: Services, services: Services, trained: int) -> None:
    begun, died = threading.Event(), threading.Event()

    def hold() -> None:
        with services.orders(trained).alone():
            begun.set()
            died.wait(2)

    worker = threading.Thread(target=hold)
    worker.start()
    assert begun.wait(30)
    refresh_if_needed(without, trained, look_for_frames=True, look_for_changes=True)
    worker.join()
    assert order(without, trained).about.version == without.versions(trained).active()


def test_a_fine_tune_puts_the_queue_in_order_itself(without: Services, services: Services, project: int) -> None:
    refresh_if_needed(without, project, look_for_frames=True, look_for_changes=False)
    confirm(services, project, 4)
    jobs.reconcile(services, project)
    ended = jobs.fine_tune(project, None)
    assert ended["outcome"] == "trained"
    assert order(services, project).about.version == ended["version"]
    assert ordering.needs_refresh(services, project, look_for_frames=True, look_for_changes=True) is None
    assert services.pending(project).count() == 0


def test_a_refresh_that_fails_in_the_worker_is_left_to_the_sidecar(
    without: Services,
    services: Services,
    project: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    refresh_if_needed(without, project, look_for_frames=True, look_for_changes=False)
    confirm(services, project, 4)
    jobs.reconcile(services, project)

    def fail(*_: object) -> None:
        raise StudioUnavailable("Label Studio does not answer")

    with monkeypatch.context() as broken, caplog.at_level(logging.WARNING):
        broken.setattr(jobs, "refresh_here", fail)
        ended = jobs.fine_tune(project, None)
    assert ended["outcome"] == "trained"
    assert len(events(caplog, "refresh left to the sidecar")) == 1
    assert ordering.needs_refresh(services, project, look_for_frames=False) == "another version is active"
    refresh_if_needed(without, project, look_for_frames=False, look_for_changes=False)
    assert order(services, project).about.version == ended["version"]


def test_newly_confirmed_frames_alone_are_a_reason_only_where_they_are_to_be_remembered_now(
    without: Services, services: Services, project: int
) -> None:
    refresh_if_needed(without, project, look_for_frames=True, look_for_changes=False)
    confirm(services, project, 2)
    jobs.reconcile(services, project)
    assert ordering.needs_refresh(without, project, False) == "2 newly confirmed frames to remember"
    assert ordering.needs_refresh(without, project, False, remember_now=False) is None
