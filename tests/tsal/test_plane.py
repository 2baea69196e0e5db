from __future__ import annotations

import numpy as np

from ml_backend.tsal.plane import LEAST, laid_out


def test_frames_that_look_alike_lie_together_and_always_in_the_same_place() -> None:
    chance = np.random.default_rng(0)
    kinds = np.arange(LEAST) % 3
    embeddings = (4 * chance.normal(size=(3, 64))[kinds] + chance.normal(size=(LEAST, 64))).astype(np.float16)
    places = laid_out(embeddings, 0)
    assert places.shape == (LEAST, 2)
    assert places.min(axis=0).tolist() == [0, 0]
    assert places.max(axis=0).tolist() == [1, 1]
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (kinds[apart.argmin(axis=1)] == kinds).all()
    np.testing.assert_array_equal(laid_out(embeddings, 0), places)
