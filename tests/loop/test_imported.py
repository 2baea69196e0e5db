"""What imported labels count for, and what never: they are nobody's answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ml_backend.loop.audit import audit
from ml_backend.loop.collect import collect
from ml_backend.loop.look_again import disagreements
from ml_backend.loop.people import agreement, days
from ml_backend.loop.remember import marks_of, seen_by_people
from ml_backend.services import Services
from ml_backend.studio.payloads import Imported
from tests.installation import CONFIGURATION, PROJECT
from tests.loop.test_audit import told
from tests.loop.test_finish import FIRST, advanced, answer, begun
from tests.loop.test_order import TASKS, Installation, folder, installed, predictor, refreshed, studio
from tests.loop.test_remember import A, B, served, services
from tests.studio_stand_in import one_thread

__all__ = ["folder", "installed", "one_thread", "predictor", "studio"]
ORIGIN = Imported("older.csv", "2026-01-01T00:00:00+00:00")


def bring(installed: Installation, task: int, labels: list[int], number: int | None = None) -> None:
    """Give a task an imported label."""
    installed.studio.confirm(task, labels, number, by=9)
    annotations = installed.studio.annotations
    annotations[-1] = replace(annotations[-1], imported=ORIGIN, created_at="2026-01-02T00:00:00Z")


@pytest.mark.parametrize(("imported", "remembered"), [("keep apart", {2}), ("train", {1, 2})])
def test_the_setting_decides_whether_they_are_remembered(
    installed: Installation, imported: str, remembered: set[int]
) -> None:
    bring(installed, 1, A)
    installed.studio.confirm(2, B)
    made = services(installed, imported=imported)
    assert marks_of(seen_by_people(collect(made, PROJECT, CONFIGURATION))).keys() == remembered
    order = refreshed(made)
    assert order.told is not None
    assert order.told.remembered.keys() == remembered
    assert 1 not in served(installed)  # it is not asked again


def test_they_answer_no_audit(installed: Installation) -> None:
    made, finish = begun(installed, imported="train")
    answer(installed, finish)
    place = next(place for place, one in enumerate(installed.studio.annotations) if one.task == finish.drawn[0])
    installed.studio.annotations[place] = replace(installed.studio.annotations[place], imported=ORIGIN)
    assert advanced(made).state == "open"
    installed.studio.annotations[place] = replace(installed.studio.annotations[place], imported=None)
    assert advanced(made).state == "certified"


def test_no_certificate_covers_them(installed: Installation) -> None:
    bring(installed, TASKS[-1], A)
    _, finish = begun(installed, imported="train")
    assert finish.remembered.keys() == {FIRST}
    assert finish.people == 1
    assert TASKS[-1] in finish.outside
    assert finish.pool == len(TASKS) - 1


@pytest.mark.parametrize("rule", ["latest", "majority", "leave out"])
def test_a_person_counts_before_them(installed: Installation, rule: str) -> None:
    installed.studio.confirm(TASKS[0], A, number=50, by=1)
    bring(installed, TASKS[0], B, number=51)
    (counted,) = collect(services(installed, imported="train", disagreement=rule), PROJECT, CONFIGURATION).labelled
    assert counted.annotation.id == 50


def test_they_do_not_tell_how_right_ticks_are(installed: Installation) -> None:
    made: Services = services(installed, imported="train")
    told(made, 1, 2)
    bring(installed, 1, B)
    installed.studio.confirm(2, A)
    assert (audit(made, PROJECT).frames, audit(made, PROJECT).right.count) == (1, 1)


def test_they_are_no_opinion_of_people(installed: Installation) -> None:
    bring(installed, TASKS[0], A)
    installed.studio.confirm(TASKS[0], B, number=50, by=1)
    annotations = installed.studio.annotations
    assert disagreements(annotations, CONFIGURATION) == []
    assert agreement(annotations, CONFIGURATION) == ()
    assert days(annotations) == {}
