"""Checks of the two kinds of matrices that every part of the algorithm takes: probabilities and labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Probabilities = NDArray[np.floating[Any]]
Labels = NDArray[np.uint8]


def probability_matrix(values: ArrayLike, name: str = "probabilities") -> Probabilities:
    """Check a matrix of probabilities; one frame a row, one label a column, the healthy label first.

    Takes (n, l) numbers in [0, 1] with l >= 2; n may be 0. Floating-point arrays come back uncopied, others as float64.
    Raises ValueError, naming `name` and what is wrong, for another shape or type, NaN or a value out of range.
    """
    matrix = _number_matrix(values, name)
    if matrix.dtype.kind != "f":
        matrix = matrix.astype(np.float64)
    # min and max return NaN where there is one, and NaN compares false: one pass each finds every kind of bad value.
    if matrix.size and not (matrix.min() >= 0.0 and matrix.max() <= 1.0):
        row, column = np.argwhere(~((matrix >= 0.0) & (matrix <= 1.0)))[0]
        value = matrix[row, column]
        raise ValueError(f"{name} must be finite and within [0, 1]; row {row}, column {column} is {value}")
    return matrix


def label_matrix(values: ArrayLike, name: str = "labels") -> Labels:
    """Check a matrix of label vectors and return it as (n, l) uint8; l >= 2, n may be 0.

    Raises ValueError, naming `name` and what is wrong, for another shape or type or a value other than 0 and 1.
    """
    matrix = _number_matrix(values, name)
    if not ((matrix == 0) | (matrix == 1)).all():
        row, column = np.argwhere((matrix != 0) & (matrix != 1))[0]
        raise ValueError(f"{name} must hold 0 and 1 only; row {row}, column {column} is {matrix[row, column]}")
    return matrix.astype(np.uint8, copy=False)


def require_same_shape(first: NDArray[Any], second: NDArray[Any], names: str) -> None:
    """Raise ValueError unless the two arrays have the same shape; the message calls them by their `names`."""
    if first.shape != second.shape:
        raise ValueError(f"{names} must have the same shape, but have {first.shape} and {second.shape}")


def _number_matrix(values: ArrayLike, name: str) -> NDArray[Any]:
    matrix = np.asarray(values)
    if matrix.ndim != 2 or matrix.shape[1] < 2:
        raise ValueError(f"{name} must be a matrix (frames, at least 2 labels); the shape is {matrix.shape}")
    if matrix.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers; the type is {matrix.dtype}")
    return matrix
