"""The model of what must be true."""

from __future__ import annotations

import pytest

from soak.events.model import LABEL_SETS, USUAL, Answer, Model

HEALTHY, B = frozenset(["Healthy"]), frozenset(["b"])


@pytest.fixture
def model() -> Model:
    found = Model(tasks={1, 2, 3})
    found.answered(Answer(10, 1, B, "2026-01-01"))
    return found


def test_skips_and_annotations_that_nobody_looked_at_do_not_count(model: Model) -> None:
    model.answered(Answer(11, 2, B, "2026-01-02", skipped=True))
    model.answered(Answer(12, 3, B, "2026-01-03", unseen=True))
    assert model.counted() == {1}
    assert model.open() == {2}


def test_an_answer_counts_for_nothing_when_its_symptom_is_gone(model: Model) -> None:
    model.labels = LABEL_SETS[2]
    assert model.counted() == set()


def test_the_last_answer_is_what_people_say(model: Model) -> None:
    model.answered(Answer(11, 1, HEALTHY, "2026-01-02"))
    assert model.said(1) == HEALTHY
    model.answered(Answer(10, 1, B, "2026-01-03"))
    assert model.said(1) == B


def test_an_answer_ends_the_hold_of_whoever_gave_it(model: Model) -> None:
    model.held = {(2, 1), (3, 2)}
    model.answered(Answer(11, 2, B, "2026-01-02", 1))
    assert model.held == {(3, 2)}


def test_a_draw_is_touched_by_what_it_rests_on_and_by_nothing_else(model: Model) -> None:
    draw = model.now()
    model.answered(Answer(11, 2, B, "2026-01-02"))
    assert not list(model.touched(draw, [1], []))
    model.answered(Answer(10, 1, HEALTHY, "2026-01-03"))
    assert len(list(model.touched(draw, [1], []))) == 1
    assert not list(model.touched(draw, [], []))
    model.delete({3})
    assert len(list(model.touched(draw, [], []))) == 1
    assert not list(model.touched(draw, [], [3]))
    model.labels = LABEL_SETS[1]
    assert len(list(model.touched(draw, [], [3]))) == 1
    assert draw.names == USUAL.names
