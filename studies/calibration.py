"""Whether a probability of 0.8 means eight of ten: reliability, expected calibration error, a temperature per label."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ml_backend.tsal.arrays import Labels, Probabilities, label_matrix, probability_matrix, require_same_shape
from ml_backend.tsal.reliability import calibration_error
from ml_backend.tsal.reliability import reliability as tsal_reliability

TEMPERATURES = np.geomspace(0.1, 10.0, 201)
_SMALLEST = 1e-6


def fit_temperatures(probabilities: Probabilities, labels: Labels) -> NDArray[np.float64]:
    """Find for every label the temperature in [0.1, 10] that its logits must be divided by; (l,).

    Takes probabilities (n, l) and labels (n, l) of frames not trained on; the one with the least cross-entropy
    wins. 1 for a label of which all frames are the same.
    """
    matrix, truth = _pair(probabilities, labels)
    temperatures = np.ones(truth.shape[1])
    for column in range(truth.shape[1]):
        target = truth[:, column]
        if len(np.unique(target)) < 2:
            continue
        scaled = _logits(matrix[:, column])[None, :] / TEMPERATURES[:, None]
        losses = np.logaddexp(0.0, np.where(target == 1, -scaled, scaled)).mean(axis=1)
        temperatures[column] = TEMPERATURES[losses.argmin()]
    return temperatures


def apply_temperatures(probabilities: Probabilities, temperatures: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide the logits of probabilities (n, l) by the temperatures (l,); (n, l) probabilities."""
    calibrated: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-_logits(probability_matrix(probabilities)) / temperatures))
    return calibrated


def reliability(probabilities: NDArray[np.floating], truth: NDArray[np.integer]) -> list[tuple[float, float, int]]:
    """Compare one label's probabilities (n,) with its truth (n,) in ten equal bins.

    Returns (mean probability, observed share, frames) of every bin that holds frames, in ascending order.
    """
    bins = tsal_reliability(probabilities, np.asarray(truth) == 1)
    return [(one.confidence, one.right.count / one.right.frames, one.right.frames) for one in bins]


def expected_calibration_error(probabilities: NDArray[np.floating], truth: NDArray[np.integer]) -> float | None:
    """Average distance between probability and observed share over the bins, by their frames; None without frames."""
    return calibration_error(tsal_reliability(probabilities, np.asarray(truth) == 1))


def _logits(values: Probabilities) -> NDArray[np.float64]:
    inside = np.clip(np.asarray(values, np.float64), _SMALLEST, 1.0 - _SMALLEST)
    logits: NDArray[np.float64] = np.log(inside) - np.log1p(-inside)
    return logits


def _pair(probabilities: Probabilities, labels: Labels) -> tuple[Probabilities, Labels]:
    matrix, truth = probability_matrix(probabilities), label_matrix(labels)
    require_same_shape(matrix, truth, "probabilities and labels")
    return matrix, truth
