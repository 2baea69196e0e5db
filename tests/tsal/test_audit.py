from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_backend.tsal.audit import AuditSample, audit_size, draw, interleave


@pytest.mark.parametrize(
    ("share", "k_max", "pool", "expected"),
    [
        (0.15, 100, 5000, 15),
        (0.15, 20, 5000, 3),
        (0.15, 2, 5000, 1),  # 0.3 rounds to nothing: at least one
        (0.15, 100, 40, 6),  # the batch is the whole pool
        (0.15, 100, 1, 1),
        (0.0, 100, 5000, 0),
        (1.0, 100, 5000, 100),
        (0.5, 100, 0, 0),
    ],
)
def test_size_by_hand(share: float, k_max: int, pool: int, expected: int) -> None:
    assert audit_size(share, k_max, pool) == expected


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_outside_the_unit_interval_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"within \[0, 1\]"):
        audit_size(share, 10, 10)


def test_every_subset_is_drawn_equally_often() -> None:
    draws = 6000
    rng = np.random.default_rng(0)
    counts = Counter(tuple(sorted(draw(5, 2, rng).tolist())) for _ in range(draws))
    assert counts.keys() == set(combinations(range(5), 2))
    # Chi-squared with 9 degrees of freedom: above 27.9 once in a thousand.
    expected = draws / 10
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 27.9


def test_the_first_of_a_draw_are_a_uniform_sample_too() -> None:
    """A batch that is cut short answers the first audit frames only."""
    rng = np.random.default_rng(1)
    counts = Counter(int(draw(5, 3, rng)[0]) for _ in range(5000))
    assert sum((counts[row] - 1000) ** 2 / 1000 for row in range(5)) < 18.5  # 4 degrees of freedom, 0.001


@given(st.integers(0, 60), st.integers(0, 20), st.floats(1.0, 9.0), st.integers(0, 2**32 - 1))
def test_one_audit_frame_in_every_stretch(rest: int, count: int, spacing: float, seed: int) -> None:
    audit = np.arange(100, 100 + count)
    mixed = interleave(np.arange(rest), audit, spacing, np.random.default_rng(seed)).tolist()
    assert sorted(mixed) == [*range(rest), *audit.tolist()]
    assert [row for row in mixed if row < 100] == list(range(rest))
    places = [place for place, row in enumerate(mixed) if row >= 100]
    assert [mixed[place] for place in places] == audit.tolist()
    for number, place in enumerate(places):
        # Where the order runs out, the audit frames that are left move up.
        assert place < int((number + 1) * spacing)
        assert place >= min(int(number * spacing), rest + number)


def test_audit_frames_stand_anywhere_in_their_stretch() -> None:
    rng = np.random.default_rng(2)
    places = Counter(
        int(np.flatnonzero(interleave(np.arange(20), np.array([99]), 5.0, rng) == 99)[0]) for _ in range(5000)
    )
    assert places.keys() == set(range(5))
    assert sum((places[place] - 1000) ** 2 / 1000 for place in range(5)) < 18.5


def test_a_spacing_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        interleave(np.arange(3), np.array([9]), 0.5, np.random.default_rng(0))


def test_a_sample_has_only_frames_that_were_drawn() -> None:
    probabilities = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    labels = np.array([[0, 1], [1, 0], [1, 1]], np.uint8)
    sample = AuditSample.of({30, 10, 99}, [10, 20, 30], probabilities, labels)
    assert len(sample) == 2
    assert sample.probabilities.tolist() == [[0.1, 0.2], [0.5, 0.6]]
    assert sample.labels.tolist() == [[0, 1], [1, 1]]
    assert len(AuditSample.of((), [10, 20, 30], probabilities, labels)) == 0


def test_a_sample_of_other_matrices_is_refused() -> None:
    with pytest.raises(ValueError, match="same shape"):
        AuditSample(np.zeros((2, 2)), np.zeros((1, 2), np.uint8))
