"""A linear model that predicts symptoms from embeddings, fitted to the confirmed frames at each refresh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml_backend.tsal.arrays import Labels

Said = NDArray[np.float32]
_PENALTY = 0.3  # on the squared weights; chosen on phantom clips whose labels change


@dataclass(frozen=True, eq=False)
class Linear:
    """Ridge regression of the labels (absent -1, present 1) on unit vectors and a constant.

    ``weights`` (d + 1, l) map a unit vector to a score for each symptom, mostly in [-1, 1]. ``targets`` (m, l) are the
    labels of the m fitted frames, 0 where a symptom is not ``known`` (m, l). ``others`` (m, l) are the scores of each
    frame under a model fitted without it: exact leave-one-out predictions, from the leverage.
    """

    weights: NDArray[np.float32]
    targets: Said
    known: NDArray[np.bool_]
    others: Said

    @classmethod
    def fit(cls, directions: NDArray[np.float32], labels: Labels, known: NDArray[np.bool_]) -> Linear:
        """Fit to m frames: unit vectors (m, d), ``labels`` (m, l) of 0 and 1, ``known`` (m, l) booleans."""
        targets = np.where(known, 2.0 * labels - 1.0, 0.0)
        rows = np.pad(directions.astype(np.float64), ((0, 0), (0, 1)), constant_values=1.0)
        inverse = np.linalg.inv(rows.T @ rows + _PENALTY * np.eye(rows.shape[1]))
        weights = inverse @ (rows.T @ targets)
        leverage = ((rows @ inverse) * rows).sum(axis=1, keepdims=True)
        others = targets - (targets - rows @ weights) / (1.0 - leverage)
        return cls(weights.astype(np.float32), targets.astype(np.float32), known, others.astype(np.float32))

    def said(self, directions: NDArray[np.float32]) -> Said:
        """Return the scores (n, l) of n other frames."""
        found: Said = directions @ self.weights[:-1] + self.weights[-1]
        return found

    def against(self, said: Said) -> Said:
        """Return the squared distances (n, m) of the scores of n frames from the labels of the m fitted ones."""
        known = self.known.astype(np.float32)
        distance: Said = np.square(said) @ known.T - 2.0 * said @ self.targets.T + np.square(self.targets).sum(axis=1)
        return distance
