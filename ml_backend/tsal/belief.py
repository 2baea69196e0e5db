"""What is believed of every frame: a label combination, where it comes from, and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ml_backend.tsal.arrays import Labels, Probabilities
from ml_backend.tsal.correlation import plain_labels
from ml_backend.tsal.likeness import Places, Rows, Scale, Trust
from ml_backend.tsal.memory import Recall, Remembered, learnt_trust, recall, recall_others
from ml_backend.tsal.ticks import Tables

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

Source = Literal["memory", "network", "table"]
SOURCES: tuple[Source, ...] = ("memory", "network", "table")
_PRIOR = np.array(
    [
        [0.3, 0.9, np.log(0.9), 1.0],
        [0.3, 0.9, np.log(0.9), 1.0],
        [0.05, 0.5, np.log(0.6), 1.0],
        [0.0, 0.3, np.log(0.5), 0.0],
    ]
)
_PRIOR_RIGHT = np.array([True, True, True, False])
"""What is believed before any audit answer, as if four frames had been seen: evidence, and whether it was right."""

_WEAK = 100.0  # of the penalty on the weights of the evidence: answers, not the penalty, decide
_LARGEST_MARGIN = 1.0
_SMALLEST_PROBABILITY = 1e-3


@dataclass(frozen=True, eq=False)
class Candidates:
    """What each source would tick on n frames: ``labels`` (s, n, l), and the ``evidence`` (s, n, f) for it."""

    labels: NDArray[np.uint8]
    evidence: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Calibration:
    """How likely a candidate is right, by its evidence: a logistic regression on audit frames."""

    model: LogisticRegression
    answers: int

    @classmethod
    def fit(cls, candidates: Candidates, right: NDArray[np.bool_]) -> Calibration:
        """Fit to the candidates of m audit frames; ``right`` (s, m) whether each has the whole combination right."""
        from sklearn.linear_model import LogisticRegression  # imported late: it takes seconds

        width = candidates.evidence.shape[2]
        evidence = np.concatenate([_PRIOR[:, :width], candidates.evidence.reshape(-1, width)])
        model = LogisticRegression(C=_WEAK, max_iter=1000)
        model.fit(evidence, np.concatenate([_PRIOR_RIGHT, right.reshape(-1)]))
        return cls(model, right.shape[1])

    def sure(self, candidates: Candidates) -> NDArray[np.float64]:
        """The probability that each candidate is right: (s, n) in [0, 1]."""
        sources, frames, width = candidates.evidence.shape
        if not frames:
            return np.empty((sources, 0))
        found: NDArray[np.float64] = self.model.predict_proba(candidates.evidence.reshape(-1, width))[:, 1]
        return found.reshape(sources, frames)


@dataclass(frozen=True, eq=False)
class Belief:
    """What is believed of n frames.

    ``labels`` (n, l) uint8; ``source`` (n,) the place of its source among `SOURCES`; ``confidence`` (n,) in [0, 1]: the
    probability that the whole combination is right; ``recall`` what the memory alone says; ``scale`` and ``trust`` are
    those it compared with.
    """

    labels: Labels
    source: Rows
    confidence: NDArray[np.float64]
    recall: Recall
    scale: Scale
    trust: Trust

    def __getitem__(self, rows: Rows | slice) -> Belief:
        return Belief(
            self.labels[rows], self.source[rows], self.confidence[rows], self.recall[rows], self.scale, self.trust
        )


def candidates(recall: Recall, probabilities: Probabilities | None, tables: Tables | None) -> Candidates:
    """What memory, network and table would tick; the memory alone where there is no network yet.

    Where the memory does not know a symptom, the network's word stands in for it. The evidence for a candidate: how
    much nearer its combination is than any other in the memory, how alike the nearest frame is, the network's mean log
    probability of its labels, and whether the table has the same row.
    """
    if probabilities is None or tables is None:
        return Candidates(recall.labels[None], _evidence(recall, recall.labels[None], None, None))
    plain = plain_labels(probabilities)
    table = tables.correlation.validate(probabilities)[0] if len(tables.correlation.combinations) else plain
    labels = np.stack([np.where(recall.known, recall.labels, plain), plain, table])
    return Candidates(labels, _evidence(recall, labels, probabilities, table))


def _evidence(
    recall: Recall, labels: NDArray[np.uint8], probabilities: Probabilities | None, table: Labels | None
) -> NDArray[np.float64]:
    agrees = ((labels == recall.labels) | ~recall.known).all(axis=2)
    margin = np.minimum(recall.margin, _LARGEST_MARGIN)
    alike = np.where(np.isfinite(recall.similarity), recall.similarity, -1.0)
    columns: list[NDArray[Any]] = [np.where(agrees, margin, -margin), np.where(agrees, alike, 0.0)]
    if probabilities is not None:
        of_label = np.where(labels == 1, probabilities, 1.0 - probabilities)
        columns.append(np.log(np.maximum(of_label, _SMALLEST_PROBABILITY)).mean(axis=2))
        columns.append((labels == table).all(axis=2))
    return np.stack([column.astype(np.float64) for column in columns], axis=2)


@dataclass(frozen=True, eq=False)
class Audited:
    """The answered audit frames.

    ``rows`` (k,) of the remembered frames; ``probabilities`` (k, l) what the network said before they were answered,
    NaN where there was no network.
    """

    rows: Rows
    probabilities: Probabilities

    @property
    def judged(self) -> NDArray[np.bool_]:
        """Whether the network had a word on each."""
        return np.asarray(~np.isnan(self.probabilities).any(axis=1))


def believe(
    pool: Places,
    remembered: Remembered,
    audited: Audited,
    probabilities: Probabilities | None,
    tables: Tables | None,
) -> Belief:
    """Say what every frame of the pool shows, by the source most likely to be right about it.

    ``probabilities`` (n, l) are the network's, None before the first version. How far each source may be trusted is
    learnt from the audit frames: what the memory of all other frames says of them, and what the network said before
    they were answered.
    """
    scale = Scale.of(pool.embeddings if len(pool) else remembered.places.embeddings)
    trust = learnt_trust(remembered, audited.rows, scale)
    recalled = recall(pool, remembered, scale, trust)
    offered = candidates(recalled, probabilities, tables)
    rows = audited.judged if probabilities is not None else np.ones(len(audited.rows), bool)
    calibration = calibrate(remembered, audited, rows, tables if probabilities is not None else None, scale, trust)
    sure = calibration.sure(offered)
    if probabilities is not None:
        sure[0, recalled.row < 0] = -1.0  # the memory has nothing to say
    source: Rows = sure.argmax(axis=0).astype(np.intp)
    every = np.arange(len(pool))
    confidence = np.clip(sure[source, every], 0.0, 1.0)
    return Belief(offered.labels[source, every], source, confidence, recalled, scale, trust)


def calibrate(
    remembered: Remembered,
    audited: Audited,
    rows: NDArray[np.bool_],
    tables: Tables | None,
    scale: Scale,
    trust: Trust,
) -> Calibration:
    """Measure the sources on those audit frames (k,) whose ``rows`` are true; ``tables`` None: the memory alone."""
    asked = audited.rows[rows]
    others = recall_others(remembered, asked, scale, trust)
    offered = candidates(others, None if tables is None else audited.probabilities[rows], tables)
    truth, known = remembered.labels[asked], remembered.known[asked]
    return Calibration.fit(offered, ((offered.labels == truth) | ~known).all(axis=2))
