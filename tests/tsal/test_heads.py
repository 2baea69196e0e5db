"""Heads: what they learn, what weighs how much, and what they do without both kinds."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize

from ml_backend.tsal.heads import PENALTY, WIDTH, Heads, clip_means

WIDTHS = (3, 2)


def made(frames: int = 60, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.uint8], NDArray[np.intp]]:
    rng = np.random.default_rng(seed)
    levels = rng.normal(5, [1, 2, 3, 4, 5], (frames, 5))
    labels = (levels[:, [0, 4]] + rng.normal(0, 1, (frames, 2)) > 5).astype(np.uint8)
    return levels, labels, np.arange(frames) // 4


def everything(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.ones(labels.shape, bool)


def test_the_logits_are_the_mean_of_one_regression_a_level() -> None:
    levels, labels, clips = made()
    heads = Heads.fit(levels, WIDTHS, labels, everything(labels), clips)
    expected = np.zeros(len(levels))
    for part in (levels[:, :3], levels[:, 3:]):
        rows = (part - part.mean(axis=0)) / part.std(axis=0) / np.sqrt(part.shape[1] / WIDTH)
        signs = np.where(labels[:, 0] == 1, 1, -1)

        def loss(
            weights: NDArray[np.float64], rows: NDArray[np.float64] = rows, signs: NDArray[np.intp] = signs
        ) -> float:
            said = rows @ weights[:-1] + weights[-1]
            return float(np.logaddexp(0, -signs * said).sum() + PENALTY / 2 * weights[:-1] @ weights[:-1])

        best = minimize(loss, np.zeros(part.shape[1] + 1), tol=1e-10).x
        expected += (rows @ best[:-1] + best[-1]) / 2
    np.testing.assert_allclose(heads.logits(levels)[:, 0], expected, atol=1e-2)


def test_frames_of_a_long_clip_weigh_less() -> None:
    levels, labels, _ = made()
    both = np.concatenate([levels, np.repeat(levels[:1], 16, axis=0)])
    told = np.concatenate([labels, np.repeat(1 - labels[:1], 16, axis=0)])
    apart = np.concatenate([np.arange(60), np.arange(100, 116)])
    one_clip = np.concatenate([np.arange(60), np.full(16, 100)])
    alone, together = (
        Heads.fit(both, WIDTHS, told, everything(told), clips).logits(levels[:1]) for clips in (apart, one_clip)
    )
    wrong = np.where(labels[0] == 1, -1, 1)
    assert (wrong * alone > wrong * together).all()


def test_what_is_not_known_is_not_learnt() -> None:
    levels, labels, clips = made()
    known = everything(labels)
    known[30:, 1] = False
    spoilt = labels.copy()
    spoilt[30:, 1] = 1 - spoilt[30:, 1]
    first, second = (Heads.fit(levels, WIDTHS, told, known, clips) for told in (labels, spoilt))
    np.testing.assert_array_equal(first.logits(levels), second.logits(levels))


@pytest.mark.parametrize(("label", "expected"), [(0, 1 / 61), (1, 60 / 61)])
def test_a_symptom_without_both_kinds_gets_a_constant(label: int, expected: float) -> None:
    levels, labels, clips = made(59)
    labels[:, 1] = label
    heads = Heads.fit(levels, WIDTHS, labels, everything(labels), clips)
    assert (heads.weights[:, 1] == 0).all()
    np.testing.assert_allclose(1 / (1 + np.exp(-heads.logits(levels)[:, 1])), expected, rtol=1e-5)


def test_a_level_that_never_changes_does_no_harm() -> None:
    levels, labels, clips = made()
    levels[:, 3:] = 7
    assert np.isfinite(Heads.fit(levels, WIDTHS, labels, everything(labels), clips).logits(levels)).all()


def test_the_scale_of_a_level_does_not_matter() -> None:
    levels, labels, clips = made()
    first = Heads.fit(levels, WIDTHS, labels, everything(labels), clips).logits(levels)
    again = Heads.fit(1000 * levels + 3, WIDTHS, labels, everything(labels), clips).logits(1000 * levels + 3)
    np.testing.assert_allclose(first, again, atol=1e-3)


@pytest.mark.parametrize("widths", [(), (3,), (3, 3)])
def test_widths_that_do_not_fit_are_refused(widths: tuple[int, ...]) -> None:
    levels, labels, clips = made()
    with pytest.raises(ValueError, match="side by side"):
        Heads.fit(levels, widths, labels, everything(labels), clips)


def test_a_clip_has_one_mean() -> None:
    values = np.array([[1.0, 0.0], [4.0, 8.0], [3.0, 2.0]])
    np.testing.assert_array_equal(clip_means(values, np.array([7, 2, 7])), [[2, 1], [4, 8], [2, 1]])
    assert clip_means(np.zeros((0, 2)), np.zeros(0, int)).shape == (0, 2)
