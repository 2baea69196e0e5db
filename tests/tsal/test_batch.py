"""Diverse batches: quotas per clip, clusters, informativeness, in this order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_backend.tsal.batch import CANDIDATES, candidates, diverse


def generator(seed=0):
    return np.random.default_rng(seed)


def distinct(count):
    """Features that lie apart from each other."""
    return np.eye(count, dtype=np.float32)


def test_candidates_are_the_most_informative_ones_in_order():
    scores = generator().random(1000)
    rows = candidates(scores, 5)
    assert len(rows) == 5 * CANDIDATES
    np.testing.assert_array_equal(rows, np.argsort(scores)[:50])
    assert candidates(scores[:7], 5).tolist() == np.argsort(scores[:7]).tolist()


def test_every_clip_has_its_turn_before_any_has_two():
    #         clip 0              clip 1    clip 2
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.5])
    clips = [0, 0, 0, 1, 1, 2]
    order = diverse(scores, distinct(6), clips, np.zeros(6), 6, generator())
    # First turn: the best of each clip, 0 (0.1), 3 (0.4), 5 (0.5); then the second best of two clips; then the last.
    assert order.tolist() == [0, 3, 5, 1, 4, 2]


def test_clips_that_were_asked_wait():
    scores = np.array([0.1, 0.2, 0.3])
    order = diverse(scores, distinct(3), [0, 1, 2], [2, 0, 1], 3, generator())
    assert order.tolist() == [1, 2, 0]


def test_within_a_turn_near_copies_wait():
    # Two pairs of equal frames, each frame of a clip of its own: the better one of each pair comes first.
    features = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    scores = np.array([0.1, 0.2, 0.4, 0.3])
    order = diverse(scores, features, [0, 1, 2, 3], np.zeros(4), 2, generator())
    assert order.tolist() == [0, 3, 1, 2]


def test_an_empty_pool_and_columns_that_do_not_fit():
    nothing = np.empty(0)
    assert diverse(nothing, np.empty((0, 3), np.float32), nothing, nothing, 5, generator()).tolist() == []
    with pytest.raises(ValueError, match="3 scores, 3 rows of features, 2 clips and 3 counts"):
        diverse(np.zeros(3), distinct(3), [0, 1], [0, 0, 0], 2, generator())


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=30),
    st.integers(1, 10),
    st.integers(0, 5),
)
def test_it_is_a_permutation_that_keeps_the_quota(rows, count, seed):
    clips = np.array([clip for _, clip in rows])
    asked_of = dict(enumerate(generator(seed).integers(0, 3, 5)))
    scores = np.array([value / 3 for value, _ in rows])
    features = generator(seed).random((len(rows), 3)).astype(np.float32)
    order = diverse(scores, features, clips, [asked_of[clip] for clip in clips], count, generator(seed))
    assert sorted(order.tolist()) == list(range(len(rows)))
    counts = dict(asked_of)
    turns = []
    for row in order:
        turns.append(counts[clips[row]])
        counts[clips[row]] += 1
    assert turns == sorted(turns)
    again = diverse(scores, features, clips, [asked_of[clip] for clip in clips], count, generator(seed))
    np.testing.assert_array_equal(order, again)
