"""Rare symptoms: how much more a frame that shows one counts in training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ml_backend.tsal.arrays import Labels, label_matrix

LARGEST = 5.0
"""Beyond it a handful of frames would decide every step."""


def positive_weights(labels: Labels, largest: float = LARGEST) -> NDArray[np.float64]:
    """Weight of the positive frames of every label, (l,) in [1, largest]: negative over positive frames.

    Takes the labels (n, l) that are trained on. 1 for a label that no frame has, and for frequent ones.
    """
    truth = label_matrix(labels)
    positive = truth.sum(axis=0, dtype=np.float64)
    ratio = np.divide(len(truth) - positive, positive, out=np.ones(truth.shape[1]), where=positive > 0)
    weights: NDArray[np.float64] = np.clip(ratio, 1.0, largest)
    return weights
