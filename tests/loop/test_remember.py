"""The memory in the product: what annotators confirmed ticks the frames like it, before any network and beside one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ml_backend.loop import order as ordering
from ml_backend.services import Services
from ml_backend.store.orders import Order
from ml_backend.studio.payloads import default_of
from tests.installation import CONFIGURATION, PROJECT
from tests.loop.test_order import TASKS, Installation, folder, installed, predictor, refreshed, studio
from tests.studio_stand_in import one_thread

__all__ = ["folder", "installed", "one_thread", "predictor", "studio"]
A, B = [1, 0, 0], [0, 1, 0]


def services(installed: Installation, **changes: object) -> Services:
    made = installed.services(strategy="cover", validator="memory", **changes)
    made.pending = lambda project: Noted()  # type: ignore[method-assign, assignment, return-value]
    return made


class Noted:
    """No webhook has come."""

    def count(self) -> int:
        return 0


def served(installed: Installation) -> dict[int, list[int] | None]:
    ticks = {one["task"]: default_of(one, CONFIGURATION).labels for one in installed.studio.served()}
    return {task: None if labels is None else labels.tolist() for task, labels in ticks.items()}


def audit_of(installed: Installation, task: int) -> dict[str, object]:
    (one,) = [one for one in installed.studio.served() if one["task"] == task]
    return dict(default_of(one, CONFIGURATION).audit)


def reason(installed: Installation, changes: bool = True) -> str | None:
    return ordering.needs_refresh(services(installed), PROJECT, False, changes)


def test_before_any_answer_frames_that_differ_are_asked_and_nothing_is_ticked(installed: Installation) -> None:
    order = refreshed(services(installed))
    assert sorted(order.tasks.tolist()) == sorted(TASKS)
    assert set(served(installed).values()) == {None}
    assert order.reasons[0] in ("different", "new clip")


def test_what_was_confirmed_ticks_the_other_frames_without_a_network(installed: Installation) -> None:
    installed.studio.confirm(TASKS[0], A)
    refreshed(services(installed))
    ticks = served(installed)
    assert TASKS[0] not in ticks
    assert all(labels == A for labels in ticks.values())
    told = audit_of(installed, TASKS[1])
    assert (told["source"], told["nearest"]) == ("memory", TASKS[0])
    assert 0 <= float(str(told["confidence"])) <= 1


def test_memory_and_network_tick_together_and_the_network_is_noted_before_the_answer(installed: Installation) -> None:
    installed.version()
    installed.studio.confirm(TASKS[0], A)
    installed.studio.confirm(TASKS[1], B)
    made = services(installed, audit=0.5)
    refreshed(made)
    assert {str(audit_of(installed, task)["source"]) for task in TASKS[2:]} <= {"memory", "network", "table"}
    audits = made.audits(PROJECT)
    assert audits.told().keys() == audits.tasks()
    for told in audits.told().values():
        assert set(told.network) == set(CONFIGURATION.label_names)
        assert told.source in ("memory", "network", "table")


def test_a_share_of_the_audit_is_asked_without_ticks_and_what_it_would_have_shown_is_noted(
    installed: Installation,
) -> None:
    installed.studio.confirm(TASKS[0], A)
    made = services(installed, audit=1, blind=0.5)
    refreshed(made)
    audits, ticks = made.audits(PROJECT), served(installed)
    blind = {task for task, told in audits.told().items() if told.blind}
    assert len(blind) == 2
    assert {task for task in audits.tasks() if ticks[task] is None} == blind
    assert all(told.ticks == ("Healthy",) for told in audits.told().values())


def test_an_answer_that_changes_or_is_taken_back_leaves_the_memory_with_the_next_refresh(
    installed: Installation,
) -> None:
    installed.studio.confirm(TASKS[0], A)
    refreshed(services(installed))
    assert reason(installed) is None
    installed.studio.change(TASKS[0], B, "later")
    assert reason(installed, changes=False) is None
    assert reason(installed) is not None
    refreshed(services(installed))
    assert all(labels == B for labels in served(installed).values())
    assert reason(installed) is None
    installed.studio.annotations.clear()
    assert reason(installed) is not None
    refreshed(services(installed))
    assert set(served(installed).values()) == {None}


def test_answers_that_nobody_looked_at_are_never_remembered(installed: Installation) -> None:
    installed.studio.confirm(TASKS[0], A)
    installed.studio.annotations = [replace(one, accepted_unseen=True) for one in installed.studio.annotations]
    refreshed(services(installed, accepted="train"))
    assert set(served(installed).values()) == {None}


@pytest.mark.parametrize(("answered", "due"), [(24, False), (25, True)])
def test_enough_new_answers_refresh_the_memory(
    installed: Installation, monkeypatch: pytest.MonkeyPatch, answered: int, due: bool
) -> None:
    refreshed(services(installed))
    monkeypatch.setattr(Noted, "count", lambda self: answered)
    assert (reason(installed, changes=False) is not None) == due


def test_a_command_without_redis_finds_the_queue_in_order(installed: Installation) -> None:
    refreshed(services(installed))
    assert ordering.needs_refresh(installed.services(strategy="cover", validator="memory"), PROJECT, True) is None


def test_an_order_keeps_what_it_tells(installed: Installation) -> None:
    installed.studio.confirm(TASKS[0], A)
    made = services(installed)
    order = refreshed(made)
    again = made.orders(PROJECT).get(order.about.name)
    assert again is not None
    assert again.told is not None
    assert order.told is not None
    np.testing.assert_array_equal(again.told.labels, order.told.labels)
    np.testing.assert_array_equal(again.told.confidence, order.told.confidence)
    assert again.told.remembered == order.told.remembered
    assert list(order.told.remembered) == [TASKS[0]]
    assert isinstance(again, Order)
