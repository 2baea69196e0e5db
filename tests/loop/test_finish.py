"""A finish in the product: drawn once, asked first, counted once, void when what it rests on changes."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from threading import Thread
from typing import Any

import numpy as np
import pytest

from ml_backend.errors import FinishStands, InvalidRequest, NotEnoughLabels, NotWritten
from ml_backend.loop import finish as finishing
from ml_backend.loop import order as ordering
from ml_backend.loop.collect import collect as read
from ml_backend.services import Services
from ml_backend.store.finishes import Finish
from ml_backend.store.grounds import GroundsStore
from ml_backend.studio.configuration import NOT_ASSESSABLE
from ml_backend.studio.payloads import default_of
from tests.installation import CONFIGURATION, NO_ANSWER, PROJECT
from tests.loop.test_order import TASKS, Installation, folder, installed, lose, predictor, silent, studio
from tests.loop.test_remember import A, B, services
from tests.studio_stand_in import Died, one_thread

__all__ = ["folder", "installed", "one_thread", "predictor", "studio"]
FIRST = TASKS[0]


def begun(installed: Installation, epsilon: float = 0.2, **changes: object) -> tuple[Services, Finish]:
    """A pool of which one frame is answered, with a drawn audit."""
    installed.studio.confirm(FIRST, A)
    made = services(installed, **changes)
    return made, finishing.begin(made, PROJECT, finishing.offer(made, PROJECT, epsilon, 0.8, None, silent))


def advanced(made: Services) -> Finish:
    finish = finishing.advance(made, PROJECT)
    assert finish is not None
    return finish


def answer(installed: Installation, finish: Finish, labels: list[int] = A) -> None:
    for task in finish.drawn:
        installed.studio.confirm(task, labels)


def test_the_draw_is_recorded_and_asked_first(installed: Installation) -> None:
    made, finish = begun(installed)
    assert made.finishes(PROJECT).newest() == finish
    assert [one["task"] for one in installed.studio.served()][: len(finish.drawn)] == list(finish.drawn)
    assert finish.people == 1
    assert finish.pool == len(TASKS)
    assert 0 < len(finish.drawn) < len(TASKS) - 1
    assert finish.alpha == pytest.approx(0.75 * 0.2)


def test_a_third_of_the_audit_comes_without_ticks(installed: Installation) -> None:
    _, finish = begun(installed, blind=1 / 3)
    ticks = {one["task"]: default_of(one, CONFIGURATION).labels for one in installed.studio.served()}
    assert {task for task in finish.drawn if ticks[task] is None} == set(finish.blind)
    assert len(finish.blind) == round(len(finish.drawn) / 3)


def test_the_ticks_still_say_which_source_they_come_from(installed: Installation) -> None:
    made, finish = begun(installed, blind=1 / 3)
    before = made.grounds(PROJECT).get(finish.order)
    assert before is not None
    audits = {one["task"]: default_of(one, CONFIGURATION).audit for one in installed.studio.served()}
    told = {task: audit["source"] for task, audit in audits.items() if "confidence" in audit}
    assert len(told) == len(TASKS) - 1 - len(finish.blind)
    assert told == {task: before.sources[task] for task in told}


def test_the_evidence_of_the_frames_that_come_without_ticks_is_kept_back(installed: Installation) -> None:
    made, finish = begun(installed, blind=1 / 3)
    order = made.orders(PROJECT).current_name()
    assert order is not None
    grounds = made.grounds(PROJECT).get(order)
    assert grounds is not None
    assert grounds.order == order
    assert grounds.blind == set(finish.blind) != set()


def test_an_answered_audit_certifies_what_the_machine_has_right(installed: Installation) -> None:
    made, finish = begun(installed)
    assert advanced(made).state == "open"
    answer(installed, finish)
    done = advanced(made)
    assert done.state == "certified"
    assert done.outcome is not None
    rows = made.finishes(PROJECT).rows(done)
    assert done.outcome.by_people == 1 + len(finish.drawn)
    assert done.outcome.by_machine == int(rows.kept.sum()) == len(TASKS) - 1 - len(finish.drawn)
    assert (done.outcome.to_people, done.outcome.wrong_in_audit) == (0, 0)
    assert done.outcome.at_most_wrong <= 0.2 * done.pool
    assert not set(rows.tasks[rows.kept].tolist()) & set(finish.drawn)
    assert advanced(made) == done
    record = json.loads(made.finishes(PROJECT).path(1).read_text())
    assert record["answers"] == {str(task): ["Healthy"] for task in finish.drawn}
    assert str(done.outcome.by_machine) in made.finishes(PROJECT).page(1).read_text()


def test_a_machine_that_is_wrong_certifies_nothing_and_people_are_asked(installed: Installation) -> None:
    made, finish = begun(installed)
    answer(installed, finish, B)
    done = advanced(made)
    assert done.outcome is not None
    assert done.outcome.wrong_in_audit == len(finish.drawn)
    assert done.outcome.by_machine + done.outcome.to_people == len(TASKS) - 1 - len(finish.drawn)
    assert done.outcome.to_people > 0
    rows = made.finishes(PROJECT).rows(done)
    asked = [one["task"] for one in installed.studio.served() if one["task"] not in finish.drawn]
    assert set(asked[: done.outcome.to_people]) == set(rows.tasks[~rows.kept].tolist()) - set(finish.drawn)


def test_the_queue_is_not_refreshed_while_a_finish_stands(installed: Installation) -> None:
    made, finish = begun(installed)
    installed.version()
    assert ordering.needs_refresh(made, PROJECT, True, True) is None
    with pytest.raises(FinishStands):
        ordering.refresh(made, PROJECT, silent)
    assert finishing.give_up(made, PROJECT).state == "void"
    assert ordering.needs_refresh(made, PROJECT, True, True) is not None
    with pytest.raises(InvalidRequest):
        finishing.give_up(made, PROJECT)
    assert finish.void == ""


def _changed(installed: Installation, finish: Finish) -> None:
    installed.studio.change(FIRST, B, "later")


def _deleted(installed: Installation, finish: Finish) -> None:
    installed.studio.annotations = [one for one in installed.studio.annotations if one.task != FIRST]


def _imported(installed: Installation, finish: Finish) -> None:
    installed.studio.add(installed.folder, 900)


def _removed(installed: Installation, finish: Finish) -> None:
    del installed.studio.task_data[TASKS[-1]]


def _activated(installed: Installation, finish: Finish) -> None:
    installed.version()


@pytest.mark.parametrize("event", [_changed, _deleted, _imported, _removed, _activated])
def test_an_open_finish_is_void_when_what_it_rests_on_changes(installed: Installation, event: object) -> None:
    made, finish = begun(installed)
    event(installed, finish)  # type: ignore[operator]
    assert advanced(made).state == "void"
    assert advanced(made).void
    again = finishing.offer(made, PROJECT, 0.2, 0.8, None, silent) if event is not _deleted else None
    if again is not None:
        assert again.finish.number == 2
        assert again.finish.alpha == pytest.approx(0.75 * 0.2 / 4)


@pytest.mark.parametrize("event", [_changed, _deleted, _imported, _removed, "audit"])
def test_a_certificate_is_void_when_what_it_rests_on_changes(installed: Installation, event: object) -> None:
    made, finish = begun(installed)
    answer(installed, finish)
    assert advanced(made).state == "certified"
    if event == "audit":
        installed.studio.annotations = [one for one in installed.studio.annotations if one.task != finish.drawn[0]]
    else:
        event(installed, finish)  # type: ignore[operator]
    assert advanced(made).state == "void"
    assert "void" in made.finishes(PROJECT).page(1).read_text()


def test_a_version_trained_after_the_count_leaves_the_certificate(installed: Installation) -> None:
    made, finish = begun(installed)
    answer(installed, finish)
    advanced(made)
    installed.version()
    assert advanced(made).state == "certified"


def test_a_crash_between_draw_and_queue_is_made_good(installed: Installation) -> None:
    installed.studio.confirm(FIRST, A)
    made = services(installed)
    offered = finishing.offer(made, PROJECT, 0.2, 0.8, None, silent)
    installed.studio.dies = True
    with pytest.raises(Died):
        finishing.begin(made, PROJECT, offered)
    installed.studio.dies = False
    drawn = advanced(made).drawn
    assert [one["task"] for one in installed.studio.served()][: len(drawn)] == list(drawn)


def test_an_audit_that_nobody_looked_at_is_not_answered(installed: Installation) -> None:
    made, finish = begun(installed)
    answer(installed, finish)
    installed.studio.annotations = [
        one if one.task == FIRST else replace(one, accepted_unseen=True) for one in installed.studio.annotations
    ]
    assert advanced(made).state == "open"
    assert finishing.answered(made, PROJECT, finish) == 0


def test_a_frame_that_nobody_can_assess_counts_as_wrong(installed: Installation) -> None:
    made, finish = begun(installed)
    answer(installed, finish)
    last = installed.studio.annotations[-1]
    installed.studio.annotations[-1] = replace(last, result=[NO_ANSWER])
    done = advanced(made)
    assert done.outcome is not None
    assert done.outcome.wrong_in_audit == 1
    assert done.answers[last.task] == (NOT_ASSESSABLE,)
    assert advanced(made).state == "certified"
    installed.studio.annotations[-1] = last
    assert advanced(made).state == "void"


def test_two_draws_at_once_leave_the_one_that_was_written_down_first(installed: Installation) -> None:
    installed.studio.confirm(FIRST, A)
    made = services(installed)
    first, second = (finishing.offer(made, PROJECT, epsilon, 0.8, None, silent) for epsilon in (0.2, 0.3))
    finish = finishing.begin(made, PROJECT, first)
    with pytest.raises(FinishStands):
        finishing.begin(made, PROJECT, second)
    assert made.finishes(PROJECT).newest() == finish


def test_a_finish_that_is_given_up_while_it_is_counted_stays_void(
    installed: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, finish = begun(installed)
    answer(installed, finish)
    giving_up = Thread(target=finishing.give_up, args=(made, PROJECT))

    def collect(*known: Any) -> Any:
        giving_up.start()
        giving_up.join(0.5)  # it ends here only where nothing keeps it waiting
        return read(*known)

    monkeypatch.setattr(finishing, "collect", collect)
    finishing.advance(made, PROJECT)
    giving_up.join()
    newest = made.finishes(PROJECT).newest()
    assert newest is not None
    assert newest.state == "void"


def test_the_order_that_a_finish_rests_on_is_kept_until_it_is_void(installed: Installation) -> None:
    made, finish = begun(installed, keep_pushed=1)
    assert ordering.prune(made, PROJECT) is None
    answer(installed, finish, B)
    assert advanced(made).state == "certified"
    assert finishing.asks(made, PROJECT, advanced(made))
    while ordering.prune(made, PROJECT):
        assert made.orders(PROJECT).get(finish.order) is not None
    finishing.give_up(made, PROJECT)
    assert ordering.prune(made, PROJECT) == finish.order


def test_frames_outside_of_the_pool_leave_a_finish_and_new_ones_in_their_place_do_not(installed: Installation) -> None:
    unseen, broken = TASKS[5], TASKS[6]
    installed.studio.confirm(unseen, B)
    installed.studio.annotations = [replace(one, accepted_unseen=True) for one in installed.studio.annotations]
    lose(installed.studio, broken)
    made, finish = begun(installed)
    assert finish.outside == (unseen, broken)
    assert finish.pool == len(TASKS) - 2
    assert advanced(made).state == "open"
    del installed.studio.task_data[broken]
    assert advanced(made).state == "open"
    installed.studio.add(installed.folder, 900)
    assert advanced(made).state == "void"


def test_where_fewer_frames_are_left_than_may_be_wrong_nothing_is_drawn_and_all_stand(installed: Installation) -> None:
    for task in TASKS[:-2]:
        installed.studio.confirm(task, A)
    made = services(installed)
    finish = finishing.begin(made, PROJECT, finishing.offer(made, PROJECT, 0.2, 0.8, None, silent))
    assert finish.drawn == ()
    done = advanced(made)
    assert done.outcome is not None
    assert (done.outcome.by_people, done.outcome.by_machine, done.outcome.to_people) == (len(TASKS) - 2, 2, 0)
    assert done.outcome.at_most_wrong == 2


def test_nothing_is_drawn_where_the_disk_does_not_take_what_the_labels_rest_on(
    installed: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    installed.studio.confirm(FIRST, A)
    made = services(installed)
    with monkeypatch.context() as patched:
        patched.setattr(GroundsStore, "save", broken)
        with pytest.raises(NotWritten):
            finishing.offer(made, PROJECT, 0.2, 0.8, None, silent)
    finish = finishing.begin(made, PROJECT, finishing.offer(made, PROJECT, 0.2, 0.8, None, silent))
    order = made.orders(PROJECT).current_name()
    assert finish.number == 1
    assert made.grounds(PROJECT).get(order or "") is not None


def test_a_budget_buys_what_it_can(installed: Installation) -> None:
    installed.studio.confirm(FIRST, A)
    small = finishing.offer(services(installed), PROJECT, 0.2, 0.8, 2, silent).affordable
    large = finishing.offer(services(installed), PROJECT, 0.2, 0.8, 11, silent).affordable
    assert small is not None
    assert large is not None
    assert large.epsilon < small.epsilon


def test_a_pool_that_nobody_began_cannot_be_finished(installed: Installation) -> None:
    with pytest.raises(NotEnoughLabels):
        finishing.offer(services(installed), PROJECT, 0.03, 0.95, None, silent)
    for wrong in (0.0, 1.0, np.nan):
        with pytest.raises(InvalidRequest):
            finishing.offer(services(installed), PROJECT, wrong, 0.95, None, silent)
