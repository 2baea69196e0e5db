from __future__ import annotations

import numpy as np

from ml_backend.tsal.judgement import Figure, figure
from ml_backend.tsal.stopping import Progress, due, reason_to_stop


def test_a_full_batch_is_due_and_a_smaller_one_is_not() -> None:
    assert not due(Progress(confirmed=99, pending=99, pool=500), 100, None, None)
    assert due(Progress(confirmed=100, pending=100, pool=500), 100, None, None)
    assert due(Progress(confirmed=260, pending=130), 100, None, None)


def test_the_last_frames_are_trained_on_even_if_they_fill_no_batch() -> None:
    assert due(Progress(confirmed=107, pending=7, pool=0, quiet=True), 100, None, None)
    assert not due(Progress(confirmed=107, pending=7, pool=None, quiet=True), 100, None, None)
    assert not due(Progress(confirmed=107, pending=0, pool=0, quiet=True), 100, None, None)


def test_with_an_empty_pool_corrections_are_gathered() -> None:
    assert not due(Progress(confirmed=107, pending=1, pool=0), 100, None, None)
    assert due(Progress(confirmed=107, pending=100, pool=0), 100, None, None)


def test_the_budget_ends_the_loop_after_a_last_fine_tune() -> None:
    spent = Progress(confirmed=50, pending=10, pool=100)
    assert due(spent, 100, 50, None)
    assert reason_to_stop(spent, 50, None) is None
    trained = Progress(confirmed=150, pending=100, pool=100)
    assert not due(trained, 100, 50, None)
    assert reason_to_stop(trained, 50, None) == "the annotation budget of 50 is spent"


def test_the_target_is_reached_when_the_lower_end_of_the_interval_reaches_it() -> None:
    reached = Progress(confirmed=300, pending=100, pool=100, exact_match=Figure(0.95, 0.91, 0.98, 200, 40))
    assert not due(reached, 100, None, 0.9)
    reason = reason_to_stop(reached, None, 0.9)
    assert reason is not None
    assert "0.95 (0.91 to 0.98, 40 patients)" in reason
    assert due(reached, 100, None, 0.92)
    assert due(Progress(confirmed=300, pending=100, exact_match=None), 100, None, 0.9)


def test_one_lucky_frame_does_not_end_the_loop() -> None:
    lucky = figure(np.array([True]), ["p1"], seed=0)
    assert lucky is not None
    assert lucky.value == 1.0
    assert reason_to_stop(Progress(confirmed=300, pending=0, pool=100, exact_match=lucky), None, 0.5) is None


def test_an_empty_pool_ends_the_loop_and_an_empty_project_does_not() -> None:
    assert reason_to_stop(Progress(confirmed=5, pending=0, pool=0), None, None) == "every frame is annotated"
    assert reason_to_stop(Progress(confirmed=0, pending=0, pool=0), None, None) is None
    assert reason_to_stop(Progress(confirmed=5, pending=0, pool=None), None, None) is None
