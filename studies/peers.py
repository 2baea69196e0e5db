"""Other people's strategies on the same embeddings: those of scikit-activeml."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from skactiveml.classifier import SklearnClassifier
from skactiveml.pool import Badge, CoreSet, ProbCover, TypiClust
from sklearn.linear_model import LogisticRegression

Rows = NDArray[np.intp]
MISSING = -1


class Peer(Protocol):
    """Chooses the next batch."""

    def __call__(self, units: NDArray[np.float32], combinations: Rows, count: int) -> Rows:
        """Choose ``count`` rows; ``combinations`` (n,) are the answers, `MISSING` where a row is open."""


def peer(name: str, seed: int) -> Peer:
    """The strategy of this name, seeded; it keeps what it learnt of the pool from one batch to the next."""
    made: Any = {
        "core-set": lambda: CoreSet(missing_label=MISSING, random_state=seed),
        "typiclust": lambda: TypiClust(missing_label=MISSING, random_state=seed),
        "probcover": lambda: ProbCover(missing_label=MISSING, random_state=seed),
        "badge": lambda: Badge(missing_label=MISSING, random_state=seed),
    }[name]()

    def choose(units: NDArray[np.float32], combinations: Rows, count: int) -> Rows:
        if name != "badge":
            found = made.query(units, combinations, batch_size=count)
        elif len(np.unique(combinations[combinations != MISSING])) < 2:  # it needs a classifier, and that two classes
            found = np.random.default_rng(seed).permutation(np.flatnonzero(combinations == MISSING))[:count]
        else:
            found = made.query(units, combinations, clf=_classifier(combinations, seed), batch_size=count)
        return np.asarray(found, np.intp)

    return choose


def _classifier(combinations: Rows, seed: int) -> SklearnClassifier:
    classes = np.unique(combinations[combinations != MISSING])
    logistic = LogisticRegression(max_iter=500, random_state=seed)
    return SklearnClassifier(logistic, classes=classes, missing_label=MISSING, random_state=seed)


PEERS = ("core-set", "typiclust", "probcover", "badge")
