from __future__ import annotations

import numpy as np
import pytest

from studies.calibration import (
    apply_temperatures,
    expected_calibration_error,
    fit_temperatures,
    reliability,
)


def test_reliability_by_hand() -> None:
    probabilities = np.array([0.05, 0.15, 0.18, 1.0, 0.95])
    truth = np.array([0, 0, 1, 1, 1])
    rows = reliability(probabilities, truth)
    assert [count for _, _, count in rows] == [1, 2, 2]
    np.testing.assert_allclose([row[:2] for row in rows], [(0.05, 0.0), (0.165, 0.5), (0.975, 1.0)])
    # (1 * 0.05 + 2 * 0.335 + 2 * 0.025) / 5
    assert expected_calibration_error(probabilities, truth) == pytest.approx(0.154)
    assert expected_calibration_error(np.empty(0), np.empty(0, int)) is None


def test_a_temperature_undoes_too_much_certainty() -> None:
    rng = np.random.default_rng(0)
    honest = rng.random((4000, 2))
    truth = (rng.random((4000, 2)) < honest).astype(np.uint8)
    logits = np.log(honest / (1 - honest))
    certain = 1 / (1 + np.exp(-np.clip(logits * [3.0, 1.0], -30, 30)))
    temperatures = fit_temperatures(certain, truth)
    np.testing.assert_allclose(temperatures, [3.0, 1.0], rtol=0.12)
    after = apply_temperatures(certain, temperatures)
    before = expected_calibration_error(certain[:, 0], truth[:, 0])
    assert before is not None
    assert before > 0.1
    found = expected_calibration_error(after[:, 0], truth[:, 0])
    assert found is not None
    assert found < 0.03


def test_a_temperature_of_two_halves_the_logit() -> None:
    # logit(0.8) = ln 4; halved: ln 2, which is 2 / 3
    np.testing.assert_allclose(apply_temperatures(np.array([[0.8, 0.8]]), np.array([2.0, 1.0])), [[2 / 3, 0.8]])


def test_a_label_without_both_kinds_keeps_its_probabilities() -> None:
    probabilities = np.array([[0.2, 0.9], [0.3, 0.4]])
    assert fit_temperatures(probabilities, np.array([[0, 1], [0, 0]], np.uint8))[0] == 1.0


def test_certain_probabilities_stay_finite() -> None:
    assert np.isfinite(apply_temperatures(np.array([[0.0, 1.0]]), np.array([0.5, 0.5]))).all()
    with pytest.raises(ValueError, match="same shape"):
        fit_temperatures(np.zeros((2, 2)), np.zeros((3, 2), np.uint8))


def test_the_temperature_of_least_cross_entropy_by_hand() -> None:
    # Three of four frames at 0.9 have the label: best where sigmoid(ln 9 / T) = 3/4, T = ln 9 / ln 3 = 2; all at 0.6
    # and three of four: T = ln 1.5 / ln 3 = 0.369. The grid's steps are 2.3%.
    probabilities = np.tile([0.9, 0.6], (4, 1))
    labels = np.array([[1, 1], [1, 1], [1, 1], [0, 0]], np.uint8)
    np.testing.assert_allclose(fit_temperatures(probabilities, labels), [2.0, 0.369], rtol=0.012)


def test_a_probability_on_an_edge_belongs_to_the_bin_above_and_one_to_the_last() -> None:
    rows = reliability(np.array([0.0, 0.0999, 0.5, 0.9999, 1.0]), np.array([0, 1, 1, 1, 0]))
    assert [(count, share) for _, share, count in rows] == [(2, 0.5), (1, 1.0), (2, 0.5)]


def test_a_temperature_never_changes_which_side_of_a_half_a_probability_lies_on() -> None:
    probabilities = np.random.default_rng(1).random((200, 3))
    after = apply_temperatures(probabilities, np.array([0.1, 1.0, 10.0]))
    np.testing.assert_array_equal(after > 0.5, probabilities > 0.5)
    np.testing.assert_allclose(after[:, 1], probabilities[:, 1])
