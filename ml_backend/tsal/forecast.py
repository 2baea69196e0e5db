"""How many more answers a certificate will take: which audit is cheapest, and what a budget can certify.

A forecast only plans. It takes the confidences for true and the errors for independent of each other; where they are
not, it is off, and `tsal.certificate` holds all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc

from ml_backend.tsal import finite
from ml_backend.tsal.certificate import pool_limit, uncertainties

GRID = 2048
"""Rows, evenly spread over the order of uncertainty, at which an expectation over all rows is evaluated."""
STEP = 1.1
"""Ratio of one audit that is tried to the one before."""


class Forecast(NamedTuple):
    """An audit of ``size`` rows, and the expected number of ``answers``: the audit, and the rows that go to people.

    ``epsilon``: the largest share of the pool that may be wrong, in whole frames; ``allowed`` as in
    `tsal.certificate.Plan`.
    """

    size: int
    allowed: int
    epsilon: float
    answers: float


@dataclass(frozen=True, eq=False)
class Prospect:
    """What is known before a draw: the uncertainty of each machine-labelled row, and how likely its label is right.

    ``uncertainty`` (n,) and ``people`` as in `tsal.certificate.Plan`; ``confidence`` (n,) in [0, 1]. Raises ValueError
    for other values.
    """

    uncertainty: NDArray[np.float64]
    confidence: NDArray[np.float64]
    people: int

    def __post_init__(self) -> None:
        uncertainty, confidence = uncertainties(self.uncertainty), np.asarray(self.confidence, np.float64)
        if confidence.shape != uncertainty.shape or not ((confidence >= 0.0) & (confidence <= 1.0)).all():
            raise ValueError(
                f"confidence must be {len(uncertainty)} numbers within [0, 1]; the shape is {confidence.shape}"
            )
        pool_limit(0.0, len(uncertainty), self.people)
        object.__setattr__(self, "uncertainty", uncertainty)
        object.__setattr__(self, "confidence", confidence)

    def __len__(self) -> int:
        return len(self.uncertainty)

    @property
    def pool(self) -> int:
        """Number of frames in the whole pool."""
        return self.people + len(self)


def of_size(prospect: Prospect, size: int, epsilon: float, alpha: float) -> Forecast:
    """Forecast an audit of ``size`` rows.

    Raises ValueError unless 0 <= size <= n, for an epsilon outside [0, 1] and for an alpha outside (0, 1).
    """
    limit = pool_limit(epsilon, len(prospect), prospect.people)
    return _forecast(_errors_below(prospect), prospect, limit, alpha, size)


def cheapest(prospect: Prospect, epsilon: float, alpha: float) -> Forecast:
    """Forecast the audit with the fewest expected answers.

    Only sizes at which one more wrong row is allowed can be the cheapest: between them a larger audit gains nothing.
    Beyond the first ten they are tried a tenth apart. Raises ValueError as `of_size` does.
    """
    n, below = len(prospect), _errors_below(prospect)
    limit = pool_limit(epsilon, n, prospect.people)
    best, found = None, 0
    while True:
        size = finite.smallest_draw(limit, found, n, alpha)
        if best is not None and size >= best.answers:
            return best
        one = _forecast(below, prospect, limit, alpha, size)
        if best is None or one.answers < best.answers:
            best = one
        if size >= n - limit:  # so large that what it leaves may all be wrong
            return best
        found = max(found + 1, int(found * STEP))


def within(prospect: Prospect, budget: int, alpha: float) -> Forecast:
    """Forecast the audit that certifies the smallest epsilon with at most ``budget`` expected answers.

    Raises ValueError for a negative budget or an alpha outside (0, 1).
    """
    if budget < 0:
        raise ValueError(f"budget must be at least 0; it is {budget}")
    n, below = len(prospect), _errors_below(prospect)
    largest = min(budget, n)
    steps = int(np.log(max(1, largest)) / np.log(STEP))
    sizes = np.unique(np.append((STEP ** np.arange(steps + 1)).astype(int).clip(max=largest), [0, largest]))
    choices = [_smallest_limit(below, prospect, budget, alpha, int(size)) for size in sizes]
    limit, _, size = min(choices)
    return _forecast(below, prospect, limit, alpha, size)


def _smallest_limit(
    below: NDArray[np.float64], prospect: Prospect, budget: int, alpha: float, size: int
) -> tuple[int, float, int]:
    """The smallest limit that an audit of this size certifies within the budget, its expected answers, and the size."""
    low, high = 0, size  # with all that are found allowed, the audit is all there is to answer
    while low < high:
        middle = (low + high) // 2
        if _expected(below, len(prospect), size, middle) <= budget:
            high = middle
        else:
            low = middle + 1
    return finite.upper(low, size, len(prospect), alpha) - low, _expected(below, len(prospect), size, low), size


def _forecast(below: NDArray[np.float64], prospect: Prospect, limit: int, alpha: float, size: int) -> Forecast:
    allowed = finite.allowed(limit, size, len(prospect), alpha)
    return Forecast(size, allowed, limit / prospect.pool, _expected(below, len(prospect), size, allowed))


def _expected(below: NDArray[np.float64], n: int, size: int, allowed: int) -> float:
    """Expected answers: the audit, and the rows that were not drawn where more than ``allowed`` are found up to them.

    Each of the drawn rows is wrong, and of no more uncertainty, with the same probability; so how many are is binomial.
    """
    if allowed < 0:
        return float(n)
    if allowed >= size:
        return float(size)
    failing = float(bdtrc(allowed, size, np.clip(below / n, 0.0, 1.0)).mean())
    return size + (n - size) * failing


def _errors_below(prospect: Prospect) -> NDArray[np.float64]:
    """Expected number of wrong rows of at most the uncertainty of each of up to `GRID` rows, spread evenly."""
    order = np.argsort(prospect.uncertainty)
    ordered, errors = prospect.uncertainty[order], np.cumsum(1.0 - prospect.confidence[order])
    count = min(GRID, len(order))
    rows = ((np.arange(count) + 0.5) * (len(order) / max(1, count))).astype(np.intp)
    below: NDArray[np.float64] = errors[np.searchsorted(ordered, ordered[rows], side="right") - 1]
    return below
