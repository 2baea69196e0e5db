"""Lay out embeddings in a plane, so that frames that look alike lie close together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

COMPONENTS = 50
"""The t-SNE starts from this many principal components: what is left out is mostly noise, and it is much faster."""
LEAST = 100
"""Fewer frames than this make no map."""


def laid_out(embeddings: NDArray[np.floating], seed: int) -> NDArray[np.float32]:
    """Return the places (n, 2) in [0, 1] of embeddings (n, d), n at least `LEAST`; near ones are alike.

    Distances between groups that lie far apart mean little.
    """
    from sklearn.decomposition import PCA  # imported late: it takes seconds
    from sklearn.manifold import TSNE

    values = embeddings.astype(np.float32)
    kept = PCA(min(COMPONENTS, *values.shape), svd_solver="randomized", random_state=seed).fit_transform(values)
    places = TSNE(init="pca", random_state=seed, n_jobs=1).fit_transform(kept)
    low, high = places.min(axis=0), places.max(axis=0)
    return np.asarray((places - low) / (high - low), np.float32)
