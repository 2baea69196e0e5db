"""What the backend reads in Label Studio's webhooks."""

from __future__ import annotations

from typing import Any

import pytest

from ml_backend.errors import InvalidRequest
from ml_backend.studio.events import annotations_in, deletions_in

BULK_COPY = {"id": 5, "task": 3, "was_cancelled": False, "parent_prediction": 9, "lead_time": None, "updated_by": None}


@pytest.mark.parametrize(
    ("changes", "unseen"),
    [
        ({}, True),
        ({"lead_time": 2.5}, False),
        ({"lead_time": 0}, False),
        ({"updated_by": 1}, False),
        ({"lead_time": 2.5, "updated_by": 1}, False),
        ({"parent_prediction": None}, False),
        # The prediction was deleted since.
        ({"parent_prediction": None, "result": [{"value": {}, "tsal": {"reason": "later"}}]}, True),
        ({"parent_prediction": None, "result": []}, True),
        ({"parent_prediction": None, "result": [], "updated_by": 1}, False),
        ({"parent_prediction": None, "result": [{"value": {"choices": ["B-line"]}}]}, False),
        ({"parent_prediction": None, "result": [{"value": {}, "tsal": {"imported": {"file": "a"}}}]}, False),
    ],
)
def test_accepted_unseen_means_a_copied_prediction_that_nobody_opened(changes: dict[str, Any], unseen: bool) -> None:
    (one,) = annotations_in({"annotation": BULK_COPY | changes})
    assert (one.id, one.task, one.was_cancelled, one.accepted_unseen) == (5, 3, False, unseen)


def test_a_short_payload_is_an_ordinary_annotation() -> None:
    (one,) = annotations_in({"annotation": {"id": 5, "task": 3}})
    assert not one.accepted_unseen
    assert annotations_in({}) == deletions_in({}) == []


@pytest.mark.parametrize("name", ["annotation", "annotations"])
def test_bulk_events_hold_a_list(name: str) -> None:
    sent = {name: [BULK_COPY, BULK_COPY | {"id": 6, "updated_by": 1}]}
    assert [(one.id, one.accepted_unseen) for one in annotations_in(sent)] == [(5, True), (6, False)]
    assert [one.id for one in deletions_in({name: [{"id": 8}, {"id": 9}]})] == [8, 9]


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"annotation": {"id": "5", "task": 3}}, "annotation.0.id"),
        ({"annotation": [BULK_COPY, {"id": 6}]}, "annotation.1.task"),
        ({"annotations": [BULK_COPY | {"task": 0}]}, "annotations.0.task"),
        ({"annotation": 5}, "annotation.0"),
    ],
)
def test_a_wrong_field_is_named(sent: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^field {field}:"):
        annotations_in(sent)
