"""Heads: linear models on what a frozen trunk finds at several depths; they judge patients whom nobody has labelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml_backend.tsal.arrays import Labels

Logits = NDArray[np.float32]
PENALTY = 1 / 0.03
"""On half the squared weights of a level of `WIDTH` standardised values; more on those of a wider one."""
WIDTH = 1000


@dataclass(frozen=True, eq=False)
class Heads:
    """A linear model of each symptom: the mean of one logistic regression a level.

    ``weights`` (d, l) and ``bias`` (l,), float32, turn the levels of a frame, side by side, into logits.
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]

    @classmethod
    def fit(
        cls,
        levels: NDArray[np.floating],
        widths: Sequence[int],
        labels: Labels,
        known: NDArray[np.bool_],
        clips: NDArray[np.integer],
    ) -> Heads:
        """Fit to m frames: levels (m, d) of these ``widths``, labels (m, l) of 0 and 1, ``known`` (m, l), clips (m,).

        A frame of a clip with k fitted frames weighs 1 / sqrt(k): they are near-copies, but not quite. A symptom that
        all known frames have, or none, gets a constant.
        """
        values = np.asarray(levels, np.float64)
        ends = np.cumsum(widths)
        if len(ends) == 0 or ends[-1] != values.shape[1]:
            raise ValueError(f"levels of {list(widths)} values are {sum(widths)} side by side, not {values.shape[1]}")
        weights, bias = np.zeros((values.shape[1], labels.shape[1])), np.zeros(labels.shape[1])
        for symptom in range(labels.shape[1]):
            rows = np.flatnonzero(known[:, symptom])
            shown, weighs = labels[rows, symptom], _weights(clips[rows])
            if len(np.unique(shown)) < 2:
                bias[symptom] = np.log((shown.sum() + 1) / (len(shown) - shown.sum() + 1))
                continue
            for start, end in zip([0, *ends[:-1]], ends, strict=True):
                slope, constant = _regression(values[rows, start:end], shown, weighs)
                weights[start:end, symptom] = slope / len(ends)
                bias[symptom] += constant / len(ends)
        return cls(weights.astype(np.float32), bias.astype(np.float32))

    def logits(self, levels: NDArray[np.floating]) -> Logits:
        """Return the logits (n, l), float32, of n frames with these levels (n, d)."""
        return np.asarray(levels, np.float32) @ self.weights + self.bias


def clip_means(values: NDArray[np.floating], clips: NDArray[np.integer]) -> NDArray[np.float32]:
    """Give each frame the mean of its clip: ``values`` (n, l), ``clips`` (n,); returns (n, l) float32.

    >>> clip_means(np.array([[1.0], [4.0], [3.0]]), np.array([7, 2, 7])).ravel().tolist()
    [2.0, 4.0, 2.0]
    """
    place, frames = _by_clip(clips)
    sums = np.zeros((len(frames), values.shape[1]))
    np.add.at(sums, place, values)
    means: NDArray[np.float32] = (sums / frames[:, None])[place].astype(np.float32)
    return means


def _weights(clips: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the weight of each frame, (m,), whose mean is 1."""
    place, frames = _by_clip(clips)
    weights: NDArray[np.float64] = 1 / np.sqrt(frames[place])
    weights /= weights.mean()
    return weights


def _by_clip(clips: NDArray[np.integer]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Number the clips from 0: return the number of each frame's clip (n,), and how many frames each clip has."""
    _, place, frames = np.unique(clips, return_inverse=True, return_counts=True)
    return place, frames


def _regression(
    values: NDArray[np.float64], shown: NDArray[np.integer], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Fit one logistic regression and return its slope (d,) and constant, for values that are not standardised."""
    from sklearn.linear_model import LogisticRegression  # imported late: it takes seconds

    mean, deviation = values.mean(axis=0), values.std(axis=0)
    deviation[deviation == 0] = 1
    scale = deviation * np.sqrt(values.shape[1] / WIDTH)
    found = LogisticRegression(C=1 / PENALTY, max_iter=1000).fit((values - mean) / scale, shown, sample_weight=weights)
    slope = found.coef_[0] / scale
    return slope, float(found.intercept_[0] - slope @ mean)
