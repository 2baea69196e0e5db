"""Forecasts of the answers that a certificate takes: by hand, by search, and against simulated audits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from ml_backend.tsal import finite, forecast
from ml_backend.tsal.certificate import Plan, certify
from ml_backend.tsal.forecast import Forecast, Prospect, cheapest, of_size, within


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def prospect(confidence: ArrayLike, people: int = 0, uncertainty: ArrayLike | None = None) -> Prospect:
    sure = np.asarray(confidence, float)
    return Prospect(1 - sure if uncertainty is None else np.asarray(uncertainty, float), sure, people)


def mixed(n: int, seed: int = 0) -> NDArray[np.float64]:
    """Most labels are sure, a tail is not; about 8% are wrong."""
    return 1 - 0.9 * rng(seed).beta(0.3, 3, n)


def test_labels_that_are_surely_right_take_the_audit_and_no_more() -> None:
    certain = prospect(np.ones(1000))
    assert of_size(certain, 150, 0.03, 0.05) == Forecast(150, 1, 0.03, 150.0)
    assert of_size(certain, 50, 0.03, 0.05) == Forecast(50, -1, 0.03, 1000.0)  # too small to certify anything
    best = cheapest(certain, 0.03, 0.05)
    assert (best.size, best.answers) == (finite.smallest_draw(30, 0, 1000, 0.05), best.size)


def test_labels_that_are_surely_wrong_take_everybody_but_the_limit() -> None:
    best = cheapest(prospect(np.zeros(1000)), 0.03, 0.05)
    assert (best.size, best.answers) == (970, 970.0)


def test_an_expectation_by_hand() -> None:
    # 100 rows, the last 10 wrong for certain, 50 drawn; none may be found for a limit of 4: C(95,50)/C(100,50) = 0.028.
    ten = prospect([1.0] * 90 + [0.0] * 10)
    one = of_size(ten, 50, 0.04, 0.05)
    assert one.allowed == 0
    # Up to the k-th wrong row none is found with (1 - k/100)^50; the wrong rows share their uncertainty, so k is 10.
    assert one.answers == pytest.approx(50 + 50 * 0.10 * (1 - 0.9**50))
    apart = prospect([1.0] * 90 + [0.0] * 10, uncertainty=np.arange(100))
    above = sum(1 - (1 - k / 100) ** 50 for k in range(1, 11)) / 100
    assert of_size(apart, 50, 0.04, 0.05).answers == pytest.approx(50 + 50 * above)


@pytest.mark.parametrize(("epsilon", "people"), [(0.03, 0), (0.1, 20), (0.25, 5)])
def test_the_cheapest_is_the_cheapest_of_all_sizes(epsilon: float, people: int) -> None:
    one = prospect(mixed(120), people)
    every = [of_size(one, size, epsilon, 0.1).answers for size in range(121)]
    assert cheapest(one, epsilon, 0.1).answers == pytest.approx(min(every))


@pytest.mark.parametrize("budget", [1, 30, 77])
def test_a_budget_certifies_nearly_what_the_best_of_all_sizes_does(budget: int) -> None:
    one = prospect(mixed(120), 10)
    limits = {
        limit
        for limit in range(121)
        if min(of_size(one, size, limit / 130, 0.1).answers for size in range(121)) <= budget
    }
    found = within(one, budget, 0.1)
    assert found.answers <= budget
    assert of_size(one, found.size, found.epsilon, 0.1) == found
    assert min(limits) <= round(found.epsilon * 130) <= min(limits) + 1


def test_the_ends_of_a_budget() -> None:
    one = prospect(mixed(120), 30)
    assert within(one, 0, 0.05) == Forecast(0, 0, 120 / 150, 0.0)
    everything = within(one, 120, 0.05)
    assert everything.epsilon == 0.0
    assert everything == within(one, 10**6, 0.05)


def test_more_budget_never_certifies_less() -> None:
    one = prospect(mixed(3000))
    errors = [within(one, budget, 0.05).epsilon for budget in range(0, 3001, 250)]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize(("n", "people"), [(700, 40), (4600, 320)])
def test_simulated_audits_take_as_many_answers_as_expected(n: int, people: int) -> None:
    one, chance = prospect(mixed(n), people), rng(1)
    for expected in (cheapest(one, 0.03, 0.05), within(one, n // 20, 0.05), of_size(one, 300, 0.05, 0.05)):
        taken = []
        for _ in range(400):
            wrong = chance.random(n) > one.confidence
            plan = Plan.draw(one.uncertainty, people, expected.epsilon, 0.05, expected.size, chance)
            taken.append(expected.size + len(certify(plan, wrong[plan.drawn]).to_people))
            assert plan.allowed == expected.allowed
        assert np.mean(taken) == pytest.approx(expected.answers, rel=0.03)


def test_errors_that_come_in_clips_move_the_forecast_little() -> None:
    """Frames of a clip are all right or all wrong; the confidence says how often."""
    confidence = np.repeat(mixed(330, 2), 14)
    one, chance, taken = prospect(confidence, 320, 1 - confidence + rng(3).normal(0, 1e-3, 4620)), rng(4), []
    expected = cheapest(one, 0.03, 0.05)
    for _ in range(400):
        wrong = np.repeat(chance.random(330), 14) > confidence
        plan = Plan.draw(one.uncertainty, 320, 0.03, 0.05, expected.size, chance)
        taken.append(expected.size + len(certify(plan, wrong[plan.drawn]).to_people))
    assert np.mean(taken) == pytest.approx(expected.answers, rel=0.1)


def test_the_grid_over_a_large_pool_is_fine_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    one = prospect(np.round(mixed(60_000), 3), 1000)
    coarse = of_size(one, 900, 0.03, 0.05).answers
    monkeypatch.setattr(forecast, "GRID", 60_000)
    assert of_size(one, 900, 0.03, 0.05).answers == pytest.approx(coarse, rel=1e-3)


def test_a_million_frames() -> None:
    one = prospect(mixed(10**6))
    best = cheapest(one, 0.03, 0.05)
    assert best.answers < 250_000
    assert within(one, int(best.answers) + 1, 0.05).epsilon == pytest.approx(0.03, rel=0.01)


@given(st.integers(1, 60), st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_the_order_of_rows_says_nothing_and_ties_stand_together(n: int, seed: int, values: int) -> None:
    chance = rng(seed)
    uncertainty, confidence, there = chance.integers(0, values, n), chance.random(n), chance.permutation(n)
    first = cheapest(prospect(confidence, 3, uncertainty), 0.1, 0.1)
    second = cheapest(prospect(confidence[there], 3, uncertainty[there]), 0.1, 0.1)
    assert first == pytest.approx(second)
    assert of_size(prospect(confidence, 3, np.zeros(n)), n // 2, 0.1, 0.1).answers >= n // 2


def test_a_pool_that_people_have_labelled_takes_nothing() -> None:
    done = prospect([], 5)
    assert cheapest(done, 0.03, 0.05) == within(done, 10, 0.05) == of_size(done, 0, 0.0, 0.05) == (0, 0, 0.0, 0.0)


@pytest.mark.parametrize(
    "call",
    [
        lambda: prospect([0.5, float("nan")], 0, [0, 1]),
        lambda: prospect([0.5, 1.5]),
        lambda: prospect([[0.5]], 0, [0]),
        lambda: prospect([0.5], 0, [0, 1]),
        lambda: prospect([0.5], 0, [float("nan")]),
        lambda: prospect([0.5], -1),
        lambda: prospect([]),
        lambda: of_size(prospect([0.5]), 2, 0.1, 0.1),
        lambda: of_size(prospect([0.5]), -1, 0.1, 0.1),
        lambda: of_size(prospect([0.5]), 1, -0.1, 0.1),
        lambda: of_size(prospect([0.5]), 1, 0.1, 1.0),
        lambda: cheapest(prospect([0.5]), 1.1, 0.1),
        lambda: cheapest(prospect([0.5]), 0.1, 0.0),
        lambda: within(prospect([0.5]), -1, 0.1),
        lambda: within(prospect([0.5]), 1, 0.0),
    ],
)
def test_unusable_values_are_refused(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="must"):
        call()
