"""Refreshes of a process that holds no network, beside a real Label Studio."""

from __future__ import annotations

import pytest

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
