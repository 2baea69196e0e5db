"""Finish with a guarantee: which machine labels may stay, so that at most a share epsilon of the pool is wrong.

The pool is a fixed set of frames. People have labelled some of them, which count as right; each of the other n rows has
a machine label and an uncertainty. m of the n rows are drawn uniformly, people label them, and the rows with the least
uncertainty keep the machine's label, up to the first threshold at which the audit has found too many wrong ones.

Only the draw is random. So the guarantee assumes nothing about the model, the uncertainty or how alike the frames are.
It is void where a row's label or uncertainty depends on the draw or on the answers, where only some of the drawn rows
are answered, where the size of the audit depends on its answers, and where a draw is repeated without `spend`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nextafter

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml_backend.tsal import audit, finite

Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything that is fixed before anybody answers.

    ``uncertainty`` (n,): of the rows with a machine label, any finite numbers, a larger one less certain; ``people``:
    how many other frames of the pool people have labelled; ``epsilon`` in [0, 1]: the largest share of the whole pool
    that may be wrong; ``alpha`` in (0, 1): the largest probability that more is; ``drawn`` (m,): the rows to audit.
    Make a new one with `draw`. Raises ValueError for other values, for an empty pool and for a row that is drawn twice.
    """

    uncertainty: NDArray[np.float64]
    people: int
    epsilon: float
    alpha: float
    drawn: Rows

    def __post_init__(self) -> None:
        uncertainty, drawn = uncertainties(self.uncertainty), np.asarray(self.drawn)
        pool_limit(self.epsilon, len(uncertainty), self.people)
        if not 0.0 < self.alpha < 1.0:
            raise ValueError(f"alpha must be within 0 and 1; it is {self.alpha}")
        if drawn.ndim != 1 or (drawn.size and drawn.dtype.kind not in "iu"):
            raise ValueError(f"drawn must be a list of rows; its shape is {drawn.shape} and its type {drawn.dtype}")
        if drawn.size and not (drawn.min() >= 0 and drawn.max() < len(uncertainty)):
            raise ValueError(f"drawn must be rows from 0 to {len(uncertainty) - 1}")
        if len(np.unique(drawn)) != len(drawn):
            raise ValueError("drawn must be different rows")
        object.__setattr__(self, "uncertainty", uncertainty)
        object.__setattr__(self, "drawn", drawn.astype(np.intp))

    @classmethod
    def draw(
        cls, uncertainty: ArrayLike, people: int, epsilon: float, alpha: float, size: int, rng: np.random.Generator
    ) -> Plan:
        """Draw ``size`` rows uniformly without replacement, from 0 to n. Raises ValueError for another size."""
        n = len(uncertainties(uncertainty))
        if not 0 <= size <= n:
            raise ValueError(f"size must be within 0 and {n}; it is {size}")
        return cls(np.asarray(uncertainty, np.float64), people, epsilon, alpha, audit.draw(n, size, rng))

    @property
    def pool(self) -> int:
        """Number of frames in the whole pool."""
        return self.people + len(self.uncertainty)

    @property
    def limit(self) -> int:
        """Number of frames that may be wrong."""
        return pool_limit(self.epsilon, len(self.uncertainty), self.people)

    @property
    def allowed(self) -> int:
        """Most wrong rows that the audit may find below a threshold that passes; -1 where the audit is too small."""
        return finite.allowed(self.limit, len(self.drawn), len(self.uncertainty), self.alpha)


@dataclass(frozen=True, eq=False)
class Certificate:
    """What an answered audit proves: with probability 1 - alpha at most ``at_most`` frames of the pool are wrong.

    ``kept`` (k,): rows that keep the machine's label; ``to_people`` (j,): rows that people must still label; the drawn
    rows are in neither. ``wrong``: drawn rows on which the machine was wrong; ``allowed`` as in `Plan`. ``error``:
    ``at_most`` as a share of the pool, never above epsilon.

    ``error_of_some`` and ``error_of_all`` are the smallest epsilon with which this audit would have let any row stand,
    and every row. They are chosen after the answers are known, so they are *not* certified: they say what to ask of a
    new draw.
    """

    kept: Rows
    to_people: Rows
    wrong: int
    allowed: int
    at_most: int
    error: float
    error_of_some: float
    error_of_all: float


def certify(plan: Plan, wrong: ArrayLike) -> Certificate:
    """Decide which rows keep the machine's label.

    ``wrong`` (m,) holds booleans, or 0 and 1: whether the machine's label was wrong, in the order of ``plan.drawn``.
    Each distinct uncertainty is a threshold u, and rows of one uncertainty stand together. In ascending order, u passes
    while at most ``plan.allowed`` drawn rows at or below u are wrong. Exactly then is the upper bound at level
    1 - alpha on the wrong rows at or below u, less those found, within the limit. The first failure ends it. Raises
    ValueError for another shape or other values.
    """
    # Proof. Write c for the limit, x for `allowed`, n for the rows and m for the audit. A failure is a threshold u,
    # chosen in any way, with at most x wrong drawn rows at or below it and more than c wrong rows there that were not
    # drawn. If n - m <= c it cannot happen. Otherwise c + 1 + x <= n, and before the draw a set S of c + 1 + x rows can
    # be fixed: the wrong ones of least uncertainty, ties in any order; where there are fewer, all of them and others.
    # - If all of S is wrong and at or below u, the drawn rows of S are among those found: at most x.
    # - Otherwise S contains every wrong row at or below u, so more than c of S are not drawn: at most x are.
    # So a failure implies that at most x of S are drawn. S is fixed, hence the number drawn is hypergeometric, and
    # `allowed` is the largest x for which this has a probability of at most alpha. Nothing is lost by trying many
    # thresholds, so the grid is the finest there is; and the drawn rows, now labelled by people, need not be counted.
    answers = _answers(wrong, len(plan.drawn))
    found = np.sort(plan.uncertainty[plan.drawn[answers]])
    total, permitted = len(found), plan.allowed
    undrawn = np.ones(len(plan.uncertainty), bool)
    undrawn[plan.drawn] = False
    # The first threshold that fails is the uncertainty at which one more than permitted is found.
    failing = -np.inf if permitted < 0 else found[permitted] if total > permitted else np.inf
    stands = plan.uncertainty < failing
    kept = np.flatnonzero(undrawn & stands)
    surest = plan.uncertainty[undrawn].min(initial=np.inf)
    some, everything = _undrawn_bound(plan, int((found <= surest).sum())), _undrawn_bound(plan, total)
    # Exactly where everything stands, its own bound, `everything`, is within the limit. It is then certified too. If
    # c + 1 + x rows or more are wrong, every failure, of this bound too, implies that at most x of S are drawn. If
    # fewer are, more than x found leave at most c: only this bound can fail, and with a probability of at most alpha.
    at_most = min(len(kept), everything, plan.limit)
    return Certificate(
        kept=kept,
        to_people=np.flatnonzero(undrawn & ~stands),
        wrong=total,
        allowed=permitted,
        at_most=at_most,
        error=at_most / plan.pool,
        error_of_some=some / plan.pool,
        error_of_all=everything / plan.pool,
    )


def spend(alpha: float, number: int) -> float:
    """Return the alpha of a project's certificate ``number``, from 1: three quarters of what the earlier ones left.

    With it all certificates of the project, however many, hold together with probability 1 - alpha: the sum never
    exceeds alpha. A draw counts once it is made, whether it is answered or not. Raises ValueError unless 0 < alpha < 1
    and number >= 1.
    """
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must be within 0 and 1; it is {alpha}")
    if number < 1:
        raise ValueError(f"number must be at least 1; it is {number}")
    # Powers of a quarter are exact; rounding down once keeps the sum below alpha.
    return nextafter(0.75 * alpha, 0.0) * 0.25 ** (number - 1)


def pool_limit(epsilon: float, n: int, people: int) -> int:
    """Return the largest number of frames whose share of the pool, n + people, is at most epsilon.

    Raises ValueError for an epsilon outside [0, 1], a negative number of people's frames, and an empty pool.
    """
    if not 0.0 <= epsilon <= 1.0:
        raise ValueError(f"epsilon must be within [0, 1]; it is {epsilon}")
    if people < 0 or people + n < 1:
        raise ValueError(f"the pool must hold a frame, and people at least 0; people is {people} and n is {n}")
    # 0.29 * 100 is a little less than 29 in floating point; 29 / 100 is 0.29. So the share decides.
    near = int(epsilon * (n + people))
    return max(limit for limit in (near - 1, near, near + 1) if limit / (n + people) <= epsilon)


def uncertainties(values: ArrayLike) -> NDArray[np.float64]:
    """Check uncertainties, (n,) finite numbers, n may be 0. Raises ValueError for another shape, NaN or infinity."""
    uncertainty = np.asarray(values, dtype=np.float64)
    if uncertainty.ndim != 1 or not np.isfinite(uncertainty).all():
        raise ValueError(f"uncertainty must be a list of finite numbers; the shape is {uncertainty.shape}")
    return uncertainty


def _answers(wrong: ArrayLike, size: int) -> NDArray[np.bool_]:
    answers = np.asarray(wrong)
    if answers.shape != (size,) or not ((answers == 0) | (answers == 1)).all():
        raise ValueError(f"wrong must be {size} answers of 0 or 1; the shape is {answers.shape}")
    return answers.astype(bool)


def _undrawn_bound(plan: Plan, found: int) -> int:
    """Upper bound on wrong rows that were not drawn, where ``found`` that were drawn are wrong."""
    return finite.upper(found, len(plan.drawn), len(plan.uncertainty), plan.alpha) - found
