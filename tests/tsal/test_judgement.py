"""Judging a version against its parent by patient: hand counts, exact enumeration, and samples that misled before."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from ml_backend.tsal.judgement import Figure, compare, figure, matches, per_label, sign_test


def flags(*values: int) -> NDArray[np.bool_]:
    return np.array(values, bool)


def test_exact_match_counts_frames_whose_labels_are_all_right() -> None:
    truth, predicted = np.array([[1, 0], [0, 1], [1, 1]]), np.array([[1, 0], [1, 1], [1, 1]])
    assert matches(truth, predicted).tolist() == [True, False, True]


def test_labels_that_are_not_known_do_not_count() -> None:
    truth, predicted = np.array([[1, 0], [0, 0]]), np.array([[1, 1], [1, 1]])
    known = np.array([[True, False], [True, False]])
    assert matches(truth, predicted, known).tolist() == [True, False]


def test_a_figure_names_its_value_interval_frames_and_patients() -> None:
    found = figure(flags(1, 1, 1, 0), ["a", "a", "b", "c"], seed=0)
    assert found is not None
    assert (found.value, found.frames, found.patients) == (0.75, 4, 3)
    assert 0 < found.low < 0.75 < found.high <= 1
    assert str(Figure(0.713, 0.584, 0.811, 300, 12)) == "0.71 (0.58 to 0.81, 12 patients)"
    assert figure(flags(), [], seed=0) is None


def test_a_figure_of_an_old_version_has_no_interval() -> None:
    assert Figure.read(0.9) == Figure(0.9, 0.0, 1.0, 0, 0)
    assert Figure.read(None) is None
    one = Figure(0.5, 0.2, 0.8, 10, 4)
    assert Figure.read({"value": 0.5, "low": 0.2, "high": 0.8, "frames": 10, "patients": 4}) == one


def test_every_label_is_judged_where_it_is_known() -> None:
    truth, predicted = np.array([[1, 0], [0, 1], [0, 0]]), np.array([[1, 0], [1, 0], [0, 1]])
    known = np.array([[1, 1], [1, 1], [1, 0]], bool)
    found = per_label(truth, predicted, known, ("A", "B"), ["a", "b", "c"], seed=0)
    values = {name: {key: one and (one.value, one.frames) for key, one in row.items()} for name, row in found.items()}
    assert values == {
        "A": {"accuracy": (2 / 3, 3), "sensitivity": (1.0, 1), "specificity": (0.5, 2)},
        "B": {"accuracy": (0.5, 2), "sensitivity": (0.0, 1), "specificity": (1.0, 1)},
    }


@pytest.mark.parametrize("changed", range(9))
def test_the_sign_test_is_the_share_of_all_equally_likely_outcomes(changed: int) -> None:
    outcomes = list(product((0, 1), repeat=changed))
    for worse in range(changed + 1):
        as_many = sum(sum(outcome) >= worse for outcome in outcomes)
        assert sign_test(worse, changed - worse) == as_many / len(outcomes)


def test_two_hundred_copies_of_one_patient_do_not_hold_a_version_back() -> None:
    """Frames counted as independent would: 200 lost, 0 gained."""
    patients = ["many"] * 200 + [f"p{number}" for number in range(11)]
    before, after = np.ones(211, bool), np.array([False] * 200 + [True] * 11)
    found = compare(before, after, patients, seed=0)
    assert found is not None
    assert (found.worse, found.better) == (1, 0)
    assert found.before.value - found.after.value > 0.9
    assert found.regression(0.05) == ""


def test_ten_of_twelve_patients_getting_worse_hold_a_version_back() -> None:
    patients = [f"p{number}" for number in range(12) for _ in range(5)]
    before = np.ones(60, bool)
    after = before.copy()
    after[[5 * number for number in range(10)]] = False  # one frame of five, in ten patients
    before[55], before[50] = False, False  # and one frame is gained in each of the other two
    found = compare(before, after, patients, seed=0)
    assert found is not None
    assert (found.worse, found.better) == (10, 2)
    assert sign_test(10, 2) == pytest.approx((66 + 12 + 1) / 4096)
    reason = found.regression(0.05)
    assert "60 frames of 12 patients fell from 0.967 to 0.833" in reason
    assert "10 patients got worse, 2 better" in reason


@pytest.mark.parametrize(("patients", "held_back"), [(4, False), (5, True)])
def test_fewer_than_five_patients_can_never_hold_a_version_back(patients: int, held_back: bool) -> None:
    names = [f"p{number}" for number in range(patients)]
    found = compare(np.ones(patients, bool), np.zeros(patients, bool), names, seed=0)
    assert found is not None
    assert bool(found.regression(0.05)) is held_back


@pytest.mark.parametrize(("allowed", "held_back"), [(0.09, True), (0.1, False)])
def test_a_fall_within_the_allowed_range_is_accepted(allowed: float, held_back: bool) -> None:
    names = [f"p{number}" for number in range(10) for _ in range(10)]
    after = np.ones(100, bool)
    after[::10] = False  # every patient loses a frame of ten
    found = compare(np.ones(100, bool), after, names, seed=0)
    assert found is not None
    assert bool(found.regression(allowed)) is held_back


def test_a_patient_that_loses_and_gains_as_many_frames_has_not_changed() -> None:
    found = compare(flags(1, 0, 1), flags(0, 1, 1), ["a", "a", "b"], seed=0)
    assert found is not None
    assert (found.worse, found.better) == (0, 0)


def test_without_frames_there_is_nothing_to_compare() -> None:
    assert compare(flags(), flags(), [], seed=0) is None


def test_different_numbers_of_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="same shape"):
        compare(flags(1), flags(1, 0), ["a"], seed=0)
