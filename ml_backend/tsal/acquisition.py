"""Sample stream: which frames to ask the annotators about next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ml_backend.tsal.arrays import Probabilities, probability_matrix

Scores = NDArray[np.float64]
Strategy = Callable[[Probabilities, np.random.Generator], Scores]
"""Turns (n, l) probabilities into (n,) scores; the frame with the smallest score is asked first.

Every strategy refuses what `probability_matrix` refuses (ValueError) and gives an empty result for an empty pool. It
depends on nothing but its arguments and leaves the probabilities as they are.
"""


def margin(probabilities: Probabilities) -> Scores:
    """Signed margin p(healthy) - max of the other p (eq. 4): (n, l) in [0, 1] to (n,) in [-1, 1].

    Positive: the network leans to a healthy lung; negative: to disease.
    """
    matrix = probability_matrix(probabilities)
    return np.subtract(matrix[:, 0], _largest(matrix[:, 1:]), dtype=np.float64)


def multi_label_margin(probabilities: Probabilities, rng: np.random.Generator) -> Scores:
    """MLM (eq. 4): the absolute margin, in [0, 1]; the paper prints it signed but asks for small. `rng` is unused."""
    return np.abs(margin(probabilities))


def least_confidence(probabilities: Probabilities, rng: np.random.Generator) -> Scores:
    """LC (eq. 2): the largest probability of any label, in [0, 1]. `rng` is unused."""
    return _largest(probability_matrix(probabilities)).astype(np.float64)


def multi_label_entropy(probabilities: Probabilities, rng: np.random.Generator) -> Scores:
    """MLE (eq. 3): minus the sum over labels of the binary entropy, in [-l ln 2, 0] nats. `rng` is unused.

    A probability of exactly 0 or 1 adds exactly 0.
    """
    matrix = probability_matrix(probabilities)
    scores = np.zeros(len(matrix))
    for column in matrix.T:
        present = column.astype(np.float64)
        scores += _times_own_logarithm(present)
        scores += _times_own_logarithm(1.0 - present)
    return scores


def binary_minimum(probabilities: Probabilities, rng: np.random.Generator) -> Scores:
    """The smallest distance of any label's probability to 0.5, in [0, 0.5]. `rng` is unused.

    Where symptoms appear together a small margin (eq. 4) means "both", not "unsure"; this one still means "unsure".
    """
    matrix = probability_matrix(probabilities)
    distances: Scores = np.abs(np.subtract(matrix, 0.5, dtype=np.float64))
    return np.negative(_largest(np.negative(distances)), dtype=np.float64)


def random(probabilities: Probabilities, rng: np.random.Generator) -> Scores:
    """Uniform scores in [0, 1), whatever the probabilities: the baseline of every comparison."""
    return rng.random(len(probability_matrix(probabilities)))


STRATEGIES: MappingProxyType[str, Strategy] = MappingProxyType(
    {
        "mlm": multi_label_margin,
        "lc": least_confidence,
        "mle": multi_label_entropy,
        "binmin": binary_minimum,
        "random": random,
    }
)
"""The strategies that come with this package, by the name that settings and commands use."""

DIVERSE = "-diverse"
"""Suffix of a strategy's name: `tsal.batch.diverse` then chooses its batches."""


def score(
    probabilities: Probabilities,
    strategy: str,
    rng: np.random.Generator,
    strategies: Mapping[str, Strategy] = STRATEGIES,
) -> Scores:
    """Score an (n, l) pool by the one of ``strategies`` of that name, diverse or not.

    Returns (n,) float64, smallest asked first. Raises ValueError for an unknown strategy, unusable probabilities, and
    scores that are not one finite number a frame.
    """
    name = strategy.removesuffix(DIVERSE)
    if name not in strategies:
        known = ", ".join(strategies)
        raise ValueError(f"unknown strategy {strategy!r}; choose one of {known}, each also with {DIVERSE}")
    scores: Scores = np.asarray(strategies[name](probabilities, rng), np.float64)
    if scores.shape != (len(probabilities),) or not np.isfinite(scores).all():
        raise ValueError(
            f"the strategy {name} did not give one finite score a frame: {scores.shape} for {len(probabilities)}"
        )
    return scores


def _largest(matrix: Probabilities) -> Probabilities:
    # Column by column: numpy's reduction over a short last axis is several times slower.
    largest = matrix[:, 0].copy()
    for column in matrix.T[1:]:
        np.maximum(largest, column, out=largest)
    return largest


def _times_own_logarithm(values: Scores) -> Scores:
    # The smallest positive number stands in for 0 inside the logarithm only, so that 0 ln 0 is 0 and never a warning.
    products: Scores = values * np.log(np.maximum(values, np.finfo(np.float64).tiny))
    return products
