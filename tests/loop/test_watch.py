"""The watch and the memory: an answer that is changed or deleted leaves the memory within one refresh."""

from __future__ import annotations

from typing import Any

import pytest
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from ml_backend.loop import confirm, jobs
from ml_backend.loop import order as ordering
from ml_backend.loop.watch import FULL_POLL, Watched, look
from ml_backend.services import Services
from tests.installation import PROJECT
from tests.loop.test_order import TASKS, Installation, folder, installed, predictor, studio
from tests.loop.test_remember import A, B, served
from tests.studio_stand_in import one_thread

__all__ = ["folder", "installed", "one_thread", "predictor", "studio"]
FIRST, SECOND = TASKS[0], TASKS[1]


@pytest.fixture
def watching(installed: Installation, redis_url: str) -> Services:
    """A project of which one frame is answered, after the first look of the watch."""
    made = installed.services(
        strategy="cover", validator="memory", redis_url=redis_url, poll_seconds=3600, k_max=100, refresh=2
    )
    installed.studio.confirm(FIRST, A)
    return made


@pytest.fixture
def state(watching: Services) -> Watched:
    state = Watched()
    look(watching, PROJECT, state)
    return state


def webhook(action: str, annotation: int, **fields: Any) -> tuple[str, dict[str, Any]]:
    """What Label Studio sends of one annotation."""
    if action == confirm.DELETED:
        return action, {"annotations": [{"id": annotation}]}
    return action, {"annotation": {"id": annotation, "task": annotation, "was_cancelled": False, **fields}}


def polled(services: Services, state: Watched) -> None:
    """The next poll, as if its time had come."""
    state.polled = float("-inf")
    look(services, PROJECT, state)


def ticks(installed: Installation) -> set[tuple[int, ...] | None]:
    return {None if one is None else tuple(one) for one in served(installed).values()}


def test_a_change_that_a_webhook_announces_is_in_the_next_order(
    installed: Installation, watching: Services, state: Watched
) -> None:
    assert ticks(installed) == {tuple(A)}
    installed.studio.change(FIRST, B, "later")
    look(watching, PROJECT, state)
    assert ticks(installed) == {tuple(A)}  # nothing was announced, and no poll is due
    confirm.record(watching, PROJECT, *webhook(confirm.CHANGED, FIRST))
    look(watching, PROJECT, state)
    assert ticks(installed) == {tuple(B)}
    order = watching.orders(PROJECT).current_name()
    look(watching, PROJECT, state)
    assert watching.orders(PROJECT).current_name() == order


def test_a_deletion_that_a_webhook_announces_is_in_the_next_order(
    installed: Installation, watching: Services, state: Watched
) -> None:
    installed.studio.annotations.clear()
    confirm.record(watching, PROJECT, *webhook(confirm.DELETED, FIRST))
    look(watching, PROJECT, state)
    assert ticks(installed) == {None}
    assert FIRST in served(installed)


def test_a_deletion_whose_webhook_was_lost_is_found_by_the_next_poll(
    installed: Installation, watching: Services, state: Watched
) -> None:
    installed.studio.annotations.clear()
    polled(watching, state)
    assert ticks(installed) == {None}
    assert FIRST in served(installed)


def test_a_change_whose_webhook_was_lost_is_found_within_ten_polls(
    installed: Installation, watching: Services, state: Watched
) -> None:
    installed.studio.change(FIRST, B, "later")
    for _ in range(FULL_POLL - 1):
        polled(watching, state)
    assert ticks(installed) == {tuple(A)}
    polled(watching, state)
    assert ticks(installed) == {tuple(B)}


def test_an_answer_that_was_skipped_afterwards_is_forgotten(
    installed: Installation, watching: Services, state: Watched
) -> None:
    installed.studio.annotations.clear()  # skipped ones are not among the confirmed
    confirm.record(watching, PROJECT, *webhook(confirm.CHANGED, FIRST, was_cancelled=True))
    look(watching, PROJECT, state)
    assert ticks(installed) == {None}


def two_orders(installed: Installation, watching: Services, state: Watched) -> list[str | None]:
    """Answer three more frames, so that a second order is pushed, and return the names of both orders."""
    orders = watching.orders(PROJECT)
    first = orders.current_name()
    for task in TASKS[1:4]:
        installed.studio.confirm(task, B)
    polled(watching, state)
    second = orders.current_name()
    assert first != second
    return [first, second]


def test_old_orders_are_removed_also_when_every_frame_is_answered(
    installed: Installation, watching: Services, state: Watched
) -> None:
    two_orders(installed, watching, state)
    for task in TASKS[4:]:
        installed.studio.confirm(task, B)
    watching.settings = watching.settings.model_copy(update={"keep_pushed": 1, "strategy": "mlm"})
    for _ in range(2):  # the first one is busy: answers have come
        polled(watching, state)
    assert watching.studio.model_versions(PROJECT) == [watching.orders(PROJECT).current_name()]


def test_old_orders_do_not_pile_up_where_every_look_refreshes(
    installed: Installation, watching: Services, state: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ordering, "PILED_PREDICTIONS", 1)
    most = watching.settings.keep_pushed + ordering.LEAST_PILE
    for number in range(2 * most):
        installed.studio.change(FIRST, (B, A)[number % 2], f"later {number}")
        before = watching.orders(PROJECT).current_name()
        confirm.record(watching, PROJECT, *webhook(confirm.CHANGED, FIRST))
        polled(watching, state)
        assert watching.orders(PROJECT).current_name() != before
    assert len(installed.studio.model_versions(PROJECT)) == most


def test_old_orders_are_removed_once_nobody_has_answered_for_some_time(
    installed: Installation, watching: Services, state: Watched
) -> None:
    two = two_orders(installed, watching, state)
    watching.settings = watching.settings.model_copy(update={"keep_pushed": 1, "rest_seconds": 100})
    polled(watching, state)
    assert watching.studio.model_versions(PROJECT) == two
    state.worked -= 100
    installed.studio.confirm(TASKS[4], B)
    for _ in range(2):
        polled(watching, state)
    assert watching.studio.model_versions(PROJECT) == two, "somebody answers"
    state.worked -= 100
    polled(watching, state)
    assert watching.studio.model_versions(PROJECT) == two[1:]


def test_old_orders_stay_while_a_fine_tune_waits_or_is_under_way(
    installed: Installation, watching: Services, state: Watched
) -> None:
    first, second = two_orders(installed, watching, state)
    watching.settings = watching.settings.model_copy(update={"keep_pushed": 1})
    job = jobs.enqueue(watching, PROJECT, confirm.REQUEST, "asked for")
    assert job
    for _ in range(3):
        polled(watching, state)
    assert watching.studio.model_versions(PROJECT) == [first, second]
    jobs.queue(watching).remove(job)
    Job.fetch(job, connection=watching.redis, serializer=JSONSerializer).set_status(JobStatus.FINISHED)
    polled(watching, state)
    assert watching.studio.model_versions(PROJECT) == [second]


def test_of_several_changes_between_two_looks_the_last_counts(
    installed: Installation, watching: Services, state: Watched
) -> None:
    installed.studio.confirm(SECOND, B)
    confirm.record(watching, PROJECT, *webhook("ANNOTATION_CREATED", SECOND))
    for labels in (A, B):
        installed.studio.change(FIRST, labels, f"later with {labels}")
        confirm.record(watching, PROJECT, *webhook(confirm.CHANGED, FIRST))
    look(watching, PROJECT, state)
    assert ticks(installed) == {tuple(B)}
    remembered = watching.orders(PROJECT).current()
    assert remembered is not None
    assert remembered.told is not None
    assert set(remembered.told.remembered) == {FIRST, SECOND}
