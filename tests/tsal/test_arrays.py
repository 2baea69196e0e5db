"""Matrices are checked where they come in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ml_backend.tsal.arrays import label_matrix, probability_matrix, require_same_shape


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probabilities_are_not_copied(dtype: type[np.floating]) -> None:
    matrix = np.array([[0.0, 1.0], [0.5, 0.25]], dtype=dtype)
    assert probability_matrix(matrix) is matrix


def test_lists_and_whole_numbers_become_float64() -> None:
    matrix = probability_matrix([[0, 1], [1, 0]])
    assert matrix.dtype == np.float64
    assert matrix.tolist() == [[0.0, 1.0], [1.0, 0.0]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.001, 1.001])
def test_a_bad_probability_is_named_with_its_place(value: float) -> None:
    with pytest.raises(ValueError, match=r"scores must be finite and within \[0, 1\]; row 1, column 2 is"):
        probability_matrix([[0.0, 0.0, 0.0], [0.0, 1.0, value]], "scores")


@pytest.mark.parametrize("values", [0.5, [0.5, 0.5], [[0.5], [0.5]], [], [[[0.5, 0.5]]]])
def test_a_wrong_shape_is_refused(values: Any) -> None:
    for check in (probability_matrix, label_matrix):
        with pytest.raises(ValueError, match="must be a matrix"):
            check(values)


@pytest.mark.parametrize("values", [[["a", "b"]], [[None, 1]], [[1j, 0]]])
def test_values_that_are_not_numbers_are_refused(values: Any) -> None:
    for check in (probability_matrix, label_matrix):
        with pytest.raises(ValueError, match="must hold real numbers"):
            check(values)


def test_labels_become_bytes() -> None:
    for values in ([[0, 1]], [[False, True]], [[0.0, 1.0]]):
        matrix = label_matrix(values)
        assert matrix.dtype == np.uint8
        assert matrix.tolist() == [[0, 1]]


@pytest.mark.parametrize("value", [2, -1, 0.5, np.nan, 256])
def test_a_label_is_0_or_1(value: float) -> None:
    with pytest.raises(ValueError, match="labels must hold 0 and 1 only; row 0, column 1 is"):
        label_matrix([[0, value]])


def test_an_empty_pool_is_a_matrix() -> None:
    assert probability_matrix(np.zeros((0, 4))).shape == (0, 4)
    assert label_matrix(np.zeros((0, 4))).shape == (0, 4)


def test_shapes_must_agree() -> None:
    require_same_shape(np.zeros((2, 3)), np.ones((2, 3)), "a and b")
    with pytest.raises(ValueError, match=r"a and b must have the same shape, but have \(2, 3\) and \(3, 2\)"):
        require_same_shape(np.zeros((2, 3)), np.ones((3, 2)), "a and b")
