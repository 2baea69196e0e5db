"""What every strategy must do, whichever package it comes from."""

from __future__ import annotations

import numpy as np
import pytest

from ml_backend.tsal.acquisition import Strategy


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


class StrategyChecks:
    """Derive a test class from this one that gives each test the argument ``strategy``, by parameter or by fixture."""

    def test_scores_are_one_finite_float64_a_row(self, strategy: Strategy) -> None:
        for shape in ((1, 2), (7, 4), (20, 9)):
            scores = strategy(generator().random(shape), generator())
            assert scores.shape == shape[:1]
            assert scores.dtype == np.float64
            assert np.isfinite(scores).all()

    def test_the_same_seed_gives_the_same_scores(self, strategy: Strategy) -> None:
        pool = generator(2).random((100, 4))
        np.testing.assert_array_equal(strategy(pool, generator(3)), strategy(pool, generator(3)))

    def test_an_empty_pool_gives_an_empty_order(self, strategy: Strategy) -> None:
        pool = np.zeros((0, 4))
        assert strategy(pool, generator()).shape == (0,)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.01, 1.01])
    def test_unusable_values_are_refused(self, strategy: Strategy, value: float) -> None:
        pool = np.full((3, 4), 0.5)
        pool[1, 2] = value
        with pytest.raises(ValueError, match="row 1, column 2"):
            strategy(pool, generator())

    @pytest.mark.parametrize("shape", [(4,), (3, 1), (2, 2, 2)])
    def test_unusable_shapes_are_refused(self, strategy: Strategy, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="must be a matrix"):
            strategy(np.full(shape, 0.5), generator())

    def test_float32_scores_as_the_same_numbers_in_float64(self, strategy: Strategy) -> None:
        pool = generator(5).random((100, 4), dtype=np.float32) ** 8  # powers, for numbers whose 1 - p float32 rounds
        scores = strategy(pool, generator())
        assert scores.dtype == np.float64
        np.testing.assert_array_equal(scores, strategy(pool.astype(np.float64), generator()))

    def test_certain_and_tiny_probabilities_score_without_a_warning(self, strategy: Strategy) -> None:
        pool = np.array([[0.0, 1.0], [1.0, 0.0], [5e-324, 1.0], [np.finfo(np.float32).tiny, 1 - 1e-16]])
        assert np.isfinite(strategy(pool, generator())).all()

    def test_the_pool_is_left_as_it_was(self, strategy: Strategy) -> None:
        pool = generator(6).random((20, 4))
        pool.setflags(write=False)
        strategy(pool, generator())

    def test_rows_in_any_memory_layout(self, strategy: Strategy) -> None:
        pool = generator(7).random((20, 8))
        for view in (pool[:, ::2], np.asfortranarray(pool[:, ::2]), pool[:, ::2].tolist()):
            np.testing.assert_array_equal(strategy(view, generator()), strategy(pool[:, ::2].copy(), generator()))
