from __future__ import annotations

from ml_backend.tsal.stopping import Progress, due, reason_to_stop


def test_a_full_batch_is_due_and_a_smaller_one_is_not() -> None:
    assert not due(Progress(confirmed=99, pending=99, pool=500), 100, None, None)
    assert due(Progress(confirmed=100, pending=100, pool=500), 100, None, None)
    assert due(Progress(confirmed=260, pending=130), 100, None, None)


def test_the_last_frames_are_trained_on_even_if_they_fill_no_batch() -> None:
    assert due(Progress(confirmed=107, pending=7, pool=0), 100, None, None)
    assert not due(Progress(confirmed=107, pending=7, pool=None), 100, None, None)
    assert not due(Progress(confirmed=107, pending=0, pool=0), 100, None, None)


def test_the_budget_ends_the_loop_after_a_last_fine_tune() -> None:
    spent = Progress(confirmed=50, pending=10, pool=100)
    assert due(spent, 100, 50, None)
    assert reason_to_stop(spent, 50, None) is None
    trained = Progress(confirmed=150, pending=100, pool=100)
    assert not due(trained, 100, 50, None)
    assert reason_to_stop(trained, 50, None) == "the annotation budget of 50 is spent"


def test_the_wanted_performance_ends_the_loop() -> None:
    reached = Progress(confirmed=300, pending=100, pool=100, exact_match=0.91)
    assert not due(reached, 100, None, 0.9)
    assert reason_to_stop(reached, None, 0.9) == (
        "the wanted exact match of 0.90 is reached (0.91 on held-out patients)"
    )
    assert due(reached, 100, None, 0.95)
    assert due(Progress(confirmed=300, pending=100, exact_match=None), 100, None, 0.9)


def test_an_empty_pool_ends_the_loop_and_an_empty_project_does_not() -> None:
    assert reason_to_stop(Progress(confirmed=5, pending=0, pool=0), None, None) == "every frame is annotated"
    assert reason_to_stop(Progress(confirmed=0, pending=0, pool=0), None, None) is None
    assert reason_to_stop(Progress(confirmed=5, pending=0, pool=None), None, None) is None
