"""The lead's page of a large project, which a process of its own makes."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from ml_backend.loop import lead_page
from ml_backend.loop import overview as overviews
from ml_backend.loop.watch import Watched, look
from ml_backend.services import Services
from tests.installation import PROJECT
from tests.loop.test_order import TASKS, Installation, folder, installed, predictor, studio
from tests.loop.test_remember import A
from tests.studio_stand_in import one_thread

__all__ = ["folder", "installed", "one_thread", "predictor", "studio"]


@dataclass
class Process:
    """A process that ends when it is told to."""

    status: int | None = None

    def poll(self) -> int | None:
        return self.status


@dataclass
class Begun:
    """The processes that were started, instead of real ones."""

    processes: list[Process] = field(default_factory=list)

    def begin(self, project: int, ended: str | None) -> Process:
        self.processes.append(Process())
        return self.processes[-1]


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Begun:
    found = Begun()
    monkeypatch.setattr(lead_page, "LARGE", len(TASKS))
    monkeypatch.setattr(lead_page, "begin", found.begin)
    return found


@pytest.fixture
def watching(installed: Installation, redis_url: str) -> Services:
    return installed.services(strategy="cover", validator="memory", redis_url=redis_url, poll_seconds=1e-6)


def test_no_look_waits_for_the_page_and_there_is_one_at_a_time(
    watching: Services, installed: Installation, begun: Begun
) -> None:
    state = Watched()
    for task in TASKS[:2]:
        look(watching, PROJECT, state)
        installed.studio.confirm(task, A)
    assert len(begun.processes) == 1
    assert watching.overviews(PROJECT).read() is None


def test_an_ended_page_is_made_anew_only_after_its_rest(
    watching: Services, installed: Installation, begun: Begun, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = Watched()
    look(watching, PROJECT, state)
    made = overviews.write(watching, PROJECT, None)
    watching.overviews(PROJECT).write(made.model_copy(update={"seconds": 1000.0}))
    begun.processes[0].status = 0
    installed.studio.confirm(TASKS[0], A)
    look(watching, PROJECT, state)
    assert len(begun.processes) == 1
    state.overview_again = 0.0
    look(watching, PROJECT, state)
    assert len(begun.processes) == 2


def test_a_page_that_failed_is_made_again(watching: Services, begun: Begun) -> None:
    state = Watched()
    look(watching, PROJECT, state)
    begun.processes[0].status = 1
    look(watching, PROJECT, state)
    assert len(begun.processes) == 2


def test_the_page_of_a_smaller_project_is_there_at_once(
    watching: Services, begun: Begun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lead_page, "LARGE", len(TASKS) + 1)
    look(watching, PROJECT, Watched())
    assert begun.processes == []
    assert watching.overviews(PROJECT).read() is not None


def test_the_process_makes_the_page(watching: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    look(watching, PROJECT, Watched())
    (watching.folder(PROJECT) / "overview.json").unlink()
    monkeypatch.setattr(lead_page, "load", lambda: watching.settings)
    monkeypatch.setattr(lead_page, "Services", lambda settings, computes: watching)
    lead_page.main(PROJECT, "nothing is left")
    made = watching.overviews(PROJECT).read()
    assert made is not None
    assert made.ended == "nothing is left"
