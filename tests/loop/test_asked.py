"""Requests of a lead: a worker carries out each one once, and a refusal gives a reason."""

from __future__ import annotations

from typing import Any

import pytest
from rq import SimpleWorker
from rq.serializers import JSONSerializer

from ml_backend.errors import FinishStands
from ml_backend.loop import asked, jobs
from ml_backend.services import Services
from tests.installation import PROJECT
from tests.loop.test_order import TASKS, Installation, folder, installed, predictor, refreshed, studio
from tests.loop.test_remember import A
from tests.studio_stand_in import one_thread

__all__ = ["folder", "installed", "one_thread", "predictor", "studio"]


@pytest.fixture
def made(installed: Installation, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Services:
    """Return an installation whose worker is this process."""
    services = installed.services(strategy="cover", validator="memory", redis_url=redis_url)
    monkeypatch.setattr(asked, "load", lambda: services.settings)
    monkeypatch.setattr(asked, "Services", lambda settings: services)
    return services


def work(services: Services) -> None:
    """Carry out the requests, as a worker does."""
    queues = [services.queue(name) for name in (asked.QUEUE, jobs.QUEUE)]
    SimpleWorker(queues, connection=services.redis, serializer=JSONSerializer).work(burst=True)


def state(services: Services) -> tuple[str, bool]:
    found = asked.last(services, PROJECT)
    assert found is not None
    return found.state, bool(found.reason)


def test_a_version_is_made_active_and_back(installed: Installation, made: Services) -> None:
    first, second = installed.version(1).version, installed.version(2).version
    store = made.versions(PROJECT)
    news = made.pending(PROJECT).news()
    asked.ask(made, PROJECT, "activate", "Ada", version=first, expected=second)
    assert state(made) == ("waiting", False)
    work(made)
    assert (store.active(), state(made)) == (first, ("done", False))
    assert store.activations()[-1].by == "Ada"
    assert made.pending(PROJECT).news() > news  # the sidecar looks at once
    asked.ask(made, PROJECT, "rollback", "Ada", version=second, expected=first)
    work(made)
    assert store.active() == second
    assert store.activations()[-1].undo


def test_a_version_that_another_replaced_meanwhile_is_refused(installed: Installation, made: Services) -> None:
    first, second = installed.version(1).version, installed.version(2).version
    asked.ask(made, PROJECT, "activate", "Ada", version=first, expected=first)
    work(made)
    assert (made.versions(PROJECT).active(), state(made)) == (second, ("refused", True))


def test_one_thing_at_a_time_and_then_the_next(made: Services) -> None:
    asked.ask(made, PROJECT, "give up", "Ada")
    with pytest.raises(FinishStands):
        asked.ask(made, PROJECT, "give up", "Bea")
    asked.ask(made, PROJECT + 1, "give up", "Bea")
    work(made)
    assert state(made) == ("refused", True)  # there is none to give up
    asked.ask(made, PROJECT, "give up", "Bea")
    found = asked.last(made, PROJECT)
    assert found is not None
    assert (found.state, found.by) == ("waiting", "Bea")


def test_a_finish_is_begun_and_given_up(installed: Installation, made: Services) -> None:
    installed.studio.confirm(TASKS[0], A)
    refreshed(made)
    asked.ask(made, PROJECT, "begin", "Ada", epsilon=0.2, confidence=0.8)
    work(made)
    finish = made.finishes(PROJECT).open()
    assert finish is not None
    assert (finish.epsilon, finish.confidence) == (0.2, 0.8)
    assert made.doing(PROJECT).step() is None
    asked.ask(made, PROJECT, "give up", "Ada")
    work(made)
    newest = made.finishes(PROJECT).newest()
    assert newest is not None
    assert newest.state == "void"


def test_a_crash_is_a_refusal_too(made: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: Any) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(asked, "_do", crash)
    asked.ask(made, PROJECT, "give up", "Ada")
    work(made)
    assert state(made) == ("refused", True)


def test_nothing_was_asked_for(made: Services) -> None:
    assert asked.last(made, PROJECT) is None
