"""Payloads: combinations there and back, what annotators were shown, and Label Studio's own check."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ml_backend.errors import UnknownLabel
from ml_backend.setup.label_configuration import render
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.payloads import (
    AUDIT,
    Checker,
    Prediction,
    choices_result,
    default_of,
    is_confirmed,
    is_not_assessable,
    labels_of,
    prediction_payload,
)
from tests.installation import NO_ANSWER

XML = """<View><Image name="image" value="$image"/><Choices name="symptoms" toName="image" choice="multiple">
<Choice value="A-line" alias="a"/><Choice value="B-line"/><Choice value="Pleural lesion"/><Choice value="Effusion"/>
</Choices><Choices name="quality" toName="image"><Choice value="good"/><Choice value="B-line"/></Choices></View>"""
CONFIGURATION = Configuration.parse(XML)
CHECKER = Checker(CONFIGURATION)
combinations = st.lists(st.integers(0, 1), min_size=4, max_size=4).map(lambda row: np.array(row, np.uint8))


def prediction(labels: NDArray[np.uint8] | None, **audit: Any) -> Prediction:
    return Prediction(7, labels, 0.25, "msml-0001", audit)


@given(combinations, st.floats(0, 1))
def test_a_combination_is_read_back_unchanged(labels: NDArray[np.uint8], score: float) -> None:
    sent = Prediction(7, labels, score, "msml-0001", {"plain": ["B-line"], "margin": -0.5})
    payload = json.loads(json.dumps(prediction_payload(sent, CONFIGURATION)))
    assert CHECKER.errors(payload) == []
    assert (payload["task"], payload["score"], payload["model_version"]) == (7, score, "msml-0001")
    read, gone = labels_of(payload["result"], CONFIGURATION)
    np.testing.assert_array_equal(read, labels)
    assert gone == ()
    default = default_of(payload, CONFIGURATION)
    assert default.labels is not None
    assert default.plain is not None
    np.testing.assert_array_equal(default.labels, labels)
    np.testing.assert_array_equal(default.plain, [0, 1, 0, 0])
    assert default.audit["margin"] == -0.5


def test_writes_what_label_studio_stores() -> None:
    assert prediction_payload(prediction(np.array([1, 0, 0, 1], np.uint8), margin=0.5), CONFIGURATION) == {
        "task": 7,
        "model_version": "msml-0001",
        "score": 0.25,
        "result": [
            {
                "id": "symptoms-7",
                "from_name": "symptoms",
                "to_name": "image",
                "type": "choices",
                "value": {"choices": ["a", "Effusion"]},
                AUDIT: {"margin": 0.5},
            }
        ],
    }


def test_no_pseudo_label_and_no_symptom_differ() -> None:
    nothing = prediction_payload(prediction(None), CONFIGURATION)
    healthy = prediction_payload(prediction(np.zeros(4, np.uint8)), CONFIGURATION)
    assert nothing["result"] == []
    assert healthy["result"][0]["value"] == {"choices": []}
    assert default_of(nothing, CONFIGURATION).labels is None
    shown = default_of(healthy, CONFIGURATION)
    assert shown.labels is not None
    assert shown.labels.tolist() == [0, 0, 0, 0]
    assert shown.plain is None


def test_reads_only_its_own_control() -> None:
    other = {"from_name": "quality", "to_name": "image", "type": "choices", "value": {"choices": ["good"]}}
    box = {"from_name": "symptoms", "to_name": "image", "type": "rectangle", "value": {"x": 1}}
    mine = {"id": "x", "origin": "manual", **choices_result(np.array([0, 0, 1, 0], np.uint8), CONFIGURATION)}
    assert labels_of([other, box, mine], CONFIGURATION)[0].tolist() == [0, 0, 1, 0]
    assert labels_of([other], CONFIGURATION)[0].tolist() == [0, 0, 0, 0]
    assert labels_of([], CONFIGURATION)[0].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "result",
    [
        [{"from_name": "symptoms", "type": "choices", "value": {"choices": ["Rust"]}}],
        [{"from_name": "symptoms", "type": "choices", "value": {"choices": ["A-line"]}}],  # has an alias
        [{"from_name": "symptoms", "type": "choices", "value": {"choices": [["B-line", "deep"]]}}],
        [{"from_name": "symptoms", "type": "choices", "value": {"choices": "B-line"}}],
        [{"from_name": "symptoms", "type": "choices", "value": {}}],
        [{"from_name": "symptoms", "type": "choices"}],
        ["B-line"],
        {"choices": ["B-line"]},
    ],
)
def test_unknown_choices_are_refused(result: Any) -> None:
    with pytest.raises(UnknownLabel):
        labels_of(result, CONFIGURATION)


def test_of_a_removed_symptom_only_the_tick_is_dropped() -> None:
    item = {"from_name": "symptoms", "type": "choices", "value": {"choices": ["Rust", "B-line"]}}
    labels, gone = labels_of([item], CONFIGURATION)
    assert (labels.tolist(), gone) == ([0, 1, 0, 0], ("Rust",))
    default = default_of({"result": [item | {AUDIT: {"plain": ["A-line", "Rust"]}}]}, CONFIGURATION)
    assert default.labels is not None
    assert default.plain is not None
    assert (default.labels.tolist(), default.plain.tolist()) == ([0, 1, 0, 0], [1, 0, 0, 0])


@pytest.mark.parametrize(
    "shown",
    [
        None,
        {},
        {"result": []},
        {"result": [{"from_name": "symptoms", "type": "choices", "value": {"choices": ["Rust"]}}]},
        {
            "result": [
                {
                    "from_name": "symptoms",
                    "type": "choices",
                    "value": {"choices": ["B-line"]},
                    AUDIT: {"plain": ["Rust"]},
                }
            ]
        },
    ],
)
def test_a_prediction_of_an_earlier_configuration_counts_as_none(shown: Any) -> None:
    default = default_of(shown, CONFIGURATION)
    assert default.labels is None
    assert default.plain is None
    assert default.audit == {}


def test_a_foreign_prediction_has_no_audit() -> None:
    item = {"from_name": "symptoms", "type": "choices", "value": {"choices": ["B-line"]}, AUDIT: "note"}
    default = default_of({"result": [item]}, CONFIGURATION)
    assert default.labels is not None
    assert default.labels.tolist() == [0, 1, 0, 0]
    assert default.plain is None


def test_the_page_says_how_sure_a_suggestion_is_and_the_result_is_read_back() -> None:
    configuration = Configuration.parse(render())
    checker = Checker(configuration)
    said = []
    for labels, audit in (
        ([0, 1, 0, 0], {"confidence": 0.934, "source": "memory"}),
        ([0, 0, 0, 0], {"confidence": 0.998, "source": "network", "plain": []}),
        ([0, 0, 1, 0], {}),
    ):
        payload = prediction_payload(prediction(np.array(labels, np.uint8), **audit), configuration)
        assert checker.errors(payload) == []
        default = default_of(payload, configuration)
        assert default.labels is not None
        assert (default.labels.tolist(), default.audit) == (labels, audit)
        assert labels_of(payload["result"], configuration)[0].tolist() == labels
        said.append([item["value"].get("text", item["value"].get("choices")) for item in payload["result"]])
    assert [choices for choices, _ in said] == [["B-line"], ["none of these"], ["Pleural lesion"]]
    assert "93%" in said[0][1][0]
    assert "99%" in said[1][1][0]
    assert "%" not in said[2][1][0]
    assert len({text for _, (text,) in said}) == 3


def test_no_suggestion_is_another_thing_than_a_suggestion_of_nothing() -> None:
    configuration = Configuration.parse(render())
    payload = prediction_payload(prediction(None), configuration)
    assert Checker(configuration).errors(payload) == []
    assert [item["from_name"] for item in payload["result"]] == ["certainty"]
    assert default_of(payload, configuration).labels is None


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ([NO_ANSWER], True),
        ([NO_ANSWER | {"value": {"choices": ["none of these"]}}], False),
        ([NO_ANSWER | {"from_name": "symptoms"}], False),
        ([NO_ANSWER | {"value": None}], False),
        ([NO_ANSWER | {"value": {"choices": "not assessable"}}], False),
        ([None, 3, NO_ANSWER], True),
        (None, False),
        ("not assessable", False),
        ({}, False),
    ],
)
def test_not_assessable_is_an_answer_of_its_own(result: object, expected: bool) -> None:
    assert is_not_assessable(result) is expected


def test_a_skip_is_not_a_confirmation() -> None:
    assert is_confirmed({"result": [], "was_cancelled": False})
    assert is_confirmed({"result": []})
    assert not is_confirmed({"result": [], "was_cancelled": True})


@pytest.mark.parametrize(
    "change",
    [
        {"score": 1.5},
        {"score": float("nan")},
        {
            "result": [
                {"from_name": "symptoms", "to_name": "image", "type": "choices", "value": {"choices": ["A-line"]}}
            ]
        },
        {"result": [{"from_name": "rust", "to_name": "image", "type": "choices", "value": {"choices": ["a"]}}]},
    ],
)
def test_the_check_finds_what_label_studio_would_drop(change: dict[str, Any]) -> None:
    payload = prediction_payload(prediction(np.array([1, 0, 0, 0], np.uint8)), CONFIGURATION)
    assert CHECKER.errors(payload) == []
    assert CHECKER.errors(payload | change) != []
