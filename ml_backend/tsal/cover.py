"""Cover a pool: ask next for the frames that are least like anything confirmed (k-centre greedy, farthest first)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ml_backend.tsal.belief import Belief
from ml_backend.tsal.likeness import Places, Rows, Scale, Similarity, Trust, likeness

_BLOCK = 1024


def cover(
    pool: Places,
    similarity: Similarity,
    open_: Rows,
    count: int,
    scale: Scale,
    trust: Trust,
    rng: Generator,
) -> Rows:
    """Choose ``count`` of the rows ``open_``, each the one whose most similar known or chosen frame is least similar.

    ``similarity`` (n,): how alike each frame of the pool is to what is known already, -inf where nothing is. The first
    frame of a pool of which nothing is known is drawn; of equally distant ones the first row counts. The result is that
    of the plain algorithm, which compares every frame with every chosen one; but likeness to what is known only grows,
    so a frame whose last figure is not the smallest need not be compared yet (a lazy greedy search).
    """
    bound = np.full(len(pool), np.inf, np.float32)
    bound[open_] = similarity[open_]
    counted = np.zeros(len(pool), np.intp)  # how many of the chosen frames a frame's bound counts
    chosen: list[int] = []
    while len(chosen) < min(count, len(open_)):
        least = int(bound.argmin())
        if np.isneginf(bound[least]) and not chosen:
            least = int(rng.choice(open_[np.isneginf(similarity[open_])]))
        elif counted[least] < len(chosen):
            _bring_up_to_date(pool, bound, counted, chosen, scale, trust)
            continue
        chosen.append(least)
        bound[least] = np.inf
    return np.array(chosen, np.intp)


def _bring_up_to_date(
    pool: Places, bound: Similarity, counted: Rows, chosen: list[int], scale: Scale, trust: Trust
) -> None:
    """Compare the frames with the smallest bounds with the frames chosen since; all frames if none was compared yet."""
    if np.isneginf(bound.min()):
        rows = np.flatnonzero(np.isneginf(bound))
    else:
        size = min(_BLOCK, len(bound))
        rows = np.argpartition(bound, size - 1)[:size]
        rows = rows[(counted[rows] < len(chosen)) & np.isfinite(bound[rows])]
    oldest = int(counted[rows].min())
    new = pool[np.array(chosen[oldest:], np.intp)]
    for start in range(0, len(rows), 8 * _BLOCK):
        some = np.sort(rows[start : start + 8 * _BLOCK])
        bound[some] = np.maximum(bound[some], likeness(pool[some], new, scale, trust).max(axis=1))
        counted[some] = len(chosen)


_UNSURE = 4
"""One in so many places of a batch goes to frames that memory and network are least sure of."""

_RARE = 10
"""One in so many places of a batch goes to frames that seem to show the rarest symptom."""

_CANDIDATES = 10


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

    def take(among: Rows, wanted: int) -> Rows:
        nonlocal open_
        found = cover(pool, similarity, among, wanted, scale, trust, rng)
        if len(found):
            alike = [likeness(part, pool[found], scale, trust).max(axis=1) for _, part in pool.chunks()]
            np.maximum(similarity, np.concatenate(alike), out=similarity)
        open_ = np.setdiff1d(open_, found)
        return found

    if len(audit):
        for rows, part in pool.chunks():
            similarity[rows] = np.maximum(similarity[rows], likeness(part, pool[audit], scale, trust).max(axis=1))
    doubtful = open_[np.lexsort((belief.recall.margin[open_], belief.confidence[open_]))]
    unsure = take(doubtful[: _CANDIDATES * (count // _UNSURE)], count // _UNSURE) if some_known else audit[:0]
    rare = audit[:0]
    if some_known and positives is not None:
        symptom = 1 + int(np.argmin(positives[1:]))
        shows = doubtful[(belief.labels[doubtful, symptom] == 1) & np.isin(doubtful, open_)]
        rare = take(shows[: _CANDIDATES * (count // _RARE)], count // _RARE)
    different = take(open_, count - len(unsure) - len(rare))
    return Covered(_mixed(different, np.concatenate([unsure, rare])), unsure, rare)


def _mixed(first: Rows, second: Rows) -> Rows:
    """Both lists in their order, spread evenly into each other, so that the batch may be cut short anywhere."""
    places = np.concatenate(
        [(np.arange(len(rows)) + 0.5) / len(rows) if len(rows) else np.empty(0) for rows in (first, second)]
    )
    mixed: Rows = np.concatenate([first, second])[np.argsort(places, kind="stable")]
    return mixed
