"""Rare symptoms: their share of a batch, and the weight in training of a frame that shows one."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml_backend.tsal.arrays import Labels, Probabilities, label_matrix, probability_matrix
from ml_backend.tsal.batch import CANDIDATES

LARGEST = 5.0
"""The largest weight. With a larger one, a handful of frames would decide every step."""


def positive_weights(labels: Labels, largest: float = LARGEST) -> NDArray[np.float64]:
    """Weight of the positive frames of every label, (l,) in [1, largest]: negative over positive frames.

    Takes the labels (n, l) that are trained on. 1 for a label that no frame has, and for frequent ones.
    """
    truth = label_matrix(labels)
    positive = truth.sum(axis=0, dtype=np.float64)
    ratio = np.divide(len(truth) - positive, positive, out=np.ones(truth.shape[1]), where=positive > 0)
    weights: NDArray[np.float64] = np.clip(ratio, 1.0, largest)
    return weights


def feed_rare(
    order: NDArray[np.intp],
    probabilities: Probabilities,
    positives: ArrayLike,
    clips: ArrayLike,
    asked: ArrayLike,
    count: int,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Give every second place among the first ``count`` of an order to a rare symptom.

    Takes an ``order`` of rows of the pool, any part of it, most wanted first; the pool's ``probabilities`` (N, l);
    ``positives`` (l,), how many labelled frames show each symptom; ``clips`` (N,) integers, which clip each row comes
    from; ``asked`` (N,), how many frames of that clip are labelled. The symptoms with the fewest positives, half of
    all, take turns; each time the least asked clip among those frames whose probability of it is nearest to 0.5
    (`CANDIDATES` times ``count`` of them) gives its nearest: where the network never says yes, the likeliest ones.
    Returns the rows of the order together with those that were added, each once, and the added ones by themselves.
    Raises ValueError for columns of different lengths and unusable probabilities.
    """
    pool = probability_matrix(probabilities)
    clip, labelled = np.asarray(clips), np.asarray(asked, np.int64)
    if not len(pool) == len(clip) == len(labelled) or len(np.asarray(positives)) != pool.shape[1]:
        raise ValueError(
            f"{len(pool)} rows of {pool.shape[1]} probabilities, {len(clip)} clips, {len(labelled)} counts and "
            f"{len(np.asarray(positives))} numbers of positives"
        )
    rare = np.argsort(np.asarray(positives), kind="stable")[: max(1, pool.shape[1] // 2)]
    wanted = order[: count - count // 2]
    group = np.unique(clip, return_inverse=True)[1].reshape(-1)
    chosen_of_clip = np.bincount(group[wanted], minlength=len(pool))
    free = np.ones(len(pool), bool)
    free[wanted] = False
    near = [_nearest(pool[:, symptom], CANDIDATES * count) for symptom in rare]
    added: list[int] = []
    for turn in range(min(count // 2, int(free.sum()))):
        rows = near[turn % len(rare)]
        rows = rows[free[rows]]
        if not len(rows):
            continue
        row = int(rows[np.argmin(labelled[rows] + chosen_of_clip[group[rows]])])
        added.append(row)
        free[row] = False
        chosen_of_clip[group[row]] += 1
    rest = order[len(wanted) :]
    places = np.concatenate([np.arange(len(wanted)) * 2, np.arange(len(added)) * 2 + 1])
    new = np.array(added, np.intp)
    batch = np.concatenate([wanted, new])[np.argsort(places, kind="stable")]
    return np.concatenate([batch, rest[free[rest]]]), new


def _nearest(column: NDArray[np.floating], count: int) -> NDArray[np.intp]:
    """The rows whose probability is nearest to 0.5, nearest first."""
    distance = np.abs(np.subtract(column, 0.5, dtype=np.float64))
    farthest = np.partition(distance, count - 1)[count - 1] if count < len(column) else np.inf
    rows = np.flatnonzero(distance <= farthest)
    nearest: NDArray[np.intp] = rows[np.argsort(distance[rows], kind="stable")[:count]]
    return nearest
