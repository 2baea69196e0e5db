"""Exact bounds of a count in a finite population: rational arithmetic, scipy, and numbers worked by hand."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, hypergeom

from ml_backend.tsal.finite import SLACK, allowed, smallest_draw, tail, upper

small = st.integers(0, 14).flatmap(
    lambda population: st.tuples(st.integers(0, population), st.integers(0, population), st.just(population))
)
levels = st.sampled_from([0.01, 0.05, 0.1, 0.3, 0.5, 0.9])


def exact(found: int, marked: int, drawn: int, population: int) -> Fraction:
    ways = sum(comb(marked, i) * comb(population - marked, drawn - i) for i in range(min(found, drawn) + 1))
    return Fraction(ways, comb(population, drawn))


@given(small, st.integers(-1, 15))
def test_the_tail_is_that_of_rational_arithmetic(sizes: tuple[int, int, int], found: int) -> None:
    marked, drawn, population = sizes
    assert tail(found, marked, drawn, population) == pytest.approx(float(exact(found, marked, drawn, population)))


@pytest.mark.parametrize(
    ("found", "marked", "drawn", "population"),
    [
        (17, 30_001, 1_000, 10**6),
        (100, 30_101, 5_000, 10**6),
        (430, 500, 9_000, 10_000),
        (1_900, 32_001, 60_000, 10**6),
    ],
)
def test_rounding_is_far_smaller_than_the_alpha_given_up_for_it(
    found: int, marked: int, drawn: int, population: int
) -> None:
    expected = hypergeom.cdf(found, population, marked, drawn)
    assert tail(found, marked, drawn, population) == pytest.approx(expected, rel=SLACK / 10)


def test_bounds_by_hand() -> None:
    # 1 of 20 marked and 18 drawn: missed with probability 2/20. 2 marked: both missed with (2 * 1)/(20 * 19) < 0.05.
    assert upper(0, 18, 20, 0.05) == 1
    assert upper(0, 18, 20, 0.11) == 0
    # All drawn: what is found is all there is. Nothing drawn: anything may be marked.
    assert upper(7, 20, 20, 0.05) == 7
    assert upper(0, 0, 20, 0.05) == 20
    # 10 rows, 5 drawn, none marked: 4 marked are all missed with C(6,5)/C(10,5) = 6/252 = 0.024, 3 with 21/252 = 0.083.
    assert upper(0, 5, 10, 0.05) == 3
    assert upper(0, 5, 10, 0.02) == 4


def test_no_wider_than_clopper_and_pearson() -> None:
    for population, drawn, found, ours in [(4921, 150, 0, 95), (4921, 300, 1, 75), (723, 100, 3, 52)]:
        assert upper(found, drawn, population, 0.05) == ours
        assert ours < int(population * beta.ppf(0.95, found + 1, drawn - found))


@given(small, levels)
def test_the_upper_bound_is_the_largest_number_that_is_not_rare(sizes: tuple[int, int, int], alpha: float) -> None:
    found, drawn, population = sizes
    found = min(found, drawn)
    by_search = max(
        marked for marked in range(population + 1) if exact(found, marked, drawn, population) > alpha * (1 - SLACK)
    )
    # Of the rows that were drawn and found unmarked we know: they are never counted.
    assert upper(found, drawn, population, alpha) == by_search <= population - (drawn - found)


@given(small, levels)
def test_a_draw_is_allowed_what_its_upper_bound_allows(sizes: tuple[int, int, int], alpha: float) -> None:
    limit, drawn, population = sizes
    passing = [x for x in range(drawn + 1) if upper(x, drawn, population, alpha) - x <= limit]
    assert passing == list(range(allowed(limit, drawn, population, alpha) + 1))


@given(small, st.integers(0, 15), levels)
def test_the_smallest_draw_is_the_first_that_is_allowed_as_much(
    sizes: tuple[int, int, int], found: int, alpha: float
) -> None:
    limit, _, population = sizes
    drawn = smallest_draw(limit, found, population, alpha)
    assert drawn <= max(0, population - limit)
    enough = [size for size in range(population + 1) if allowed(limit, size, population, alpha) >= min(found, size)]
    assert drawn == min(enough)


def test_the_smallest_draws_for_three_percent() -> None:
    # The rule of three says 3 / 0.03 = 100 rows without one that is marked.
    assert [smallest_draw(30_000, found, 10**6, 0.05) for found in (0, 1, 2, 5)] == [99, 157, 208, 348]
    assert [smallest_draw(147, found, 4_921, 0.05) for found in (0, 1, 2, 5)] == [98, 153, 202, 330]


@pytest.mark.parametrize(
    "call",
    [
        lambda: tail(0, 11, 5, 10),
        lambda: tail(0, 5, 11, 10),
        lambda: tail(0, -1, 5, 10),
        lambda: upper(6, 5, 10, 0.05),
        lambda: upper(-1, 5, 10, 0.05),
        lambda: upper(0, 11, 10, 0.05),
        lambda: upper(0, 5, 10, 0.0),
        lambda: upper(0, 5, 10, float("nan")),
        lambda: allowed(-1, 5, 10, 0.05),
        lambda: allowed(1, 11, 10, 0.05),
        lambda: allowed(1, 5, 10, 1.0),
        lambda: smallest_draw(-1, 0, 10, 0.05),
        lambda: smallest_draw(1, -1, 10, 0.05),
        lambda: smallest_draw(1, 0, 10, 1.0),
    ],
)
def test_unusable_values_are_refused(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        call()
