"""Metrics against counts made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from ml_backend.tsal.metrics import exact_match, manual_share, per_label

TRUTH = np.array([[1, 0], [1, 0], [1, 0], [0, 0], [0, 0]], np.uint8)
PREDICTED = np.array([[1, 0], [1, 1], [0, 0], [0, 0], [1, 0]], np.uint8)
Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]

pairs = st.integers(0, 10).flatmap(
    lambda count: st.tuples(*[hnp.arrays(np.uint8, (count, 3), elements=st.integers(0, 1))] * 2)
)


def test_per_label_by_hand() -> None:
    # A-line: right in frames 0, 1, 3 of 5; of its 3 positives 2 found, of its 2 negatives 1 left alone.
    # B-line: right in 4 of 5; it has no positive; of its 5 negatives 4 left alone.
    assert per_label(TRUTH, PREDICTED, ["A-line", "B-line"]) == {
        "A-line": {"accuracy": 3 / 5, "sensitivity": 2 / 3, "specificity": 1 / 2},
        "B-line": {"accuracy": 4 / 5, "sensitivity": None, "specificity": 4 / 5},
    }


def test_specificity_needs_a_negative_frame() -> None:
    figures = per_label(np.ones((3, 2), np.uint8), np.ones((3, 2), np.uint8), ["A", "B"])
    assert figures["A"] == {"accuracy": 1.0, "sensitivity": 1.0, "specificity": None}


def test_without_frames_nothing_is_defined() -> None:
    nothing = np.zeros((0, 2), np.uint8)
    assert per_label(nothing, nothing, ["A", "B"])["B"] == {"accuracy": None, "sensitivity": None, "specificity": None}
    assert exact_match(nothing, nothing) is None
    assert manual_share(nothing, nothing, []) is None


def test_exact_match_by_hand() -> None:
    # Only frames 0 and 3 agree in both labels.
    assert exact_match(TRUTH, PREDICTED) == 2 / 5


def test_manual_share_by_hand() -> None:
    # Frames 1, 2 and 4 were corrected; frame 3 agrees by chance with a default that was never shown.
    assert manual_share(TRUTH, PREDICTED, [True, True, True, False, True]) == 4 / 5
    assert manual_share(TRUTH, TRUTH, np.ones(5, dtype=bool)) == 0.0
    assert manual_share(TRUTH, TRUTH, np.zeros(5, dtype=bool)) == 1.0


@given(pairs)
def test_accuracy_is_the_weighted_mean_of_sensitivity_and_specificity(pair: Pair) -> None:
    truth, predicted = pair
    for column, figures in enumerate(per_label(truth, predicted, ["A", "B", "C"]).values()):
        if figures["accuracy"] is None:
            continue
        positives = truth[:, column].mean()
        mean = positives * (figures["sensitivity"] or 0.0) + (1 - positives) * (figures["specificity"] or 0.0)
        assert figures["accuracy"] == pytest.approx(mean)


@given(pairs)
def test_what_is_not_an_exact_match_is_manual(pair: Pair) -> None:
    confirmed, default = pair
    share = manual_share(confirmed, default, np.ones(len(confirmed), dtype=bool))
    matched = exact_match(confirmed, default)
    assert (share is None) == (matched is None)
    assert share is None or matched is None or share == pytest.approx(1 - matched)


def test_figures_are_plain_numbers() -> None:
    figures = per_label(TRUTH, PREDICTED, ["A-line", "B-line"])["A-line"]
    assert {type(value) for value in figures.values()} == {float}
    assert type(exact_match(TRUTH, PREDICTED)) is float


def test_shapes_must_agree() -> None:
    for ask in (lambda a, b: per_label(a, b, ["A", "B"]), exact_match, lambda a, b: manual_share(a, b, [True] * 5)):
        with pytest.raises(ValueError, match="must have the same shape"):
            ask(TRUTH, PREDICTED[:1])
        with pytest.raises(ValueError, match="0 and 1 only"):
            ask(TRUTH, PREDICTED * 2)
    with pytest.raises(ValueError, match="3 names for 2 labels"):
        per_label(TRUTH, PREDICTED, ["A", "B", "C"])


@pytest.mark.parametrize("has_default", [[True], [1, 1, 1, 0, 1], True, [[True] * 5]])
def test_has_default_is_one_boolean_a_frame(has_default: Any) -> None:
    with pytest.raises(ValueError, match="has_default must be 5 booleans"):
        manual_share(TRUTH, PREDICTED, has_default)
