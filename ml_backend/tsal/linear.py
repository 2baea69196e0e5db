"""What a frame's look says of its symptoms: a linear model of the confirmed frames, fitted at each refresh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml_backend.tsal.arrays import Labels

Said = NDArray[np.float32]
_PENALTY = 0.3  # on the squared weights, for directions of length 1; chosen on clips whose labels come and go


@dataclass(frozen=True, eq=False)
class Linear:
    """Ridge regression of the labels, absent -1 and present 1, on directions of length 1 and a constant.

    ``weights`` (d + 1, l) make of a direction what is ``said`` of each symptom, mostly in [-1, 1]. ``targets`` (m, l)
    are the labels of the frames it was fitted to, 0 where a symptom is not ``known`` (m, l), and ``others`` (m, l) what
    a model without the frame itself would say of each: exact, from the leverage.
    """

    weights: NDArray[np.float32]
    targets: Said
    known: NDArray[np.bool_]
    others: Said

    @classmethod
    def fit(cls, directions: NDArray[np.float32], labels: Labels, known: NDArray[np.bool_]) -> Linear:
        """Fit to m frames; ``directions`` (m, d), ``labels`` (m, l) of 0 and 1, ``known`` (m, l) booleans."""
        targets = np.where(known, 2.0 * labels - 1.0, 0.0)
        rows = np.pad(directions.astype(np.float64), ((0, 0), (0, 1)), constant_values=1.0)
        inverse = np.linalg.inv(rows.T @ rows + _PENALTY * np.eye(rows.shape[1]))
        weights = inverse @ (rows.T @ targets)
        leverage = ((rows @ inverse) * rows).sum(axis=1, keepdims=True)
        others = targets - (targets - rows @ weights) / (1.0 - leverage)
        return cls(weights.astype(np.float32), targets.astype(np.float32), known, others.astype(np.float32))

    def said(self, directions: NDArray[np.float32]) -> Said:
        """What is said of n other frames, (n, l)."""
        found: Said = directions @ self.weights[:-1] + self.weights[-1]
        return found

    def against(self, said: Said) -> Said:
        """How far what is ``said`` of n frames is from the labels of the m fitted ones: (n, m), squared and summed."""
        known = self.known.astype(np.float32)
        distance: Said = np.square(said) @ known.T - 2.0 * said @ self.targets.T + np.square(self.targets).sum(axis=1)
        return distance
