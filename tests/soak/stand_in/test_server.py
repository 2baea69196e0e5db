"""The stand-in answers as the real Label Studio does: both get the same calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from ml_backend.errors import StudioRefused, StudioUnavailable
from ml_backend.studio.client import Studio
from ml_backend.studio.payloads import Prediction, choices_result, prediction_payload
from soak.stand_in.records import Delivery
from soak.stand_in.server import StandIn, running_stand_in, send
from tests.installation import CONFIGURATION, XML

TICKS = np.array([0, 1, 0], np.uint8)
RESULT = [choices_result(TICKS, CONFIGURATION)]


@dataclass
class Place:
    """A Label Studio with one project of three tasks."""

    url: str
    token: str
    studio: Studio
    project: int
    tasks: list[int]

    def send(self, method: str, path: str, **body: Any) -> Any:
        """Make a request as the user that owns the token."""
        answer = httpx.request(
            method, f"{self.url}/{path}", json=body, headers={"Authorization": f"Token {self.token}"}, timeout=60
        )
        return answer.raise_for_status().json() if answer.content else None

    def push(self, version: str, *scores: float | None) -> None:
        """Send a prediction for each task, and show them."""
        payloads = [
            prediction_payload(Prediction(task, TICKS, 0.0, version), CONFIGURATION) | {"score": score}
            for task, score in zip(self.tasks, scores, strict=True)
        ]
        self.studio.import_predictions(self.project, payloads)
        self.studio.update_project(self.project, model_version=version, sampling="Uncertainty sampling")


@pytest.fixture(scope="module")
def stand_in() -> Iterator[StandIn]:
    with running_stand_in() as running:
        yield running


@pytest.fixture(params=["stand-in", "real"])
def place(request: pytest.FixtureRequest) -> Place:
    if request.param == "real":
        server = request.getfixturevalue("studio_server")
        url, token = server.url, server.token
    else:
        running = request.getfixturevalue("stand_in")
        url, token = running.url, next(iter(running.state.users))
    studio = Studio(url, token)
    project = studio.create_project("Stand-in", XML)
    tasks = studio.import_tasks(project, [{"image": f"/data/local-files/?d={name}.png"} for name in "abc"])
    return Place(url, token, studio, project, tasks)


def test_a_project_begins_without_a_version(place: Place) -> None:
    info = place.studio.project(place.project)
    assert info.model_version is None
    assert info.sampling == "Sequential sampling"
    assert info.maximum_annotations == 1
    assert [task.id for task in place.studio.tasks(place.project)] == place.tasks


def test_the_queue_goes_by_the_scores_of_the_shown_version(place: Place) -> None:
    place.push("one", 0.9, 0.1, 0.5)
    served = []
    for _ in place.tasks:
        given = place.studio.next_task(place.project)
        assert given is not None
        again = place.studio.next_task(place.project)
        assert again is not None
        assert again["id"] == given["id"]  # it is locked for this user
        assert given["predictions"][0]["model_version"] == "one"
        served.append(given["id"])
        place.studio.submit(given["id"], RESULT, lead_time=2.0)
    assert served == [place.tasks[1], place.tasks[2], place.tasks[0]]
    assert place.studio.next_task(place.project) is None


def test_an_invalid_prediction_is_dropped_without_a_word(place: Place) -> None:
    payload = prediction_payload(Prediction(place.tasks[0], TICKS, 0.5, "one"), CONFIGURATION)
    wrong = prediction_payload(Prediction(place.tasks[1], TICKS, 0.5, "one"), CONFIGURATION)
    wrong["result"][0]["value"]["choices"] = ["rust"]
    with pytest.raises(StudioRefused, match="3 were sent and 1 stored"):
        place.studio.import_predictions(place.project, [payload, wrong, payload | {"score": 1.5}])
    assert place.studio.model_versions(place.project) == ["one"]
    with pytest.raises(StudioRefused):
        place.studio.import_predictions(place.project, [payload | {"task": 10**9}])


def test_a_project_shows_only_versions_that_it_has(place: Place) -> None:
    with pytest.raises(StudioRefused):
        place.studio.update_project(place.project, model_version="none such")
    place.push("one", 0.1, 0.2, 0.3)
    place.push("two", 0.3, 0.2, 0.1)
    with pytest.raises(StudioRefused):
        place.studio.delete_model_version(place.project, "two")
    place.studio.delete_model_version(place.project, "one")
    assert place.studio.model_versions(place.project) == ["two"]
    place.send("DELETE", f"api/projects/{place.project}/model-versions/", model_version="two")
    assert place.studio.project(place.project).model_version is None


def test_annotations_are_counted_read_and_deleted(place: Place) -> None:
    place.push("one", 0.1, 0.2, 0.3)
    given = place.studio.next_task(place.project)
    assert given is not None
    prediction = given["predictions"][0]["id"]
    first = place.studio.submit(place.tasks[0], RESULT, lead_time=2.0, parent_prediction=prediction)
    place.studio.skip(place.tasks[1])
    counts = place.studio.counts(place.project)
    assert (counts.tasks, counts.annotated, counts.unlabelled, counts.annotations) == (3, 1, 2, 1)
    (annotation,) = place.studio.confirmed_annotations(place.project)
    assert (annotation.id, annotation.task, annotation.seconds) == (first, place.tasks[0], 2.0)
    assert annotation.by_person
    assert [task.id for task in place.studio.tasks(place.project, only_unlabelled=True)] == place.tasks[1:]
    shown = place.studio.shown_predictions(place.project, [annotation])
    assert shown[first]["model_version"] == "one"
    place.send("PATCH", f"api/annotations/{first}/", result=[])
    (changed,) = place.studio.confirmed_annotations(place.project)
    assert changed.result == []
    assert changed.updated_at > annotation.updated_at
    assert place.studio.is_annotated(place.tasks[0])
    place.studio.delete_annotation(first)
    assert place.studio.counts(place.project).annotations == 0


def test_a_skipped_task_does_not_come_back_to_who_skipped_it(place: Place) -> None:
    for _ in place.tasks:
        given = place.studio.next_task(place.project)
        assert given is not None
        place.studio.skip(given["id"])
    assert place.studio.next_task(place.project) is None
    assert place.studio.counts(place.project).unlabelled == len(place.tasks)


def test_predictions_that_nobody_looked_at_become_annotations(place: Place) -> None:
    place.push("one", 0.1, 0.2, 0.3)
    chosen = {"all": False, "included": place.tasks[:2]}
    place.send(
        "POST",
        f"api/dm/actions/?id=predictions_to_annotations&project={place.project}",
        selectedItems=chosen,
        model_version="one",
    )
    found = place.studio.confirmed_annotations(place.project)
    assert sorted(one.task for one in found) == place.tasks[:2]
    assert all(one.accepted_unseen for one in found)


def test_webhooks_are_kept_and_changed(place: Place) -> None:
    hook = place.studio.create_webhook(place.project, "http://127.0.0.1:9/webhook", ["ANNOTATION_CREATED"], {"X": "y"})
    (found,) = place.studio.webhooks(place.project)
    assert (found.id, found.actions, found.is_active, found.headers) == (
        hook,
        ("ANNOTATION_CREATED",),
        True,
        {"X": "y"},
    )
    place.studio.update_webhook(hook, is_active=False)
    assert not place.studio.webhooks(place.project)[0].is_active
    place.studio.delete_webhook(hook)
    assert place.studio.webhooks(place.project) == []


def test_two_people_get_two_tasks(stand_in: StandIn) -> None:
    users = [stand_in.state.add_user(name) for name in ("anna", "bert")]
    studios = [Studio(stand_in.url, user.token) for user in users]
    project = studios[0].create_project("Two", XML)
    studios[0].import_tasks(project, [{"image": name} for name in "ab"])
    given = [studio.next_task(project) for studio in studios]
    assert given[0] is not None
    assert given[1] is not None
    assert given[0]["id"] != given[1]["id"]
    studios[0].skip(given[0]["id"])
    studios[1].submit(given[1]["id"], RESULT)
    assert studios[0].next_task(project) is None
    other = studios[1].next_task(project)
    assert other is not None
    assert other["id"] == given[0]["id"]


def test_webhooks_can_be_kept_and_made_later(stand_in: StandIn) -> None:
    kept: list[Delivery] = []
    studio = Studio(stand_in.url, next(iter(stand_in.state.users)))
    project = studio.create_project("Told", XML)
    (task,) = studio.import_tasks(project, [{"image": "a"}])
    actions = ["ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED"]
    studio.create_webhook(project, f"{stand_in.url}/api/webhooks/", actions, {})
    stand_in.deliver = kept.append
    try:
        annotation = studio.submit(task, RESULT)
        studio.delete_annotation(annotation)
        studio.update_project(project, sampling="Uniform sampling")
    finally:
        stand_in.deliver = send
    assert [one.action for one in kept] == ["ANNOTATION_CREATED", "ANNOTATIONS_DELETED"]
    assert kept[0].payload["annotation"]["id"] == annotation
    stand_in.deliver(kept[0])  # the address answers 401, and nothing comes of it


def test_a_call_can_be_cut_before_and_after_it_takes_effect(stand_in: StandIn) -> None:
    studio = Studio(stand_in.url, next(iter(stand_in.state.users)))
    project = studio.create_project("Cut", XML)
    for moment, tasks in (("before", 0), ("after", 1)):
        stand_in.cuts = lambda method, path, moment=moment: moment if method == "POST" else None  # type: ignore[misc]
        with pytest.raises(StudioUnavailable):
            studio.import_tasks(project, [{"image": "a"}])
        stand_in.cuts = lambda method, path: None
        assert studio.counts(project).tasks == tasks


def test_a_state_can_be_taken_and_put_back(stand_in: StandIn, tmp_path: Path) -> None:
    studio = Studio(stand_in.url, next(iter(stand_in.state.users)))
    project = studio.create_project("Taken", XML)
    (task,) = studio.import_tasks(project, [{"image": "a"}])
    taken = stand_in.take()
    studio.submit(task, RESULT)
    stand_in.put(taken)
    assert studio.counts(project).annotations == 0
    studio.submit(task, RESULT)
    stand_in.put(taken)
    assert studio.counts(project).annotations == 0


def test_nobody_is_let_in_without_a_token(stand_in: StandIn) -> None:
    with pytest.raises(StudioRefused, match="401"):
        Studio(stand_in.url, "another").me()
