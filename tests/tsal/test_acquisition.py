"""The strategies of the sample stream, against METHOD.md and against each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import ArrayLike, NDArray

from ml_backend.tsal.acquisition import (
    STRATEGIES,
    binary_minimum,
    least_confidence,
    margin,
    multi_label_entropy,
    multi_label_margin,
    score,
)
from tests.tsal.strategy_checks import StrategyChecks

# One frame a row: A-line, B-line, pleural lesion, pleural effusion.
FRAMES = np.array(
    [
        [0.9, 0.2, 0.1, 0.1],  # surely healthy
        [0.2, 0.6, 0.5, 0.1],  # B-line, and perhaps a lesion
        [0.4, 0.3, 0.1, 0.3],  # between healthy and diseased
    ]
)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def rank(probabilities: ArrayLike, strategy: str, rng: np.random.Generator) -> NDArray[np.intp]:
    return np.argsort(score(np.array(probabilities), strategy, rng), kind="stable")


# Few values, so that frames often score the same, and both ends of the range.
pools = st.tuples(st.integers(0, 30), st.integers(2, 5)).flatmap(
    lambda shape: hnp.arrays(np.float64, shape, elements=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))
)


class TestByHand:
    def test_eq_4_signed_margin(self) -> None:
        # 0.9 - max(0.2, 0.1, 0.1) = 0.7;  0.2 - max(0.6, 0.5, 0.1) = -0.4;  0.4 - max(0.3, 0.1, 0.3) = 0.1
        np.testing.assert_allclose(margin(FRAMES), [0.7, -0.4, 0.1])

    def test_eq_4_multi_label_margin_is_absolute(self) -> None:
        np.testing.assert_allclose(multi_label_margin(FRAMES, generator()), [0.7, 0.4, 0.1])
        assert rank(FRAMES, "mlm", generator()).tolist() == [2, 1, 0]

    def test_eq_2_least_confidence(self) -> None:
        # The largest of each row.
        np.testing.assert_allclose(least_confidence(FRAMES, generator()), [0.9, 0.6, 0.4])
        assert rank(FRAMES, "lc", generator()).tolist() == [2, 1, 0]

    def test_eq_3_multi_label_entropy(self) -> None:
        # H(p) = -p ln p - (1 - p) ln(1 - p):
        # H(1/2) = ln 2 = 0.693147;  H(1) = H(0) = 0;  H(1/4) = 1/4 ln 4 + 3/4 ln(4/3) = 0.346574 + 0.215762 = 0.562335
        # first row 0.693147 + 0.562335 = 1.255482; second row all certain, 0
        frames = np.array([[0.5, 1.0, 0.0, 0.25], [1.0, 0.0, 0.0, 1.0]])
        scores = multi_label_entropy(frames, generator())
        np.testing.assert_allclose(scores, [-1.255482, 0.0], atol=1e-6)
        assert scores[1] == 0.0

    def test_eq_3_largest_entropy_is_asked_first(self) -> None:
        # H(0.9) = H(0.1) = 0.325083, H(0.2) = 0.500402, H(0.3) = 0.610864,
        # H(0.4) = H(0.6) = 0.673012, H(0.5) = 0.693147
        # rows: 0.325083 * 3 + 0.500402 = 1.475651
        #       0.500402 + 0.673012 + 0.693147 + 0.325083 = 2.191644
        #       0.673012 + 0.610864 * 2 + 0.325083 = 2.219823
        np.testing.assert_allclose(
            multi_label_entropy(FRAMES, generator()), [-1.475651, -2.191644, -2.219823], atol=1e-6
        )
        assert rank(FRAMES, "mle", generator()).tolist() == [2, 1, 0]

    def test_eq_3_of_a_tiny_probability(self) -> None:
        # H(1e-6) = 1e-6 ln 1e6 + (1 - 1e-6) * 1e-6 = 13.815511e-6 + 1e-6 = 14.815510e-6
        np.testing.assert_allclose(multi_label_entropy(np.array([[1e-6, 0.0]]), generator()), [-14.81551e-6], rtol=1e-6)

    def test_the_strategies_disagree_where_they_should(self) -> None:
        # A-line and B-line together: the margin sees doubt, the largest probability none.
        both, unsure = [0.9, 0.9, 0.0, 0.0], [0.6, 0.1, 0.0, 0.0]
        assert rank([both, unsure], "mlm", generator()).tolist() == [0, 1]
        assert rank([both, unsure], "lc", generator()).tolist() == [1, 0]

    def test_random_is_uniform_and_ignores_the_probabilities(self) -> None:
        scores = score(np.zeros((4000, 2)), "random", generator())
        assert scores.min() >= 0.0
        assert scores.max() < 1.0
        np.testing.assert_allclose(np.histogram(scores, bins=4, range=(0, 1))[0], 1000, atol=150)
        np.testing.assert_array_equal(scores, score(np.ones((4000, 2)), "random", generator()))
        assert rank(np.zeros((50, 2)), "random", generator(0)).tolist() != list(range(50))

    def test_entropy_is_symmetric_in_present_and_absent(self) -> None:
        frames = generator().random((50, 4))
        np.testing.assert_allclose(
            multi_label_entropy(frames, generator()), multi_label_entropy(1 - frames, generator())
        )


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)
class TestEveryStrategy(StrategyChecks):
    """A new one is tested by being registered."""


def test_the_registry_has_the_strategies_of_the_paper_and_one_more() -> None:
    assert list(STRATEGIES) == ["mlm", "lc", "mle", "binmin", "random"]


def test_a_diverse_strategy_scores_like_the_one_it_is_named_after() -> None:
    pool = generator().random((20, 4))
    for strategy in STRATEGIES:
        np.testing.assert_array_equal(
            score(pool, f"{strategy}-diverse", generator()), score(pool, strategy, generator())
        )


def test_binary_minimum_is_the_label_nearest_to_a_half() -> None:
    # |0.9 - 0.5|, |0.2 - 0.5|, |0.1 - 0.5| ...: 0.3 (0.2);  second row 0.0 (0.5);  third 0.1 (0.4)
    np.testing.assert_allclose(binary_minimum(FRAMES, generator()), [0.3, 0.0, 0.1])
    assert rank(FRAMES, "binmin", generator()).tolist() == [1, 2, 0]
    # A-line and B-line together: the margin sees doubt, the distance to a half none.
    both, unsure = [0.9, 0.9, 0.0, 0.0], [0.6, 0.1, 0.0, 0.0]
    assert rank([both, unsure], "binmin", generator()).tolist() == [1, 0]


def test_an_unknown_strategy_is_refused_with_the_known_ones() -> None:
    for name in ("badge", "adaptive", "", "-diverse", "badge-diverse", "mlm-diverse-diverse"):
        with pytest.raises(
            ValueError, match=f"unknown strategy '{name}'; choose one of mlm, lc, mle, binmin, random, each"
        ):
            score(FRAMES, name, generator())


def test_entropy_is_largest_at_one_half() -> None:
    assert multi_label_entropy(np.full((1, 4), 0.5), generator())[0] == pytest.approx(-4 * math.log(2))
