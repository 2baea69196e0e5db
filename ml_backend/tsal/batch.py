"""Choose a batch of informative frames that are not near-copies of each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml_backend.tsal.acquisition import Scores
from ml_backend.tsal.diversity import FeatureMatrix, clusters

CANDIDATES = 10
"""Candidates for each frame of the batch: the most informative ones by the strategy's score."""


def candidates(scores: Scores, count: int) -> NDArray[np.intp]:
    """The rows among which `diverse` chooses a batch of ``count``: the most informative ones, in their order."""
    order: NDArray[np.intp] = np.argsort(scores, kind="stable")[: CANDIDATES * count]
    return order


def diverse(
    scores: Scores, features: FeatureMatrix, clips: ArrayLike, asked: ArrayLike, count: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Order candidates so that the first ones, however many, are informative and differ; (n,) a permutation.

    Takes n candidates: their ``scores`` (n,), smallest most informative; ``features`` (n, d) of the trunk; ``clips``
    (n,) integers, which clip each comes from; ``asked`` (n,), how many frames of that clip are labelled already. Frames
    of one clip are near-copies: each further one waits until clips that were asked less have had their turn (a quota
    per clip that rises as the clips run out). All rows are split into ``count`` clusters; within a turn a row waits the
    longer, the more candidates of its cluster are more informative. Raises ValueError for columns of different lengths
    and unusable features.
    """
    group, labelled = np.asarray(clips), np.asarray(asked)
    if not len(scores) == len(features) == len(group) == len(labelled):
        raise ValueError(
            f"{len(scores)} scores, {len(features)} rows of features, {len(group)} clips and {len(labelled)} counts"
        )
    if not len(scores):
        return np.empty(0, np.intp)
    cluster = clusters(features, count, rng)
    by_score = np.argsort(scores, kind="stable")
    # How many more informative candidates share a row's cluster, and its clip: 0 for the best of each.
    in_cluster = _place(cluster[by_score])
    turn = _place(group[by_score]) + labelled[by_score]
    order: NDArray[np.intp] = by_score[np.lexsort((in_cluster, turn))]
    return order


def _place(groups: NDArray[np.integer]) -> NDArray[np.intp]:
    """How many earlier rows belong to the same group, (n,)."""
    order = np.argsort(groups, kind="stable")
    sizes = np.unique(groups, return_counts=True)[1]
    places = np.empty(len(groups), np.intp)
    places[order] = np.arange(len(groups)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return places
