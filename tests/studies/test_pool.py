from __future__ import annotations

import numpy as np

from studies.pool import due, simulate_pool, team
from studies.simulation import Way
from studies.team import Sizes
from tests.studies.pools import LABELS, material

SIZES = Sizes(k_max=8, refresh=4, audit=0.5)
MADE = material(np.tile(LABELS, (4, 1)))  # 32 clips, 160 frames


def row(answered: int, decisions: float, doubt: float = 0.015) -> dict[str, float]:
    return {"answered": answered, "decisions": decisions, "doubt": doubt}


def test_a_finish_is_due_when_another_batch_no_longer_lowers_the_forecast() -> None:
    assert not due([row(0, 100)], 8)
    assert not due([row(0, 100), row(4, 100)], 8)  # half a batch says nothing
    assert not due([row(0, 100), row(4, 90), row(8, 99)], 8)
    assert due([row(0, 100), row(4, 120), row(8, 100)], 8)
    assert due([row(0, 200), row(4, 90), row(8, 100), row(12, 95)], 8)  # against the row a batch ago


def test_a_finish_is_not_due_while_more_than_half_of_the_error_is_believed_to_be_there() -> None:
    assert not due([row(0, 100), row(8, 100, doubt=0.016)], 8)


def test_a_pool_is_measured_until_it_is_right_and_certified() -> None:
    found = simulate_pool(team(MADE, "cover-memory", "known", SIZES, 0, Way()), 1.0)
    rounds = found["rounds"]
    assert [one["answered"] for one in rounds] == list(range(0, 4 * len(rounds), 4))
    assert rounds[0]["accuracy"] < 0.5
    assert rounds[0]["corrected"] == 0
    assert rounds[1]["corrected"] == 4
    assert rounds[-1]["accuracy"] >= 0.99
    corrected = [one["corrected"] for one in rounds]
    assert corrected == sorted(corrected)
    proved = found["certificate"]
    assert proved["draws"] == 200
    assert proved["wrong"] <= 10
    assert proved["begun"] + proved["audit"] <= proved["decisions"] <= 1.0


def test_a_run_ends_with_its_budget() -> None:
    found = simulate_pool(team(MADE, "random", "hidden", SIZES, 0, Way()), 0.1)
    assert [one["answered"] for one in found["rounds"]] == [0, 4, 8, 12, 16]


def test_the_same_seed_gives_the_same_run_and_another_another() -> None:
    first, again, other = (
        simulate_pool(team(MADE, "cover-memory", "known", SIZES, seed, Way()), 0.2)["rounds"] for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
