from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ml_backend.tsal.likeness import NO_TRUST, TIME_SECONDS, Places, Scale, Trust, likeness

PLAIN = Scale(np.zeros(2, np.float32), np.ones(2, np.float32))


_NUMBERS = itertools.count(1000)  # a clip of its own for every frame


def places(
    rows: Sequence[Sequence[float]] | NDArray[np.floating],
    clips: Sequence[int] | NDArray[np.integer] | None = None,
    times: Sequence[float] | NDArray[np.floating] | None = None,
) -> Places:
    return Places(
        np.array(rows, np.float32).reshape(len(rows), len(rows[0]) if len(rows) else 2),
        np.array([next(_NUMBERS) for _ in rows], np.intp) if clips is None else np.array(clips),
        np.full(len(rows), np.nan) if times is None else np.array(times, float),
    )


def test_likeness_is_the_cosine_of_the_embeddings() -> None:
    found = likeness(places([[3, 0], [1, 1]]), places([[1, 0], [0, 2], [-1, 0]]), PLAIN, NO_TRUST)
    assert np.allclose(found, [[1, 0, -1], [0.5**0.5, 0.5**0.5, -(0.5**0.5)]])


def test_frames_of_a_clip_are_more_alike_and_more_so_in_the_same_moment() -> None:
    first = places([[1, 0]], [4], [1.0])
    second = places([[1, 0]] * 4, [4, 4, 5, 4], [1.0, 1.0 + TIME_SECONDS, 1.0, np.nan])
    found = likeness(first, second, PLAIN, Trust(0.5, 0.25))
    assert np.allclose(found, [[1.75, 1.5 + 0.25 * np.exp(-1), 1.0, 1.5]])


@given(st.integers(0, 2**32 - 1), st.integers(0, 6), st.integers(1, 6))
def test_every_pair_of_one_clip_is_found_and_no_other(seed: int, count: int, others: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = (
        places(rng.standard_normal((n, 2)), rng.integers(0, 4, n), np.where(rng.random(n) < 0.3, np.nan, rng.random(n)))
        for n in (count, others)
    )
    found = likeness(first, second, PLAIN, Trust(0.5, 0.25))
    for row, column in itertools.product(range(count), range(others)):
        plain = likeness(first, second, PLAIN, NO_TRUST)[row, column]
        apart = abs(first.times[row] - second.times[column])
        bonus = 0.5 + (0 if np.isnan(apart) else 0.25 * np.exp(-apart / TIME_SECONDS))
        same = first.clips[row] == second.clips[column]
        assert found[row, column] == pytest.approx(plain + same * bonus, abs=1e-6)


def test_a_scale_gives_every_column_that_varies_the_same_weight() -> None:
    scale = Scale.of(np.array([[1, 100, 7], [3, 300, 7]], np.float16))
    assert np.allclose(scale.units(np.array([[3, 300, 7.0]])), [[0.5**0.5, 0.5**0.5, 0]])


def test_a_row_without_direction_stays_zero() -> None:
    assert not PLAIN.units(np.zeros((1, 2))).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_embeddings_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Scale.of(np.array([[1, bad]]))
    with pytest.raises(ValueError, match="finite"):
        PLAIN.units(np.array([[1, bad]]))


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="do not match"):
        Places(np.zeros((2, 3)), np.zeros(2, np.intp), np.zeros(1))


def test_no_frames_have_no_likeness() -> None:
    assert likeness(places(np.zeros((0, 2))), places([[1, 0]]), PLAIN, Trust(1, 1)).shape == (0, 1)
    assert Scale.of(np.zeros((0, 3))).mean.shape == (3,)
