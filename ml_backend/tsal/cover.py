"""Cover a pool: ask next for the frames that make most of it like something confirmed (facility location)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ml_backend.tsal.belief import Belief
from ml_backend.tsal.likeness import Likeness, Places, Rows, Scale, Similarity, Trust, likeness

_CANDIDATES, _JUDGES = 4096, 4096
_NOT_ALIKE = 0.0
"""The cosine of two frames that have nothing in common: being less like something than this is no worse."""


def cover(
    pool: Places, similarity: Similarity, open_: Rows, count: int, scale: Scale, trust: Trust, rng: Generator
) -> Rows:
    """Choose ``count`` of the rows ``open_``, each the one that gains most.

    ``similarity`` (n,): how alike each frame of the pool is to what is known already, -inf where nothing is. A frame's
    gain is a sum over the pool: the square of what it would add to each frame's likeness to the known or chosen frame
    most like it. So large groups that are like nothing known come first, then small ones, and what is well known gains
    nothing. Of equal gains the first row counts. Beyond `_JUDGES` frames the sum is over a draw of them and the frame
    itself; beyond `_CANDIDATES` open rows half of the candidates are those least alike to anything known, half a draw.
    """
    rows = _candidates(similarity, open_, rng)
    judges = _drawn(np.arange(len(pool)), _JUDGES, rng)
    alike = likeness(pool[rows], pool[judges], scale, trust)
    known = np.maximum(similarity[judges], _NOT_ALIKE).astype(np.float32)
    own = np.square(1.0 - np.clip(similarity[rows], _NOT_ALIKE, 1.0))
    own[np.isin(rows, judges)] = 0.0  # counted among the judges
    added = np.empty_like(known)

    def gain(one: NDArray[np.float32]) -> float:
        np.subtract(one, known, out=added)
        np.maximum(added, 0.0, out=added)
        return float(added @ added)

    bound, counted = np.array([gain(one) for one in alike], np.float32) + own, np.zeros(len(rows), np.intp)
    chosen: list[int] = []
    while len(chosen) < min(count, len(rows)):
        best = int(bound.argmax())
        # Gains only fall as more is chosen, so one that leads with what it has now is the largest (a lazy search).
        if counted[best] < len(chosen):
            bound[best], counted[best] = gain(alike[best]) + own[best], len(chosen)
            continue
        chosen.append(best)
        bound[best] = -np.inf
        np.maximum(known, alike[best], out=known)
    return rows[chosen]


def _candidates(similarity: Similarity, open_: Rows, rng: Generator) -> Rows:
    """The rows to choose among, in ascending order."""
    if len(open_) <= _CANDIDATES:
        return np.sort(open_)
    half = _CANDIDATES // 2
    least: Rows = open_[np.argpartition(similarity[open_], half)[:half]]
    return np.sort(np.concatenate([least, _drawn(np.setdiff1d(open_, least), half, rng)]))


def _drawn(rows: Rows, count: int, rng: Generator) -> Rows:
    return rows if len(rows) <= count else np.sort(rng.choice(rows, count, replace=False))


_UNSURE = 4
"""One in so many places of a batch goes to frames that memory and network are least sure of."""

_RARE = 10
"""One in so many places of a batch goes to frames that seem to show the rarest symptom."""

_DOUBTFUL = 10


@dataclass(frozen=True, eq=False)
class Covered:
    """A batch: ``rows`` in the order to ask, and by row which of them were added for doubt or for a rare symptom."""

    rows: Rows
    unsure: Rows
    rare: Rows


def cover_batch(
    pool: Places, belief: Belief, positives: NDArray[np.integer] | None, audit: Rows, count: int, rng: Generator
) -> Covered:
    """Choose ``count`` frames: most cover the pool, some resolve a doubt, a few feed the rarest symptom.

    ``positives`` (l,): confirmed frames that show each symptom; ``audit``: rows that will be asked anyway, which cover
    what is like them.
    """
    scale, trust = belief.scale, belief.trust
    open_ = np.setdiff1d(np.arange(len(pool)), audit)
    similarity = belief.recall.similarity.copy()
    some_known = bool((belief.recall.row >= 0).any())

    def now_known(rows: Rows) -> None:
        like = Likeness(pool[rows], scale, trust)
        for piece, part in pool.chunks():
            similarity[piece] = np.maximum(similarity[piece], like(part).max(axis=1))

    def take(among: Rows, wanted: int) -> Rows:
        nonlocal open_
        found = cover(pool, similarity, among, wanted, scale, trust, rng)
        if len(found):
            now_known(found)
        open_ = np.setdiff1d(open_, found)
        return found

    if len(audit):
        now_known(audit)
    doubtful = open_[np.lexsort((belief.recall.margin[open_], belief.confidence[open_]))]
    unsure = take(doubtful[: _DOUBTFUL * (count // _UNSURE)], count // _UNSURE) if some_known else audit[:0]
    rare = audit[:0]
    if some_known and positives is not None:
        symptom = 1 + int(np.argmin(positives[1:]))
        shows = doubtful[(belief.labels[doubtful, symptom] == 1) & np.isin(doubtful, open_)]
        rare = take(shows[: _DOUBTFUL * (count // _RARE)], count // _RARE)
    different = take(open_, count - len(unsure) - len(rare))
    return Covered(_mixed(different, np.concatenate([unsure, rare])), unsure, rare)


def _mixed(first: Rows, second: Rows) -> Rows:
    """Both lists in their order, spread evenly into each other, so that the batch may be cut short anywhere."""
    places = np.concatenate(
        [(np.arange(len(rows)) + 0.5) / len(rows) if len(rows) else np.empty(0) for rows in (first, second)]
    )
    mixed: Rows = np.concatenate([first, second])[np.argsort(places, kind="stable")]
    return mixed
