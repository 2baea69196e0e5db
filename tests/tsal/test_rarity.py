from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_backend.tsal.rarity import feed_rare, positive_weights


def test_negative_over_positive_frames_within_bounds() -> None:
    #           half    one of four  none   all     one of ten
    labels = np.zeros((20, 5), np.uint8)
    labels[:10, 0] = 1
    labels[:5, 1] = 1
    labels[:, 3] = 1
    labels[:2, 4] = 1
    # 10 / 10; 15 / 5; nobody has it; 0 / 20, frequent; 18 / 2 = 9, at most 5
    assert positive_weights(labels).tolist() == [1.0, 3.0, 1.0, 1.0, 5.0]
    assert positive_weights(labels, largest=20.0)[4] == 9.0


def test_without_frames_nothing_is_rare_and_labels_are_checked() -> None:
    assert positive_weights(np.zeros((0, 3), np.uint8)).tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(ValueError, match="0 and 1 only"):
        positive_weights(np.full((2, 3), 2, np.uint8))


#                     rare   often
POOL = np.array([[0.10, 0.90], [0.45, 0.90], [0.40, 0.10], [0.30, 0.20], [0.05, 0.80], [0.20, 0.50]])
POSITIVES = [1, 7]


def test_every_second_place_goes_to_the_rare_symptom() -> None:
    # Nearest to 0.5 in the first column: rows 1, 2, 3, 5, 0, 4. Rows 0 and 4 are the margin's half of four.
    apart = np.arange(6)
    order = np.array([0, 4, 5, 1])
    assert feed_rare(order, POOL, POSITIVES, apart, np.zeros(6), 4)[0].tolist() == [0, 1, 4, 2, 5]
    # The rarer symptom is the other one: rows 5, then 3 (0.3 away) and 4 (taken).
    assert feed_rare(order, POOL, [7, 1], apart, np.zeros(6), 4)[0].tolist() == [0, 5, 4, 3, 1]


def test_clips_that_were_asked_less_come_first() -> None:
    clips = np.array([8, 8, 7, 6, 8, 5])
    # Clip 8 gives two frames already (rows 0 and 4), so row 1 waits; clip 7 was asked twice before.
    asked = np.array([0, 0, 2, 0, 0, 0])
    assert feed_rare(np.array([0, 4]), POOL, POSITIVES, clips, asked, 4)[0].tolist() == [0, 3, 4, 5]


def test_with_four_symptoms_the_two_rarest_take_turns() -> None:
    pool = np.full((8, 4), 0.9)
    pool[[2, 3], 1] = 0.5, 0.6
    pool[[4, 5], 3] = 0.5, 0.6
    found, added = feed_rare(np.array([0, 1, 6, 7]), pool, [9, 2, 9, 1], np.arange(8), np.zeros(8), 8)
    assert added.tolist() == [4, 2, 5, 3]
    assert found.tolist() == [0, 4, 1, 2, 6, 5, 7, 3]


def test_a_batch_of_one_and_an_empty_pool() -> None:
    assert feed_rare(np.array([3, 1]), POOL, POSITIVES, np.arange(6), np.zeros(6), 1)[0].tolist() == [3, 1]
    empty, _ = feed_rare(np.empty(0, np.intp), np.empty((0, 2)), POSITIVES, [], [], 4)
    assert (empty.dtype, *empty.shape) == (np.dtype(np.intp), 0)


def test_columns_must_fit() -> None:
    with pytest.raises(ValueError, match="6 rows of 2 probabilities, 5 clips"):
        feed_rare(np.array([0]), POOL, POSITIVES, np.arange(5), np.zeros(6), 2)
    with pytest.raises(ValueError, match="1 numbers of positives"):
        feed_rare(np.array([0]), POOL, [1], np.arange(6), np.zeros(6), 2)


@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 30), st.integers(0, 2**32 - 1))
def test_no_row_is_lost_or_asked_twice(rows: int, count: int, given_rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    order = rng.permutation(rows)[:given_rows]
    clips, asked = rng.integers(5, size=rows), rng.integers(3, size=rows)
    fed, added = feed_rare(order, rng.random((rows, 3)), rng.integers(9, size=3), clips, asked, count)
    found = fed.tolist()
    assert set(added.tolist()) <= set(found) - set(order[: count - count // 2].tolist())
    assert len(found) == len(set(found))
    assert set(order.tolist()) <= set(found)
    half = count - count // 2
    assert [row for row in found if row in set(order[:half].tolist())] == order[:half].tolist()
    assert len(set(found) - set(order.tolist())) <= count // 2
