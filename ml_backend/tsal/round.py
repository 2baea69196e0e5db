"""One round of the method: which frames to ask for next, in which order, and why.

The product and the study both call `choose` here, `tsal.ticks.ticks` for the defaults and `Tables.learn` after each
fine-tune, with the same seeds: a figure of the study is a figure of the code that serves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml_backend.tsal.acquisition import DIVERSE, STRATEGIES, Scores, Strategy, score
from ml_backend.tsal.arrays import Probabilities
from ml_backend.tsal.audit import audit_size, draw, interleave
from ml_backend.tsal.batch import candidates, diverse
from ml_backend.tsal.belief import Belief
from ml_backend.tsal.cover import cover_batch
from ml_backend.tsal.diversity import spread
from ml_backend.tsal.likeness import Places
from ml_backend.tsal.rarity import feed_rare

Rows = NDArray[np.intp]
Reason = Literal["audit", "different", "random", "uncertain", "rare symptom", "new clip", "later", "held out"]
"""The reason for a frame's place in the queue; machine-readable, stored with the prediction and with the order."""

COVER = "cover"
"""The strategy that covers the pool; it needs a belief and, unlike the others, no network."""

_SELECTION, _AUDIT, _PLACES = 0, 1, 2


def generator(seed: int, number: int, stream: int = _SELECTION) -> np.random.Generator:
    """The random generator of a round: ``number`` counts versions, 0 before the first."""
    return np.random.default_rng([seed, number, stream])


@dataclass(frozen=True, eq=False)
class Pool:
    """The n frames that nobody has confirmed yet.

    ``probabilities`` (n, l) in [0, 1] are those of the version that serves, None before the first; ``places`` where the
    frames come from and what they look like; ``held_out`` (n,) booleans, whether a frame's patient is kept for
    validation.
    """

    probabilities: Probabilities | None
    places: Places
    held_out: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.places)


@dataclass(frozen=True, eq=False)
class Known:
    """What the confirmed annotations say.

    ``asked`` (n,): confirmed frames of each pool frame's clip; ``positives`` (l,): confirmed frames that show each
    symptom, None where they were not counted; ``audit``: rows of this batch's audit frames that nobody has answered, in
    the order drawn, None where the batch has no draw yet; ``belief`` what is believed of the pool's frames.
    """

    asked: NDArray[np.intp]
    positives: ArrayLike | None = None
    audit: Rows | None = None
    belief: Belief | None = None


@dataclass(frozen=True)
class Rules:
    """How a batch is chosen.

    ``strategy``: a name among ``strategies``, diverse or not; ``k_max``: frames in a batch; ``audit``: share of the
    batch that is drawn uniformly; ``seed`` and ``number`` as in `generator`; ``first``: how the batch before the first
    version is chosen.
    """

    strategy: str
    k_max: int
    audit: float
    seed: int
    number: int
    first: Literal["different", "random"] = "different"
    strategies: Mapping[str, Strategy] = field(default_factory=lambda: STRATEGIES)


@dataclass(frozen=True, eq=False)
class Batch:
    """The whole pool in the order in which it is asked; the batch is its first k_max frames.

    ``order`` (n,) a permutation of the rows; ``reasons`` the reason for each, in that order; ``audit`` (m,) the audit
    rows; ``scores`` (n,) by row, smallest most informative.
    """

    order: Rows
    reasons: tuple[Reason, ...]
    audit: Rows
    scores: Scores


def choose(pool: Pool, known: Known, rules: Rules) -> Batch:
    """Choose the next batch and order the rest of the pool behind it.

    Audit frames are a uniform draw from the whole pool and stand among the first k_max frames. The strategy chooses the
    others among patients that are not held out. Held-out frames come last, when nothing else is left. Cover asks for
    held-out patients' frames like all others: the network never learns them, but the memory has to know them.
    """
    size = audit_size(rules.audit, rules.k_max, len(pool)) if known.audit is None else len(known.audit)
    drawing = generator(rules.seed, rules.number, _AUDIT)
    audit = draw(len(pool), size, drawing) if known.audit is None else known.audit
    held_back = pool.held_out & (rules.strategy != COVER)
    open_ = ~held_back
    open_[audit] = False
    drawn = np.zeros(len(pool), bool)
    drawn[audit] = True
    rules_of_rest = replace(rules, k_max=max(1, rules.k_max - size))
    reasons = np.full(len(pool), "later", dtype="<U12")
    if rules.strategy == COVER:
        order, scores = _by_cover(pool, known, np.flatnonzero(open_), audit, rules_of_rest, reasons)
    elif pool.probabilities is None:
        order, scores = _before_the_first_version(pool, np.flatnonzero(open_), rules_of_rest, reasons)
    else:
        scores = score(pool.probabilities, rules.strategy, generator(rules.seed, rules.number), rules.strategies)
        order = _by_strategy(pool, known, np.flatnonzero(open_), scores, rules_of_rest, reasons)
    held = np.flatnonzero(held_back & ~drawn)
    order = np.concatenate([order, held[np.argsort(scores[held], kind="stable")]])
    # A generator of its own, so that a refresh, which draws nothing, puts the audit frames in the same places.
    places = generator(rules.seed, rules.number, _PLACES)
    order = interleave(order, audit, max(1.0, min(rules.k_max, len(pool)) / max(1, size)), places)
    reasons[order[rules.k_max :]] = "later"
    reasons[held], reasons[audit] = "held out", "audit"
    return Batch(order, tuple(reasons[order].tolist()), audit, scores)


def _by_cover(
    pool: Pool, known: Known, rows: Rows, audit: Rows, rules: Rules, reasons: NDArray[np.str_]
) -> tuple[Rows, Scores]:
    """Frames that cover the pool, doubtful ones and rare symptoms; then the rest, least sure first.

    Raises ValueError without a belief.
    """
    if known.belief is None:
        raise ValueError(f"the strategy {COVER} needs a belief")
    belief, clips = known.belief, pool.places.clips
    positives = None if known.positives is None else np.asarray(known.positives)
    rng = generator(rules.seed, rules.number)
    batch = cover_batch(pool.places, belief, positives, audit, rules.k_max, rng)
    rest = rows[~np.isin(rows, batch.rows)]
    rest = rest[np.lexsort((belief.recall.margin[rest], belief.confidence[rest]))]
    reasons[batch.rows] = "different"
    best_of_clip: Rows = batch.rows[np.unique(clips[batch.rows], return_index=True)[1]]
    reasons[best_of_clip[known.asked[best_of_clip] == 0]] = "new clip"
    reasons[batch.unsure], reasons[batch.rare] = "uncertain", "rare symptom"
    order: Rows = np.concatenate([batch.rows, rest])
    return order, belief.confidence


def _before_the_first_version(pool: Pool, rows: Rows, rules: Rules, reasons: NDArray[np.str_]) -> tuple[Rows, Scores]:
    """Frames that differ from each other first, or any; there is nothing to score yet."""
    rng = generator(rules.seed, rules.number)
    reasons[rows] = rules.first
    if rules.first == "random":
        order: Rows = rng.permutation(rows)
    else:
        order = rows[spread(np.asarray(pool.places.embeddings[rows], np.float32), rules.k_max, rng)]
    scores = np.ones(len(pool))
    scores[order] = np.arange(len(order)) / len(pool)
    return order, scores


def _by_strategy(pool: Pool, known: Known, rows: Rows, scores: Scores, rules: Rules, reasons: NDArray[np.str_]) -> Rows:
    """The given rows, most informative first; of a diverse strategy, a diverse batch with rare symptoms in it."""
    reasons[rows] = "random" if rules.strategy.removesuffix(DIVERSE) == "random" else "uncertain"
    order: Rows = rows[np.argsort(scores[rows], kind="stable")]
    if not rules.strategy.endswith(DIVERSE) or not len(rows):
        return order
    wanted = rows[candidates(scores[rows], rules.k_max)]
    features = np.asarray(pool.places.embeddings[wanted], np.float32)
    rng, clips = generator(rules.seed, rules.number), pool.places.clips
    first = wanted[diverse(scores[wanted], features, clips[wanted], known.asked[wanted], rules.k_max, rng)]
    added: Rows = np.empty(0, np.intp)
    if known.positives is not None and pool.probabilities is not None:
        places, fed = feed_rare(
            np.searchsorted(rows, first),
            pool.probabilities[rows],
            known.positives,
            clips[rows],
            known.asked[rows],
            rules.k_max,
        )
        first, added = rows[places], rows[fed]
    best_of_clip: Rows = first[np.unique(clips[first], return_index=True)[1]]
    reasons[best_of_clip[known.asked[best_of_clip] == 0]] = "new clip"
    reasons[added] = "rare symptom"
    return np.concatenate([first, order[~np.isin(order, first)]])
