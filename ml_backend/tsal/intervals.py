"""Confidence intervals for shares: of independent frames, and of frames that come in patients."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

DRAWS = 2000
"""Bootstrap samples: the ends of an interval then repeat to about 0.01."""


class Interval(NamedTuple):
    """The two ends of a confidence interval of a share, in [0, 1], or of a difference of shares, in [-1, 1]."""

    low: float
    high: float


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Return Wilson's score interval of a share of ``n`` independent trials; [0, 1] without a trial.

    With z the normal quantile of (1 + confidence) / 2 and p = successes / n, the ends are
    (p + z^2/2n -+ z sqrt(p(1 - p)/n + z^2/4n^2)) / (1 + z^2/n). Raises ValueError unless 0 <= successes <= n and
    0 < confidence < 1.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes must be within 0 and {n}; there are {successes}")
    z = _quantile(confidence)
    if n == 0:
        return Interval(0.0, 1.0)
    share, spread = successes / n, z * z / n
    middle = share + spread / 2
    half = z * sqrt(share * (1 - share) / n + spread / (4 * n))
    return Interval(max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread)))


def newcombe(first: tuple[int, int], second: tuple[int, int], confidence: float = 0.95) -> Interval:
    """Return Newcombe's hybrid score interval of the first share minus the second (1998, method 10).

    ``first`` and ``second`` are the successes and the number of two independent series of trials. With shares p1, p2
    and their Wilson intervals l1 to u1, l2 to u2, the ends are p1 - p2 - sqrt((p1 - l1)^2 + (u2 - p2)^2) and
    p1 - p2 + sqrt((u1 - p1)^2 + (p2 - l2)^2). [-1, 1] where one series has no trial.
    """
    one, other = wilson(*first, confidence), wilson(*second, confidence)
    if not (first[1] and second[1]):
        return Interval(-1.0, 1.0)
    p1, p2 = first[0] / first[1], second[0] / second[1]
    return Interval(
        max(-1.0, p1 - p2 - sqrt((p1 - one.low) ** 2 + (other.high - p2) ** 2)),
        min(1.0, p1 - p2 + sqrt((one.high - p1) ** 2 + (p2 - other.low) ** 2)),
    )


def by_patient(
    values: ArrayLike,
    patients: Sequence[str],
    rng: np.random.Generator,
    confidence: float = 0.95,
    draws: int = DRAWS,
) -> Interval:
    """Return a percentile interval of the mean of ``values`` (n,), resampling whole patients (cluster bootstrap).

    Frames of one patient resemble each other, so the patients are the independent trials. Two imagined patients of
    average size are added first, one with every value 0 and one with every value 1, as Agresti and Coull add failures
    and successes. Without them a few patients who agree would give an interval of no width. With fewer than two
    patients the interval is [0, 1].

    Takes values in [0, 1] and each frame's patient. Raises ValueError for other values or another number of patients.
    """
    flat = np.asarray(values, dtype=np.float64)
    if flat.shape != (len(patients),) or not ((flat >= 0.0) & (flat <= 1.0)).all():
        raise ValueError(f"values must be {len(patients)} numbers within [0, 1]; the shape is {flat.shape}")
    tail = (1 - confidence) / 2
    _quantile(confidence)
    names, patient = np.unique(np.array(patients, dtype=object).astype(str), return_inverse=True)
    if len(names) < 2:
        return Interval(0.0, 1.0)
    average = len(flat) / len(names)
    sizes = np.append(np.bincount(patient.reshape(-1)), [average, average])
    sums = np.append(np.bincount(patient.reshape(-1), weights=flat), [0.0, average])
    drawn = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=draws)
    low, high = np.quantile((drawn @ sums) / (drawn @ sizes), [tail, 1 - tail])
    return Interval(float(np.clip(low, 0.0, 1.0)), float(np.clip(high, 0.0, 1.0)))


def _quantile(confidence: float) -> float:
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must be within 0 and 1; it is {confidence}")
    return NormalDist().inv_cdf((1 + confidence) / 2)
