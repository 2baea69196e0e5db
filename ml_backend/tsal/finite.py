"""Exact bounds on a count in a finite population, from a uniform draw without replacement.

Of ``population`` rows some are marked, nobody knows which. ``drawn`` rows are drawn, every subset of that size equally
likely, and ``found`` of them are marked. Then ``found`` is hypergeometric, whatever the marked rows are. A
Clopper-Pearson bound, which takes the draws for independent, also holds but is wider.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

SLACK = 1e-6
"""Share of alpha that is given up, so that rounding of a probability can never make a bound too small."""


def tail(found: int, marked: int, drawn: int, population: int) -> float:
    """Return the probability that at most ``found`` of the ``drawn`` rows are marked, where ``marked`` are in all.

    Raises ValueError unless 0 <= marked <= population and 0 <= drawn <= population.
    """
    _require_within(marked, population, "marked")
    _require_within(drawn, population, "drawn")
    least, most = max(0, drawn + marked - population), min(marked, drawn)
    if found < least:
        return 0.0
    if found >= most:
        return 1.0
    counts = np.arange(least, found + 1, dtype=np.float64)
    logs = _log_choose(marked, counts) + _log_choose(population - marked, drawn - counts)
    everything = _log_choose(population, np.array([float(drawn)]))
    return float(min(1.0, np.exp(logs - everything).sum()))


def upper(found: int, drawn: int, population: int, alpha: float) -> int:
    """Return the upper confidence bound, at level 1 - alpha, on the number of marked rows in the population.

    It is the largest number under which finding so few has a probability above alpha. The probability, over the draw,
    that more rows are marked than the bound says is at most alpha. Raises ValueError unless 0 <= found <= drawn <=
    population and 0 < alpha < 1.
    """
    _require_within(drawn, population, "drawn")
    _require_within(found, drawn, "found")
    _require_level(alpha)
    most = population - (drawn - found)
    return _last(lambda marked: not _rare(tail(found, marked, drawn, population), alpha), found, most)


def allowed(limit: int, drawn: int, population: int, alpha: float) -> int:
    """Return how many marked rows a draw may find and still prove that at most ``limit`` others are marked.

    It is the largest x at which a draw from limit + 1 + x marked rows finds at most x of them with probability at most
    alpha, which says the same as ``upper(x, ...) - x <= limit``; -1 where the draw is too small for any. Raises
    ValueError for a negative limit, and as `upper` does.
    """
    _require_limit(limit)
    _require_within(drawn, population, "drawn")
    _require_level(alpha)
    if population - drawn <= limit:
        return drawn
    return _last(lambda x: _rare(tail(x, limit + 1 + x, drawn, population), alpha), -1, drawn)


def smallest_draw(limit: int, found: int, population: int, alpha: float) -> int:
    """Return the smallest draw that may find ``found`` marked rows and still prove that at most ``limit`` others are.

    It is never more than population - limit, for then no more than ``limit`` others are left. Raises ValueError for a
    negative limit or found, and unless 0 < alpha < 1.
    """
    _require_limit(limit)
    _require_limit(found)
    _require_level(alpha)
    everything = max(0, population - limit)
    marked = limit + 1 + found
    if marked > population:
        return everything
    # Too small a draw is not rare enough; the smallest that is stands one above the largest that is not.
    return _last(lambda drawn: not _rare(tail(found, marked, drawn, population), alpha), 0, everything - 1) + 1


def _rare(probability: float, alpha: float) -> bool:
    return probability <= alpha * (1 - SLACK)


def _last(holds: Callable[[int], bool], low: int, high: int) -> int:
    """Bisect for the last number, ``low`` to ``high``, that `holds`: it does at ``low``, and never again after a no."""
    while low < high:
        middle = (low + high + 1) // 2
        if holds(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _log_choose(n: int, k: NDArray[np.float64]) -> NDArray[np.float64]:
    logs: NDArray[np.float64] = gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)
    return logs


def _require_within(value: int, most: int, name: str) -> None:
    if not 0 <= value <= most:
        raise ValueError(f"{name} must be within 0 and {most}; it is {value}")


def _require_limit(value: int) -> None:
    if value < 0:
        raise ValueError(f"a number of rows must be at least 0; it is {value}")


def _require_level(alpha: float) -> None:
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must be within 0 and 1; it is {alpha}")
