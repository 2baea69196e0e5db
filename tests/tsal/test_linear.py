from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ml_backend.tsal import linear
from ml_backend.tsal.linear import Linear

RNG = np.random.default_rng(0)


def directions(count: int, width: int = 6) -> NDArray[np.float32]:
    rows = RNG.standard_normal((count, width)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def every(count: int, labels: int) -> NDArray[np.bool_]:
    return np.ones((count, labels), bool)


def test_two_opposite_frames_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Directions 1 and -1, labels +1 and -1, penalty 1: weight 2 / (2 + 1), no constant.

    Without the first frame the model sees the row (-1, 1) with target -1: its weights are (1/3, -1/3), and they say 0
    of the row (1, 1).
    """
    monkeypatch.setattr(linear, "_PENALTY", 1.0)
    model = Linear.fit(np.array([[1.0], [-1.0]], np.float32), np.array([[1], [0]], np.uint8), every(2, 1))
    said = model.said(np.array([[1.0], [0.5], [0.0]], np.float32))[:, 0]
    np.testing.assert_allclose(said, [2 / 3, 1 / 3, 0], atol=1e-6)
    assert np.abs(model.others).max() < 1e-6


def test_what_the_others_say_is_what_a_model_without_the_frame_says() -> None:
    rows, labels = directions(12), RNG.integers(0, 2, (12, 3)).astype(np.uint8)
    whole = Linear.fit(rows, labels, every(12, 3))
    for left_out in range(12):
        rest = np.arange(12) != left_out
        without = Linear.fit(rows[rest], labels[rest], every(11, 3))
        np.testing.assert_allclose(whole.others[left_out], without.said(rows[left_out]), atol=1e-4)


def test_a_symptom_that_is_not_known_says_nothing() -> None:
    rows, labels = directions(20), RNG.integers(0, 2, (20, 2)).astype(np.uint8)
    known = every(20, 2)
    known[:, 1] = False
    model = Linear.fit(rows, labels, known)
    assert (model.weights[:, 1] == 0).all()
    assert (model.others[:, 1] == 0).all()
    np.testing.assert_array_equal(
        model.against(model.said(rows)), Linear.fit(rows, labels[:, :1], known[:, :1]).against(model.said(rows)[:, :1])
    )


def test_against_is_the_squared_distance_to_the_labels() -> None:
    labels = np.array([[0, 1], [1, 1], [1, 0]], np.uint8)
    model = Linear.fit(directions(3), labels, every(3, 2))
    said = np.array([[-1.0, 1.0], [0.5, 0.0]], np.float32)
    expected = np.array([[0, 4, 8], [3.25, 1.25, 1.25]])
    np.testing.assert_allclose(model.against(said), expected, atol=1e-6)


def test_the_order_of_the_frames_does_not_matter() -> None:
    rows, labels, order = directions(15), RNG.integers(0, 2, (15, 4)).astype(np.uint8), RNG.permutation(15)
    first = Linear.fit(rows, labels, every(15, 4))
    second = Linear.fit(rows[order], labels[order], every(15, 4))
    np.testing.assert_allclose(first.weights, second.weights, atol=1e-5)
    np.testing.assert_allclose(first.others[order], second.others, atol=1e-5)


def test_one_frame_and_no_frame() -> None:
    one = Linear.fit(directions(1), np.array([[1, 0]], np.uint8), every(1, 2))
    assert np.abs(one.others).max() < 1e-5
    none = Linear.fit(np.zeros((0, 6), np.float32), np.zeros((0, 2), np.uint8), every(0, 2))
    assert none.against(none.said(directions(3))).shape == (3, 0)
