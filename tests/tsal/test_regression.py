from __future__ import annotations

import numpy as np
import pytest

from ml_backend.tsal.regression import compare


def labels(right: int, of: int) -> np.ndarray:
    """Labels of which the first are as in `truth`, the others not."""
    rows = np.zeros((of, 2), np.uint8)
    rows[right:, 1] = 1
    return rows


def truth(of: int) -> np.ndarray:
    return np.zeros((of, 2), np.uint8)


def test_frames_lost_and_gained_are_counted():
    before = np.array([[0, 0], [0, 0], [0, 1], [1, 0], [0, 0]], np.uint8)
    after = np.array([[0, 0], [0, 1], [0, 0], [1, 0], [1, 1]], np.uint8)
    found = compare(truth(5), before, after)
    assert (found.frames, found.before, found.after, found.lost, found.gained) == (5, 0.6, 0.4, 2, 1)


def test_a_fall_beyond_what_is_allowed_and_beyond_chance_is_told():
    # 8 of 100 lost and none gained: 0.08 is more than 0.05, and 8 more than 2 sqrt(8) = 5.66.
    reason = compare(truth(100), labels(90, 100), labels(82, 100)).regression(0.05)
    assert reason.startswith("exact match on 100 frames of held-out patients fell from 0.900 to 0.820")
    assert "8 frames lost, 0 gained" in reason


@pytest.mark.parametrize(
    ("lost", "of", "allowed", "worse"),
    [
        (5, 100, 0.05, False),  # no more than allowed
        (6, 100, 0.05, True),  # 6 > 2 sqrt(6) = 4.9
        (4, 40, 0.05, False),  # 0.1, but 4 = 2 sqrt(4): chance
        (5, 40, 0.05, True),  # 5 > 4.47
        (5, 40, 0.2, False),
        (-30, 40, 0.0, False),  # better
    ],
)
def test_allowance_and_chance(lost: int, of: int, allowed: float, worse: bool):
    start = 35 if lost > 0 else 5
    assert bool(compare(truth(of), labels(start, of), labels(start - lost, of)).regression(allowed)) is worse


def test_many_that_change_sides_are_chance():
    # 30 lost and 20 gained: 10 of 100 fewer, but 2 sqrt(50) = 14.1.
    before, after = labels(100, 100), labels(100, 100)
    before[:20, 0], after[20:50, 0] = 1, 1
    assert compare(truth(100), before, after).regression(0.05) == ""


def test_without_frames_nothing_is_worse():
    found = compare(truth(0), truth(0), truth(0))
    assert (found.before, found.after, found.regression(0.0)) == (None, None, "")


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="truth and after"):
        compare(truth(3), truth(3), truth(2))
