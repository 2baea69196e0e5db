"""The report on an audit: hand-worked shares, bins and bias, and what empty and one-sided audits give."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_backend.tsal.intervals import newcombe, wilson
from ml_backend.tsal.reliability import AuditReport, Bias, Share, calibration_error, reliability


def test_bins_by_hand() -> None:
    confidence, right = np.array([0.05, 0.91, 0.95, 0.99, 1.0]), np.array([False, True, False, True, True])
    low, high = reliability(confidence, right)
    assert (low.place, low.right, high.place, high.right) == (0, Share(0, 1), 9, Share(3, 4))
    assert (low.confidence, high.confidence) == pytest.approx((0.05, 0.9625))
    # (0.05 - 0) x 1/5 + (0.9625 - 0.75) x 4/5
    assert calibration_error((low, high)) == pytest.approx(0.18)


def test_a_confidence_that_keeps_its_word_has_no_error() -> None:
    right = np.array([True] * 9 + [False])
    assert calibration_error(reliability(np.full(10, 0.9), right)) == pytest.approx(0.0)


def test_the_bias_is_what_hidden_ticks_lose_more_than_shown_ones() -> None:
    bias = Bias(shown=Share(48, 80), hidden=Share(56, 70))
    assert bias.value == pytest.approx(0.2)
    assert bias.interval == pytest.approx((0.0524, 0.3339), abs=5e-5)  # Newcombe's own example


@pytest.mark.parametrize("bias", [Bias(Share(1, 9), Share(0, 0)), Bias(Share(0, 0), Share(1, 9))])
def test_a_bias_needs_both_kinds_of_frames(bias: Bias) -> None:
    assert bias.value is None
    assert bias.interval == (-1.0, 1.0)


def test_a_report_by_hand() -> None:
    report = AuditReport.of(
        right=np.array([True, True, False, True, False, False]),
        confidence=np.array([0.9, 0.9, 0.9, 0.8, 0.3, 0.3]),
        blind=np.array([False, False, False, False, True, True]),
        sources=["memory", "memory", "network", "memory", "network", ""],
        patients=["a", "a", "b", "b", "b", "c"],
        symptoms={"A-line": Share(4, 6)},
    )
    assert (report.frames, report.patients, report.right) == (6, 3, Share(3, 6))
    assert report.bias == Bias(shown=Share(1, 4), hidden=Share(2, 2))
    assert report.sources == {"memory": Share(3, 3), "network": Share(0, 2)}
    assert [(one.place, one.right) for one in report.bins] == [(3, Share(0, 2)), (8, Share(1, 1)), (9, Share(2, 3))]
    content = json.loads(json.dumps(report.to_json()))
    assert content["automation_bias"]["value"] == pytest.approx(0.75)
    assert (content["automation_bias"]["low"], content["automation_bias"]["high"]) == newcombe((2, 2), (1, 4))
    assert content["reliability"][1] == {
        "from": 0.8,
        "to": 0.9,
        "mean_confidence": pytest.approx(0.8),
        "right": {"count": 1, "frames": 1, "value": 1.0, "low": wilson(1, 1).low, "high": 1.0},
    }
    assert content["calibration_error"] == pytest.approx((2 * 0.3 + 0.2 + 3 * abs(0.9 - 2 / 3)) / 6)


def test_without_frames_nothing_is_claimed() -> None:
    nothing = np.zeros(0, bool)
    report = AuditReport.of(nothing, np.zeros(0), nothing, [], [], {})
    assert (report.calibration_error, report.right.value, report.bias.value) == (None, None, None)
    assert report.right.interval == (0.0, 1.0)
    assert report.bins == ()
    assert report.sources == {}


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.booleans()), max_size=40))
def test_every_frame_is_counted_once_whatever_their_order(frames: list[tuple[float, bool, bool]]) -> None:
    def report(of: list[tuple[float, bool, bool]]) -> AuditReport:
        confidence, right, blind = (np.array([one[place] for one in of]) for place in range(3))
        return AuditReport.of(
            right.astype(bool), confidence, blind.astype(bool), ["memory"] * len(of), [str(one[1]) for one in of], {}
        )

    found, turned = report(frames), report(frames[::-1])
    assert sum(one.right.frames for one in found.bins) == found.frames == len(frames)
    assert sum(one.right.count for one in found.bins) == found.right.count
    assert found.bias.shown.frames + found.bias.hidden.frames == len(frames)
    assert found.frames - found.right.count == found.bias.shown.count + found.bias.hidden.count
    assert all(
        one.place / 10 <= one.confidence + 1e-9 and one.confidence - 1e-9 <= (one.place + 1) / 10 for one in found.bins
    )
    assert (turned.bias, turned.right) == (found.bias, found.right)
    error = found.calibration_error
    assert error is None if not frames else error is not None and 0 <= error <= 1 + 1e-9
