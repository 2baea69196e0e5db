"""Diverse batches: quotas per clip, clusters, informativeness, in this order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ml_backend.tsal.batch import CANDIDATES, candidates, diverse


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def distinct(count: int) -> NDArray[np.float32]:
    """Features that lie apart from each other."""
    return np.eye(count, dtype=np.float32)


def test_candidates_are_the_most_informative_ones_in_order() -> None:
    scores = generator().random(1000)
    rows = candidates(scores, 5)
    assert len(rows) == 5 * CANDIDATES
    np.testing.assert_array_equal(rows, np.argsort(scores)[:50])
    assert candidates(scores[:7], 5).tolist() == np.argsort(scores[:7]).tolist()
    assert candidates(np.zeros(100), 2).tolist() == list(range(20))


def test_every_clip_has_its_turn_before_any_has_two() -> None:
    #         clip 0              clip 1    clip 2
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.5])
    clips = [0, 0, 0, 1, 1, 2]
    order = diverse(scores, distinct(6), clips, np.zeros(6), 6, generator())
    # First turn: the best of each clip, 0 (0.1), 3 (0.4), 5 (0.5); then the second best of two clips; then the last.
    assert order.tolist() == [0, 3, 5, 1, 4, 2]


def test_clips_that_were_asked_wait() -> None:
    scores = np.array([0.1, 0.2, 0.3])
    order = diverse(scores, distinct(3), [0, 1, 2], [2, 0, 1], 3, generator())
    assert order.tolist() == [1, 2, 0]


def test_within_a_turn_near_copies_wait() -> None:
    # Two pairs of equal frames, each frame of a clip of its own: the better one of each pair comes first.
    features = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    scores = np.array([0.1, 0.2, 0.4, 0.3])
    order = diverse(scores, features, [0, 1, 2, 3], np.zeros(4), 2, generator())
    assert order.tolist() == [0, 3, 1, 2]


def test_the_first_of_a_batch_are_the_best_of_as_many_clusters() -> None:
    # Twelve frames of as many clips in three directions; the four best of all look the same.
    features = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    scores = np.arange(12) / 12
    order = diverse(scores, features, np.arange(12), np.zeros(12), 3, generator())
    assert order.tolist() == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]


def test_names_of_clips_and_counts_in_any_order_do_not_matter() -> None:
    scores, features = generator(1).random(40), generator(2).random((40, 5)).astype(np.float32)
    clips, asked = generator(3).integers(0, 9, 40), generator(4).integers(0, 4, 9)
    order = diverse(scores, features, clips, asked[clips], 6, generator())
    renamed = (clips * 7 + 3) % 97
    np.testing.assert_array_equal(diverse(scores, features, renamed, asked[clips], 6, generator()), order)
    np.testing.assert_array_equal(diverse(scores, features, clips, asked[clips] + 5, 6, generator()), order)


def test_a_count_below_one_and_unusable_features_are_refused() -> None:
    with pytest.raises(ValueError, match="count must be at least 1; it is 0"):
        diverse(np.zeros(3), distinct(3), [0, 1, 2], np.zeros(3), 0, generator())
    features = distinct(3)
    features[1, 1] = np.nan
    with pytest.raises(ValueError, match="row 1 is not"):
        diverse(np.zeros(3), features, [0, 1, 2], np.zeros(3), 2, generator())


def test_an_empty_pool_and_columns_that_do_not_fit() -> None:
    nothing = np.empty(0)
    assert diverse(nothing, np.empty((0, 3), np.float32), nothing, nothing, 5, generator()).tolist() == []
    with pytest.raises(ValueError, match="3 scores, 3 rows of features, 2 clips and 3 counts"):
        diverse(np.zeros(3), distinct(3), [0, 1], [0, 0, 0], 2, generator())


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=30),
    st.integers(1, 10),
    st.integers(0, 5),
)
def test_it_is_a_permutation_that_keeps_the_quota(rows: list[tuple[int, int]], count: int, seed: int) -> None:
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
    # No clip has a frame more than another that still waits and had fewer; within a clip the best goes first.
    assert turns == sorted(turns)
    for clip in set(clips.tolist()):
        assert (np.diff(scores[order][clips[order] == clip]) >= 0).all()
    again = diverse(scores, features, clips, [asked_of[clip] for clip in clips], count, generator(seed))
    np.testing.assert_array_equal(order, again)
