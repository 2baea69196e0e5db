"""Waits by the hour, on numbers that can be counted by hand."""

from __future__ import annotations

import pytest

from soak.waits import Spread, Wait, Waits, by_hour

pytestmark = pytest.mark.unit


def test_percentiles_are_of_the_hour_in_which_a_wait_ended() -> None:
    first = [Wait("next", 100.0 + number, number / 100) for number in range(1, 101)]
    second = [Wait("next", 100.0 + 3600, 7.0)]
    found = by_hour(first + second, began=100.0, hour=3600.0)
    assert found == {"next": [Spread(0, 100, 0, 0.5, 0.99, 1.0), Spread(1, 1, 0, 7.0, 7.0, 7.0)]}


def test_what_was_not_answered_is_counted_and_has_no_part_in_the_percentiles() -> None:
    waits = [Wait("submit", 1, 2.0), Wait("submit", 2, 30.0, answered=False), Wait("next", 3, 1.0, answered=False)]
    found = by_hour(waits, began=0, hour=10)
    assert found["submit"] == [Spread(0, 1, 1, 2.0, 2.0, 2.0)]
    assert found["next"] == [Spread(0, 0, 1, None, None, None)]


def test_what_ended_before_the_day_began_is_left_out() -> None:
    assert by_hour([Wait("next", 5, 1.0)], began=10, hour=10) == {"next": []}


def test_a_block_is_timed_whether_it_ends_well_or_not() -> None:
    waits = Waits()
    with waits.timed("next"):
        pass
    with pytest.raises(KeyError), waits.timed("next"):
        raise KeyError
    (spread,) = waits.by_hour(0.0, 10.0**12)["next"]
    assert (spread.count, spread.failed) == (1, 1)
