from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from ml_backend.tsal.likeness import NO_TRUST, Places, Scale, Trust, likeness
from ml_backend.tsal.memory import (
    NOTHING,
    TRUSTS,
    Nearest,
    Remembered,
    combinations_of,
    learnt_trust,
    recall,
    recall_others,
)
from tests.tsal.test_likeness import PLAIN, places

A, B = [1, 0], [0, 1]


def remembered(
    rows: Sequence[Sequence[float]] | NDArray[np.floating],
    labels: ArrayLike,
    clips: Sequence[int] | NDArray[np.integer] | None = None,
    times: Sequence[float] | NDArray[np.floating] | None = None,
    known: NDArray[np.bool_] | None = None,
) -> Remembered:
    labels = np.array(labels, np.uint8).reshape(len(rows), 2)
    return Remembered(places(rows, clips, times), labels, np.ones(labels.shape, bool) if known is None else known)


def unit(angle: float) -> list[float]:
    return [np.cos(np.radians(angle)), np.sin(np.radians(angle))]


def test_a_frame_has_the_labels_of_the_frame_most_like_it() -> None:
    found = recall(places([unit(10), unit(80)]), remembered([unit(0), unit(90)], [A, B]), PLAIN, NO_TRUST)
    assert found.labels.tolist() == [A, B]
    assert found.row.tolist() == [0, 1]
    assert np.allclose(found.similarity, np.cos(np.radians(10)))


def test_the_margin_is_to_the_nearest_frame_of_another_combination() -> None:
    found = recall(places([unit(0)]), remembered([unit(10), unit(20), unit(60)], [A, A, B]), PLAIN, NO_TRUST)
    assert np.isclose(found.margin[0], np.cos(np.radians(10)) - np.cos(np.radians(60)))


def test_one_combination_has_no_rival() -> None:
    assert recall(places([unit(0)]), remembered([unit(10)], [A]), PLAIN, NO_TRUST).margin[0] == np.inf


def test_nothing_is_recalled_from_an_empty_memory() -> None:
    found = recall(places([unit(0)]), remembered(np.zeros((0, 2)), np.zeros((0, 2))), PLAIN, NO_TRUST)
    assert (found.row[0], found.margin[0]) == (NOTHING, 0)
    assert not found.known.any()


def test_the_first_of_equally_similar_frames_counts() -> None:
    assert recall(places([unit(0)]), remembered([unit(30), unit(-30)], [B, A]), PLAIN, NO_TRUST).row[0] == 0


def test_a_frame_of_the_same_clip_is_believed_before_one_that_looks_more_alike() -> None:
    memory = remembered([unit(0), unit(40)], [A, B], clips=[1, 2])
    pool = places([unit(0)], clips=[2])
    assert recall(pool, memory, PLAIN, NO_TRUST).labels.tolist() == [A]
    assert recall(pool, memory, PLAIN, Trust(0.5, 0)).labels.tolist() == [B]


def test_a_symptom_nobody_was_asked_about_is_not_known() -> None:
    known = np.array([[True, False]])
    assert recall(places([unit(0)]), remembered([unit(1)], [A], known=known), PLAIN, NO_TRUST).known.tolist() == [
        [True, False]
    ]
    assert len(np.unique(combinations_of(np.array([A, A]), np.array([[True, True], [True, False]])))) == 2


def test_others_do_not_see_the_frame_itself() -> None:
    memory = remembered([unit(0), unit(5), unit(90)], [A, B, A])
    found = recall_others(memory, np.array([0, 2]), PLAIN, NO_TRUST)
    assert found.row.tolist() == [1, 1]
    assert recall_others(memory[:1], np.array([0]), PLAIN, NO_TRUST).row.tolist() == [NOTHING]


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 12))
def test_adding_frames_in_pieces_gives_what_adding_them_at_once_gives(seed: int, pieces: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    pool, memory, labels = _random(rng, 20), _random(rng, count), rng.integers(0, 2, (count, 2)).astype(np.uint8)
    numbers, scale, trust = combinations_of(labels, np.ones(labels.shape, bool)), Scale.of(pool.embeddings), TRUSTS[0]
    whole, parts = Nearest(20), Nearest(20)
    whole.add(pool, memory, numbers, scale, trust)
    for rows in np.array_split(np.arange(count), pieces):
        parts.add(pool, memory[rows], numbers[rows], scale, trust)
    alike = likeness(pool, memory, scale, trust)
    assert whole.row.tolist() == alike.argmax(axis=1).tolist()
    for name in ("row", "similarity", "rival", "margin"):
        assert np.allclose(getattr(whole, name), getattr(parts, name), atol=1e-5)
    for row in range(20):
        rivals = alike[row, numbers != numbers[whole.row[row]]]
        assert np.isclose(whole.rival[row], rivals.max(initial=-np.inf), atol=1e-5)


@given(st.integers(0, 2**32 - 1))
def test_the_order_of_the_pool_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pool, memory = (
        _random(rng, 15),
        Remembered(_random(rng, 6), rng.integers(0, 2, (6, 2), np.uint8), np.ones((6, 2), bool)),
    )
    turned, scale = rng.permutation(15), Scale.of(pool.embeddings)
    plain, other = recall(pool, memory, scale, TRUSTS[0]), recall(pool[turned], memory, scale, TRUSTS[0])
    assert np.array_equal(plain.labels[turned], other.labels)


def test_audit_frames_teach_how_far_a_clip_may_be_believed() -> None:
    # In every clip two frames look like A, two like B, and are what they look like: the clip means nothing.
    looks = [unit(0), unit(3), unit(40), unit(43)] * 5
    labels = [A, A, B, B] * 5
    clips = np.repeat(np.arange(5), 4)
    times = [0.0, 9.0, 9.1, 0.1] * 5
    changing = remembered(looks, labels, clips, times)
    assert learnt_trust(changing, np.arange(20), PLAIN) == NO_TRUST
    # Here all frames look alike, and a clip has one combination.
    steady = remembered([unit(3 * place) for place in range(20)], [A, A, A, A, B, B, B, B] * 2 + [A] * 4, clips, times)
    assert learnt_trust(steady, np.arange(20), PLAIN) == TRUSTS[0]


def test_audit_frames_teach_that_looks_tell_more_than_the_nearest_frame() -> None:
    """Every frame has its nearest one in its own direction among noise, and its label in the sign of one number."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((120, 40))
    signal = rng.choice([-1.0, 1.0], 120)
    rows = np.column_stack([1.5 * signal, noise])
    memory = Remembered(
        places(rows), np.stack([signal > 0, signal < 0], axis=1).astype(np.uint8), np.ones((120, 2), bool)
    )
    scale, audited = Scale.of(rows), np.arange(0, 120, 2)
    trust = learnt_trust(memory, audited, scale)
    assert trust.looks > 0
    truth = memory.labels[audited]
    right = {one: (recall_others(memory, audited, scale, one).labels == truth).all(axis=1).mean() for one in TRUSTS}
    assert right[trust] == max(right.values()) > right[NO_TRUST] + 0.1
    fresh = rng.standard_normal((200, 40))
    there = rng.choice([-1.0, 1.0], 200)
    pool = places(np.column_stack([1.5 * there, fresh]))
    shares = [(recall(pool, memory, scale, one).labels[:, 0] == (there > 0)).mean() for one in (trust, NO_TRUST)]
    assert shares[0] > shares[1] + 0.1


def test_without_audit_frames_the_usual_trust_holds() -> None:
    assert learnt_trust(remembered([unit(0), unit(9)], [A, B]), np.empty(0, np.intp), PLAIN) == TRUSTS[0]


def test_labels_must_fit_the_frames() -> None:
    with pytest.raises(ValueError, match="rows of labels"):
        Remembered(places([A, B]), np.array([A], np.uint8), np.ones((1, 2), bool))


def _random(rng: np.random.Generator, count: int) -> Places:
    return Places(
        rng.standard_normal((count, 3)).astype(np.float16), rng.integers(0, 4, count), rng.integers(0, 9, count) / 2
    )
