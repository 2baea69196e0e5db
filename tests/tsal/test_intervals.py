"""Confidence intervals of shares: hand-worked ends, and how often they hold the truth."""

from __future__ import annotations

from collections.abc import Callable
from math import comb

import numpy as np
import pytest

from ml_backend.tsal.intervals import by_patient, newcombe, wilson

Z95 = 1.959963984540054


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_wilson_of_8_in_10_is_the_textbook_interval() -> None:
    # p = 0.8, z = 1.96: (0.8 + 0.19207 -+ 1.96 sqrt(0.016 + 0.0096037)) / 1.38415
    assert wilson(8, 10) == pytest.approx((0.490163, 0.943318), abs=1e-6)


def test_wilson_of_all_successes_ends_at_one() -> None:
    assert wilson(10, 10) == pytest.approx((1 / (1 + Z95**2 / 10), 1.0))


def test_wilson_mirrors_successes_and_failures() -> None:
    low, high = wilson(3, 17)
    assert wilson(14, 17) == pytest.approx((1 - high, 1 - low))


def test_wilson_narrows_with_less_confidence_and_more_trials() -> None:
    assert wilson(5, 10, 0.95).low < wilson(5, 10, 0.8).low < 0.5
    assert wilson(5, 10).low < wilson(50, 100).low


def test_nothing_is_known_without_a_trial() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_wilson_holds_the_truth_about_as_often_as_it_says(share: float) -> None:
    n = 60
    covered = 0.0
    for hits in range(n + 1):
        low, high = wilson(hits, n)
        if low <= share <= high:
            covered += comb(n, hits) * share**hits * (1 - share) ** (n - hits)
    assert 0.93 < covered < 0.97


@pytest.mark.parametrize(
    ("first", "second", "ends"),
    [
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((6, 7), (2, 7), (0.0582, 0.8062)),
        ((5, 56), (0, 29), (-0.0381, 0.1926)),
        ((0, 10), (0, 20), (-0.1611, 0.2775)),
        ((0, 10), (0, 10), (-0.2775, 0.2775)),
        ((10, 10), (0, 20), (0.6791, 1.0)),
        ((10, 10), (0, 10), (0.6075, 1.0)),
    ],
)
def test_newcombe_gives_the_published_intervals(
    first: tuple[int, int], second: tuple[int, int], ends: tuple[float, float]
) -> None:
    """Newcombe, Statistics in Medicine 17 (1998) 873-890, table II, method 10."""
    assert newcombe(first, second) == pytest.approx(ends, abs=5e-5)


def test_newcombe_by_hand() -> None:
    # 8 of 10 has the Wilson interval 0.490163 to 0.943318, 5 of 10 0.236593 to 0.763407 (both worked above or alike):
    # 0.3 - sqrt(0.309837^2 + 0.263407^2) and 0.3 + sqrt(0.143318^2 + 0.263407^2).
    assert newcombe((8, 10), (5, 10)) == pytest.approx((-0.106673, 0.599870), abs=1e-5)


def test_newcombe_mirrors_the_two_shares() -> None:
    low, high = newcombe((3, 17), (9, 20))
    assert newcombe((9, 20), (3, 17)) == pytest.approx((-high, -low))


@pytest.mark.parametrize("missing", [((0, 0), (3, 5)), ((3, 5), (0, 0))])
def test_a_difference_needs_trials_on_both_sides(missing: tuple[tuple[int, int], tuple[int, int]]) -> None:
    assert newcombe(*missing) == (-1.0, 1.0)


def test_newcombe_holds_the_truth_about_as_often_as_it_says() -> None:
    covered = 0.0
    for one in range(31):
        for other in range(21):
            low, high = newcombe((one, 30), (other, 20))
            if low <= 0.9 - 0.7 <= high:
                chance = comb(30, one) * 0.9**one * 0.1 ** (30 - one)
                covered += chance * comb(20, other) * 0.7**other * 0.3 ** (20 - other)
    assert 0.93 < covered < 0.98


def test_two_patients_enumerated_by_hand() -> None:
    # Patients a (one frame, 1) and b (one frame, 0) with the two imagined ones: four draws from {1, 0, 0, 1}, so the
    # mean is binomial(4, 1/2) / 4. P(0) = 1/16 is more than 2.5%, so both ends are reached.
    assert by_patient([1, 0], ["a", "b"], rng()) == (0.0, 1.0)
    # At 80% the lower tail is 10%: P(0) = 0.0625, P(at most 1/4) = 0.3125.
    assert by_patient([1, 0], ["a", "b"], rng(), confidence=0.8) == (0.25, 0.75)


def test_the_mean_is_over_frames_so_that_large_patients_weigh_more() -> None:
    values, patients = [1] * 90 + [0] * 10, ["large"] * 90 + ["small"] * 10
    many = [f"{patient} {copy}" for copy in range(100) for patient in patients]
    low, high = by_patient(values * 100, many, rng())
    assert low < 0.9 < high
    assert high - low < 0.1


def test_frames_of_one_patient_are_one_trial() -> None:
    few = by_patient([1, 0, 1, 1], ["a", "b", "c", "d"], rng())
    copies = by_patient([1, 0, 1, 1] * 50, ["a", "b", "c", "d"] * 50, rng())
    assert copies == pytest.approx(few)
    assert copies.low < wilson(150, 200).low


def test_three_patients_who_agree_do_not_make_certainty() -> None:
    low, high = by_patient([1.0] * 300, ["a"] * 100 + ["b"] * 100 + ["c"] * 100, rng())
    assert low <= 0.5
    assert high == 1.0


@pytest.mark.parametrize("patients", [[], ["a"], ["a", "a", "a"]])
def test_fewer_than_two_patients_tell_nothing(patients: list[str]) -> None:
    assert by_patient([1.0] * len(patients), patients, rng()) == (0.0, 1.0)


def test_the_same_seed_gives_the_same_interval() -> None:
    values, patients = [0, 1, 1, 0, 1], ["a", "a", "b", "c", "d"]
    assert by_patient(values, patients, rng()) == by_patient(values, patients, rng())


@pytest.mark.parametrize("patients_each", [6, 12, 40])
def test_by_patient_holds_the_truth_where_frames_of_a_patient_agree(patients_each: int) -> None:
    """Patients differ (beta 2, 1), each with 20 frames; intervals of frames as if independent would fail by far."""
    drawn = rng()
    truth, trials, held, naive = 2 / 3, 300, 0, 0
    names = [str(patient) for patient in range(patients_each) for _ in range(20)]
    for _ in range(trials):
        values = (drawn.random(len(names)) < np.repeat(drawn.beta(2, 1, patients_each), 20)).astype(float)
        low, high = by_patient(values, names, drawn, draws=400)
        held += low <= truth <= high
        low, high = wilson(int(values.sum()), len(values))
        naive += low <= truth <= high
    assert held / trials > 0.91
    assert naive / trials < 0.75


@pytest.mark.parametrize(
    "call",
    [
        lambda: wilson(3, 2),
        lambda: wilson(-1, 2),
        lambda: wilson(1, 2, 1.0),
        lambda: newcombe((3, 2), (1, 2)),
        lambda: by_patient([0.5], ["a", "b"], rng()),
        lambda: by_patient([0.5, 1.5], ["a", "b"], rng()),
        lambda: by_patient([0.5, float("nan")], ["a", "b"], rng()),
        lambda: by_patient([0.5, 0.5], ["a", "b"], rng(), confidence=0.0),
    ],
)
def test_unusable_values_are_refused(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        call()
