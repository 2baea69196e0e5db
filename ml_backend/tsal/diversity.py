"""Find frames that differ from each other: for the first queue, before any model, and as clusters in later batches."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

FeatureMatrix = NDArray[np.floating[Any]]

CLUSTERED_ROWS = 10_000
"""k-means runs on at most this many rows, drawn at random; every row is then assigned to its nearest centre."""


def spread(features: FeatureMatrix, count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Order frames by diversity of their (n, d) features; (n,) a permutation of the rows.

    k-means finds min(count, n) centres of the rows scaled to unit length. The queue then goes round the clusters,
    largest first, each turn taking from every cluster the row nearest to its centre that is not yet taken: the first
    `count` rows are the clusters' representatives. Where the rows hold fewer distinct points than that, there are fewer
    clusters and the next turn fills up. Raises ValueError for a count below 1, features that are not a matrix with at
    least one column, or values that are not finite in float32.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1; it is {count}")
    rows = _unit_rows(features)
    if len(rows) == 0:
        return np.empty(0, dtype=np.intp)
    cluster, distance = _assigned(rows, count, rng)
    return _round_robin(cluster, distance)


def clusters(features: FeatureMatrix, count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Split frames into min(count, n) clusters by their (n, d) features; (n,) the number of each row's cluster.

    As in `spread`; errors as there.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1; it is {count}")
    rows = _unit_rows(features)
    return _assigned(rows, count, rng)[0] if len(rows) else np.empty(0, dtype=np.intp)


def _assigned(
    rows: FeatureMatrix, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.floating[Any]]]:
    from sklearn.metrics import pairwise_distances_argmin_min  # imported late: it takes seconds

    # One thread: sums come out the same on any number of cores, and k-means' many small products lose more to waiting
    # for threads on a busy machine (ten times, measured) than they gain on an idle one.
    with threadpool_limits(limits=1):
        cluster, distance = pairwise_distances_argmin_min(rows, _centres(rows, count, rng))
    return cluster, distance


def _unit_rows(features: FeatureMatrix) -> FeatureMatrix:
    with np.errstate(over="ignore"):  # what overflows float32 is infinite afterwards, and refused by name
        rows = np.array(features, dtype=np.float32)
    if rows.ndim != 2 or rows.shape[1] < 1:
        raise ValueError(f"features must be a matrix (frames, features); the shape is {rows.shape}")
    squares = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    if not np.isfinite(squares).all():
        raise ValueError(f"features must be finite; row {np.flatnonzero(~np.isfinite(squares))[0]} is not")
    lengths = np.sqrt(squares)
    lengths[lengths == 0.0] = 1.0  # a row of zeros has no direction and stays as it is
    # Divided in double: the length of a very long row does not fit float32, its direction does.
    np.divide(rows, lengths[:, None], out=rows, dtype=np.float64, casting="same_kind")
    return rows


def _centres(rows: FeatureMatrix, count: int, rng: np.random.Generator) -> FeatureMatrix:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    if len(rows) > CLUSTERED_ROWS:
        rows = rows[np.sort(rng.choice(len(rows), CLUSTERED_ROWS, replace=False))]
    means = KMeans(min(count, len(rows)), n_init=1, max_iter=50, random_state=int(rng.integers(2**31)))
    with warnings.catch_warnings():
        # "Fewer distinct clusters than asked for" is what still clips and black frames give, and is handled.
        warnings.simplefilter("ignore", ConvergenceWarning)
        centres: FeatureMatrix = means.fit(rows).cluster_centers_
    return centres


def _round_robin(cluster: NDArray[np.intp], distance: NDArray[np.floating]) -> NDArray[np.intp]:
    sizes = np.bincount(cluster)
    place = np.empty_like(sizes)
    place[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    inward = np.lexsort((distance, cluster))
    clusters = cluster[inward]
    turn = np.arange(len(cluster)) - (np.cumsum(sizes) - sizes)[clusters]
    queue: NDArray[np.intp] = inward[np.lexsort((place[clusters], turn))]
    return queue
