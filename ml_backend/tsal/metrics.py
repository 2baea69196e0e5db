"""Measures of pseudo-labels: how many are right, and how much is left to correct."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml_backend.tsal.arrays import Labels, label_matrix, require_same_shape


def per_label(truth: Labels, predicted: Labels, names: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Accuracy, sensitivity and specificity of every label, each in [0, 1], by label name.

    Takes (n, l) matrices of 0 and 1 and l names. None where a figure is undefined: sensitivity without a positive
    frame, specificity without a negative one, everything without frames. Raises ValueError where shapes do not agree.
    """
    truth, predicted = _pair(truth, predicted, "truth and predicted")
    if len(names) != truth.shape[1]:
        raise ValueError(f"{len(names)} names for {truth.shape[1]} labels")
    right = truth == predicted
    return {
        name: {
            "accuracy": _share(right[:, column]),
            "sensitivity": _share(right[truth[:, column] == 1, column]),
            "specificity": _share(right[truth[:, column] == 0, column]),
        }
        for column, name in enumerate(names)
    }


def exact_match(truth: Labels, predicted: Labels) -> float | None:
    """Share of frames, in [0, 1], whose (n, l) labels are all right; None without frames, ValueError as `per_label`."""
    truth, predicted = _pair(truth, predicted, "truth and predicted")
    return _share((truth == predicted).all(axis=1))


def manual_share(confirmed: Labels, default: Labels, has_default: ArrayLike) -> float | None:
    """Share of frames, in [0, 1], labelled by hand: confirmed differently from the default, or without one.

    Takes (n, l) matrices of 0 and 1 and (n,) booleans; the default of a frame without one is not looked at beyond its
    being 0 and 1. None without frames. Raises ValueError where shapes do not agree or `has_default` is not boolean.
    """
    confirmed, default = _pair(confirmed, default, "confirmed and default")
    offered = np.asarray(has_default)
    if offered.shape != (len(confirmed),) or (offered.dtype != np.bool_ and offered.size):
        raise ValueError(
            f"has_default must be {len(confirmed)} booleans; it is {offered.dtype} of the shape {offered.shape}"
        )
    return _share((confirmed != default).any(axis=1) | ~offered.astype(np.bool_))


def _pair(first: Labels, second: Labels, names: str) -> tuple[Labels, Labels]:
    first, second = (label_matrix(matrix, names) for matrix in (first, second))
    require_same_shape(first, second, names)
    return first, second


def _share(flags: NDArray[np.bool_]) -> float | None:
    return float(flags.mean()) if flags.size else None
