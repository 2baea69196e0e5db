"""Audit frames: a uniform sample of the pool, so that what the loop measures does not depend on what it chose."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml_backend.tsal.arrays import Labels, Probabilities, label_matrix, probability_matrix, require_same_shape


def audit_size(share: float, k_max: int, pool: int) -> int:
    """Number of audit frames in a batch of ``k_max`` from ``pool`` frames: the share, rounded, and at least one.

    0 where the share is 0 or the pool is empty. Raises ValueError for a share outside [0, 1].
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share must be within [0, 1]; it is {share}")
    batch = min(k_max, pool)
    return min(batch, max(1, round(share * batch))) if share > 0 else 0


def draw(pool: int, count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw ``count`` of the rows 0 to ``pool`` - 1 uniformly without replacement, in random order."""
    rows: NDArray[np.intp] = rng.permutation(pool)[:count].astype(np.intp)
    return rows


def interleave(
    order: NDArray[np.intp], audit: NDArray[np.intp], spacing: float, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Put one audit row at a random place of every ``spacing`` places of an order, until none is left.

    Takes the rows of the ``order`` (n,) and the ``audit`` rows (m,), none in both, and a spacing of at least 1. Returns
    all n + m rows. Audit rows keep their order. They are spread because annotators tire and learn within a batch, and
    because a batch may be cut short: the answered audit frames are then still a uniform sample, and the whole batch
    weighs in evenly. The place is random, so that nobody can tell an audit frame by counting.
    """
    if spacing < 1.0:
        raise ValueError(f"spacing must be at least 1; it is {spacing}")
    edges = np.floor(np.arange(len(audit) + 1) * spacing).astype(np.intp)
    places = rng.integers(edges[:-1], edges[1:])
    free = np.setdiff1d(np.arange(len(order) + len(audit)), places)[: len(order)]
    mixed: NDArray[np.intp] = np.concatenate([audit, order])[np.argsort(np.concatenate([places, free]))]
    return mixed


@dataclass(frozen=True, eq=False)
class AuditSample:
    """Answered audit frames: the only frames on which strategies and validators may be compared.

    ``probabilities`` (m, l) in [0, 1] are those of the version that the frames were asked with, ``labels`` (m, l) the
    confirmed ones. Make it with `of`, which drops every frame that no audit drew.
    """

    probabilities: Probabilities
    labels: Labels

    def __post_init__(self) -> None:
        object.__setattr__(self, "probabilities", probability_matrix(self.probabilities))
        object.__setattr__(self, "labels", label_matrix(self.labels))
        require_same_shape(self.probabilities, self.labels, "probabilities and labels")

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def of(
        cls, drawn: Collection[int], frames: Sequence[int], probabilities: ArrayLike, labels: ArrayLike
    ) -> AuditSample:
        """Keep those of the answered ``frames`` (n,) that are among the ``drawn`` ones.

        Takes the frames' ``probabilities`` (n, l) and ``labels`` (n, l). Frames are named by any number that the draw
        uses as well: the task, or the row of the pool.
        """
        audited = np.isin(np.asarray(frames, np.int64), np.fromiter(drawn, np.int64, len(drawn)))
        return cls(probability_matrix(probabilities)[audited], label_matrix(labels)[audited])
