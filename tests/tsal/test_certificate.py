"""The guarantee: by exact enumeration of every draw, by simulation, and by hand."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import combinations
from math import comb, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from ml_backend.tsal import finite
from ml_backend.tsal.certificate import Certificate, Plan, certify, pool_limit, spend

ALL_DIFFERENT = tuple(range(8))
TIED = (0, 0, 1, 1, 1, 2, 3, 3)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def plan(uncertainty: ArrayLike, drawn: ArrayLike, people: int = 0, epsilon: float = 0.2, alpha: float = 0.1) -> Plan:
    return Plan(np.asarray(uncertainty, float), people, epsilon, alpha, np.asarray(drawn))


def mask(rows: NDArray[np.intp]) -> int:
    return sum(1 << int(row) for row in rows)


def failures(uncertainty: tuple[float, ...], size: int, people: int, epsilon: float, alpha: float) -> NDArray[np.int64]:
    """Count, for each of the 2^n patterns of wrong rows, the draws of ``size`` after which the statement is false."""
    n = len(uncertainty)
    patterns = np.arange(2**n)
    wrong_rows = np.array([bin(pattern).count("1") for pattern in patterns])
    count = np.zeros(2**n, np.int64)
    for drawn in combinations(range(n), size):
        one = plan(uncertainty, drawn, people, epsilon, alpha)
        answered = patterns & mask(one.drawn)
        kept, at_most = np.zeros(2**n, np.int64), np.zeros(2**n, np.int64)
        for answers in np.unique(answered):  # what is decided depends on the answers only
            certificate = certify(one, [(answers >> row) & 1 for row in drawn])
            assert certificate.at_most <= one.limit
            kept[answered == answers], at_most[answered == answers] = mask(certificate.kept), certificate.at_most
        count += wrong_rows[patterns & kept] > at_most
    return count


@pytest.mark.parametrize("uncertainty", [ALL_DIFFERENT, TIED], ids=["all different", "tied"])
@pytest.mark.parametrize(("people", "epsilon"), [(0, 0.0), (0, 0.12), (0, 0.25), (0, 0.4), (6, 0.2)])
@pytest.mark.parametrize("alpha", [0.1, 0.35])
def test_whatever_is_wrong_the_statement_fails_in_at_most_alpha_of_all_draws(
    uncertainty: tuple[float, ...], people: int, epsilon: float, alpha: float
) -> None:
    for size in range(9):
        share = failures(uncertainty, size, people, epsilon, alpha) / comb(8, size)
        assert share.max() <= alpha


def test_ten_rows_enumerated_too() -> None:
    share = failures(tuple(range(10)), 7, 2, 0.17, 0.2) / comb(10, 7)
    assert share.max() <= 0.2


def test_the_worst_pattern_uses_the_alpha_that_there_is() -> None:
    """The limit is 1 of 9, and 3 wrong rows hide two or more as often as 0.405; nothing is given away."""
    assert finite.allowed(1, 5, 9, 0.42) == 1
    worst = failures(tuple(range(9)), 5, 0, 0.12, 0.42).max()
    assert Fraction(int(worst), comb(9, 5)) == Fraction(comb(6, 5) + 3 * comb(6, 4), comb(9, 5))
    assert finite.tail(2, 4, 5, 9) > 0.42  # one more found and allowed would be too many


def test_a_certificate_by_hand() -> None:
    # 20 rows and 20 frames of people's; a tenth of the 40 may be wrong: 4. Of 12 drawn rows, one may be wrong: then 6
    # wrong rows would be found with [C(14,12) + 6 C(14,11)]/C(20,12) = 2275/125970 = 0.018; with 2 allowed, 7 with
    # [C(13,12) + 7 C(13,11) + 21 C(13,10)]/125970 = 0.052.
    uncertainty = np.arange(20) / 20
    one = plan(uncertainty, [19, 18, 17, 16, 15, 10, 9, 8, 5, 4, 1, 0], people=20, epsilon=0.1, alpha=0.05)
    assert (one.pool, one.limit, one.allowed) == (40, 4, 1)
    certificate = certify(one, [1, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0])  # rows 19, 17 and 5
    assert certificate.kept.tolist() == [2, 3, 6, 7, 11, 12, 13, 14]  # all below 17, the second that is wrong
    assert certificate.to_people.tolist() == []
    assert (certificate.wrong, certificate.at_most, certificate.error) == (3, 4, 0.1)
    earlier = certify(one, [1, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0])  # and row 10
    assert earlier.kept.tolist() == [2, 3, 6, 7]
    assert earlier.to_people.tolist() == [11, 12, 13, 14]
    assert (earlier.wrong, earlier.at_most) == (4, 4)


def test_the_example_of_the_documentation() -> None:
    """docs/certificate.md: 1,880 machine labels, 138 drawn, the errors are number 904, 1,651 and 1,777 of the line."""
    behind = [1650, 1776, *range(1800, 1815)]
    before = [903, *np.setdiff1d(np.arange(1650), [903])[:120].tolist()]
    one = plan(np.arange(1880), before + behind, people=120, epsilon=0.03, alpha=0.05)
    assert (one.pool, one.limit, len(one.drawn), one.allowed) == (2000, 60, 138, 1)
    assert plan(np.arange(1880), one.drawn[1:], 120, 0.03, 0.05).allowed == 0
    certificate = certify(one, np.isin(one.drawn, [903, 1650, 1776]))
    assert (len(certificate.kept), len(certificate.to_people), certificate.at_most) == (1529, 213, 60)


def test_where_everything_stands_its_own_bound_is_certified() -> None:
    one = plan(np.arange(20), np.arange(12), people=20, epsilon=0.1, alpha=0.05)
    clean = certify(one, np.zeros(12))
    assert clean.to_people.size == 0
    # None of 12 found: 3 wrong rows are all missed with C(17,12)/C(20,12) = 0.049, 2 with 0.147.
    assert (clean.at_most, clean.error, clean.error_of_all) == (2, 0.05, 0.05)


def test_where_nothing_stands_it_says_what_to_ask_instead() -> None:
    every_second, answers = np.arange(0, 20, 2), [0, 1, 1] + [0] * 7  # rows 2 and 4 are wrong
    one = plan(np.arange(20), every_second, epsilon=0.05, alpha=0.05)  # 1 of 20: two would be missed with 45/190
    assert one.allowed == -1
    certificate = certify(one, answers)
    assert (certificate.kept.size, certificate.to_people.tolist()) == (0, list(range(1, 20, 2)))
    assert (certificate.at_most, certificate.error) == (0, 0.0)  # people label everything
    # None found: 4 wrong rows are all missed with 210/4845 = 0.043, 3 with 0.105. Row 1 stands from 3/20 on.
    assert (certificate.error_of_some, certificate.error_of_all) == (0.15, 0.3)
    kept = [len(certify(plan(np.arange(20), every_second, 0, limit / 20, 0.05), answers).kept) for limit in range(9)]
    assert kept == [0, 0, 0, 1, 1, 2, 10, 10, 10]


def clips(seed: int, count: int = 200, frames: int = 14) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Frames of a clip share their difficulty, and mostly their error: uncertainty and what is wrong."""
    drawn = rng(seed)
    difficulty = np.repeat(drawn.beta(1, 9, count), frames)
    whole = np.repeat(drawn.random(count), frames)
    alone = drawn.random(count * frames)
    wrong = np.where(drawn.random(count * frames) < 0.8, whole, alone) < difficulty
    return difficulty + drawn.normal(0, 0.03, count * frames), wrong


def failed(uncertainty: NDArray[np.float64], wrong: NDArray[np.bool_], size: int, draws: int) -> tuple[float, float]:
    """Share of draws after which more is wrong than the certificate says, and mean share of rows that stand."""
    drawn, false, stands = rng(1), 0, 0
    for _ in range(draws):
        one = Plan.draw(uncertainty, 300, 0.03, 0.05, size, drawn)
        certificate = certify(one, wrong[one.drawn])
        false += int(wrong[certificate.kept].sum()) > certificate.at_most
        stands += len(certificate.kept)
    return false / draws, stands / draws / len(uncertainty)


BY_CHANCE = 0.05 + 3 * sqrt(0.05 * 0.95 / 2000)


@pytest.mark.integration  # a simulation that takes seconds
@pytest.mark.parametrize("size", [150, 300])
@pytest.mark.parametrize("seed", [0, 1])
def test_simulated_clips_break_it_no_more_often_than_alpha(seed: int, size: int) -> None:
    uncertainty, wrong = clips(seed)
    assert 0.06 < wrong.mean() < 0.14
    share, stands = failed(uncertainty, wrong, size, 2000)
    assert share <= BY_CHANCE
    assert stands > 0.2


@pytest.mark.integration  # a simulation that takes seconds
def test_an_adversary_who_knows_the_rules_reaches_alpha_and_no_more() -> None:
    """The wrong rows are the surest ones, and just one more than the audit can tell."""
    allowed = finite.allowed(int(0.03 * 3100), 300, 2800, 0.05)
    wrong = np.arange(2800) < int(0.03 * 3100) + 1 + allowed
    share, _ = failed(np.arange(2800, dtype=np.float64), wrong, 300, 2000)
    assert 0.02 < share <= BY_CHANCE


@pytest.mark.integration  # a simulation that takes seconds
@pytest.mark.parametrize("turned", ["surest are wrong", "uninformative", "one value"])
def test_an_uncertainty_that_misleads_costs_answers_and_not_the_guarantee(turned: str) -> None:
    uncertainty, wrong = clips(0)
    bad = {"surest are wrong": -uncertainty, "uninformative": rng(5).random(2800), "one value": np.zeros(2800)}[turned]
    share, stands = failed(bad, wrong, 150, 2000)
    assert share <= BY_CHANCE
    assert stands < 0.7 * failed(uncertainty, wrong, 150, 200)[1]


def answered(one: Plan, wrong: NDArray[np.bool_]) -> Certificate:
    return certify(one, wrong[one.drawn])


cases = st.tuples(st.integers(1, 40), st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0.01, 0.9))


@given(cases, st.integers(0, 30), st.integers(1, 40))
def test_rows_are_split_without_rest_and_ties_stand_together(
    case: tuple[int, int, float, float], people: int, values: int
) -> None:
    n, seed, epsilon, alpha = case
    chance = rng(seed)
    uncertainty, wrong = chance.integers(0, values, n), chance.random(n) < chance.random()
    one = Plan.draw(uncertainty, people, epsilon, alpha, int(chance.integers(0, n + 1)), chance)
    certificate = answered(one, wrong)
    together = np.concatenate([certificate.kept, certificate.to_people, one.drawn])
    assert sorted(together.tolist()) == list(range(n))
    assert not set(uncertainty[certificate.kept]) & set(uncertainty[certificate.to_people])
    if certificate.kept.size and certificate.to_people.size:
        assert uncertainty[certificate.kept].max() < uncertainty[certificate.to_people].min()
    assert certificate.at_most <= one.limit <= epsilon * one.pool + 1e-9
    assert certificate.wrong == wrong[one.drawn].sum()
    # The rule is the fixed sequence of upper bounds, one threshold after the other, none skipped.
    passed = np.zeros(n, bool)
    for threshold in np.unique(uncertainty):
        found = int((wrong[one.drawn] & (uncertainty[one.drawn] <= threshold)).sum())
        if finite.upper(found, len(one.drawn), n, alpha) - found > one.limit:
            break
        passed = uncertainty <= threshold
    assert certificate.kept.tolist() == np.setdiff1d(np.flatnonzero(passed), one.drawn).tolist()


@given(cases)
def test_the_order_of_rows_and_of_the_draw_says_nothing(case: tuple[int, int, float, float]) -> None:
    n, seed, epsilon, alpha = case
    chance = rng(seed)
    uncertainty, wrong = chance.integers(0, 8, n), chance.random(n) < 0.3
    one = Plan.draw(uncertainty, 3, epsilon, alpha, int(chance.integers(0, n + 1)), chance)
    there = chance.permutation(n)
    back = np.argsort(there)
    other = plan(uncertainty[there], chance.permutation(back[one.drawn]), 3, epsilon, alpha)
    first, second = answered(one, wrong), answered(other, wrong[there])
    assert first.kept.tolist() == sorted(there[second.kept].tolist())
    assert (first.at_most, first.error_of_some, first.error_of_all) == (
        second.at_most,
        second.error_of_some,
        second.error_of_all,
    )


@given(cases)
def test_only_the_order_of_the_uncertainty_counts(case: tuple[int, int, float, float]) -> None:
    n, seed, epsilon, alpha = case
    chance = rng(seed)
    uncertainty, wrong = chance.integers(0, 8, n), chance.random(n) < 0.3
    one = Plan.draw(uncertainty, 0, epsilon, alpha, n // 2, chance)
    stretched = plan(np.exp(uncertainty) - 100, one.drawn, 0, epsilon, alpha)
    assert answered(one, wrong).kept.tolist() == answered(stretched, wrong).kept.tolist()


@given(cases)
def test_an_audit_of_everything_leaves_nothing_open(case: tuple[int, int, float, float]) -> None:
    n, seed, epsilon, alpha = case
    certificate = answered(Plan.draw(np.arange(n), 0, epsilon, alpha, n, rng(seed)), rng(seed).random(n) < 0.5)
    assert (certificate.kept.size, certificate.to_people.size, certificate.at_most) == (0, 0, 0)
    assert certificate.error_of_all == 0.0


def test_one_frame() -> None:
    unseen = certify(Plan.draw([0.5], 0, 0.03, 0.05, 0, rng()), [])
    assert (unseen.kept.tolist(), unseen.to_people.tolist(), unseen.error_of_all) == ([], [0], 1.0)
    assert certify(Plan.draw([0.5], 99, 0.03, 0.05, 0, rng()), []).kept.tolist() == [0]  # 1 of 100 may well be wrong


def test_a_pool_that_people_have_labelled_needs_nothing() -> None:
    certificate = certify(Plan.draw([], 10, 0.03, 0.05, 0, rng()), [])
    assert (certificate.kept.size, certificate.to_people.size, certificate.error_of_all) == (0, 0, 0.0)


def test_all_right_and_all_wrong() -> None:
    one = Plan.draw(rng().random(2000), 100, 0.03, 0.05, 120, rng(3))
    assert len(certify(one, np.zeros(120)).kept) == 1880
    everything_wrong = certify(one, np.ones(120))
    assert wrong_share(everything_wrong) < 0.03
    assert everything_wrong.error_of_all == 1880 / 2100


def wrong_share(certificate: Certificate) -> float:
    """Share of a pool of 2,100 that is wrong where every machine label is."""
    return len(certificate.kept) / 2100


def test_the_seed_is_the_draw() -> None:
    first, again, other = (Plan.draw(np.arange(500), 0, 0.1, 0.1, 50, rng(seed)).drawn.tolist() for seed in (4, 4, 5))
    assert first == again != other
    assert len(set(first)) == 50


def test_the_limit_is_the_largest_number_within_the_share() -> None:
    for pool in range(1, 300):
        for limit in range(pool + 1):
            assert pool_limit(limit / pool, pool - 1, 1) == limit
    assert pool_limit(0.29, 100, 0) == 29
    assert pool_limit(0.0399, 50, 50) == 3


def test_alpha_is_spent_by_three_quarters_of_the_rest() -> None:
    spent = [spend(0.05, number) for number in range(1, 200)]
    assert spent[:3] == pytest.approx([0.0375, 0.009375, 0.00234375])
    for alpha in (0.05, 0.1, 1 / 3, 0.9999):
        assert sum(Fraction(spend(alpha, number)) for number in range(1, 200)) < Fraction(alpha)


@pytest.mark.parametrize(
    "call",
    [
        lambda: plan([0.1, float("nan")], [0]),
        lambda: plan([0.1, float("inf")], [0]),
        lambda: plan([[0.1, 0.2]], [0]),
        lambda: plan([0.1, 0.2], [2]),
        lambda: plan([0.1, 0.2], [-1]),
        lambda: plan([0.1, 0.2], [1, 1]),
        lambda: plan([0.1, 0.2], [0.5]),
        lambda: plan([0.1, 0.2], [[0]]),
        lambda: plan([0.1], [0], people=-1),
        lambda: plan([], []),
        lambda: plan([0.1], [0], epsilon=1.1),
        lambda: plan([0.1], [0], epsilon=float("nan")),
        lambda: plan([0.1], [0], alpha=0.0),
        lambda: plan([0.1], [0], alpha=float("nan")),
        lambda: Plan.draw([0.1, 0.2], 0, 0.1, 0.1, 3, rng()),
        lambda: Plan.draw([0.1, 0.2], 0, 0.1, 0.1, -1, rng()),
        lambda: certify(plan([0.1, 0.2], [0]), [0, 1]),
        lambda: certify(plan([0.1, 0.2], [0]), [0.5]),
        lambda: certify(plan([0.1, 0.2], [0]), [float("nan")]),
        lambda: certify(plan([0.1, 0.2], [0]), np.array([None])),
        lambda: spend(0.0, 1),
        lambda: spend(0.05, 0),
    ],
)
def test_unusable_values_are_refused(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="must"):
        call()
