"""The client against a real Label Studio."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ml_backend.errors import StudioRefused
from ml_backend.studio import annotations as annotations_module
from ml_backend.studio import predictions, tasks
from ml_backend.studio.client import Counts, ProjectInfo, Studio
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.events import annotations_in
from ml_backend.studio.payloads import Prediction, choices_result, default_of, labels_of, prediction_payload
from tests.studio.site import Site, running_site
from tests.studio_server import StudioServer

XML = """<View><Image name="image" value="$image"/><Choices name="symptoms" toName="image" choice="multiple">
<Choice value="A-line"/><Choice value="B-line" alias="b"/><Choice value="Effusion"/></Choices></View>"""
CONFIGURATION = Configuration.parse(XML)
UNKNOWN = 999_999
A_LINE, B_LINE, NO_SYMPTOM = (np.array(row, np.uint8) for row in ([1, 0, 0], [0, 1, 0], [0, 0, 0]))


def token_of(server: StudioServer, kind: str) -> str:
    return server.token if kind == "legacy" else server.personal_token


@pytest.fixture
def studio(request: pytest.FixtureRequest, studio_server: StudioServer) -> Studio:
    """Signed by a personal access token, which takes more than a legacy one, unless the test asks for the other."""
    return Studio(studio_server.url, token_of(studio_server, getattr(request, "param", "personal")))


both_tokens = pytest.mark.parametrize("studio", ["legacy", "personal"], indirect=True)


@pytest.fixture
def project(studio: Studio) -> int:
    return studio.create_project("Client", XML, sampling="Uncertainty sampling")


def data(count: int) -> list[dict[str, Any]]:
    return [{"image": f"/data/local-files/?d=a/{row}.png", "patient": f"p{row % 3}"} for row in range(count)]


def predicted(task: int, score: float, version: str, labels: NDArray[np.uint8] | None = A_LINE) -> dict[str, Any]:
    return prediction_payload(Prediction(task, labels, score, version, {"plain": ["B-line"]}), CONFIGURATION)


def result(labels: NDArray[np.uint8]) -> list[dict[str, Any]]:
    return [{"id": "r", **choices_result(labels, CONFIGURATION)}]


@both_tokens
def test_knows_the_server_and_the_user(studio: Studio, studio_server: StudioServer) -> None:
    assert studio.version() == studio_server.release
    assert studio.me() == studio_server.username


def test_a_project_as_it_was_made_and_changed(studio: Studio, project: int) -> None:
    info = studio.project(project)
    assert info == ProjectInfo("Client", XML, None, "Uncertainty sampling", 1, True)
    studio.update_project(project, sampling="Sequential sampling", maximum_annotations=2)
    changed = studio.project(project)
    assert (changed.sampling, changed.maximum_annotations) == ("Sequential sampling", 2)


def test_tasks_come_back_as_they_were_imported(studio: Studio, project: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "PIECE", 4)
    monkeypatch.setattr(tasks, "PAGE", 4)
    for count in (9, 3):  # the last page is full after the second
        studio.import_tasks(project, data(count))
    ids = studio.import_tasks(project, data(4))
    found = list(studio.tasks(project))
    assert [task.data for task in found] == data(9) + data(3) + data(4)
    assert [task.id for task in found] == sorted({task.id for task in found})
    assert [task.id for task in found[-4:]] == ids
    assert studio.counts(project).tasks == 16
    assert studio.import_tasks(project, []) == []


def test_pages_lose_nothing_while_annotators_work(
    studio: Studio, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "PAGE", 3)
    ids = studio.import_tasks(project, data(9))
    pages = studio.tasks(project, only_unlabelled=True)
    seen = [next(pages).id]
    studio.submit(ids[0], result(A_LINE))
    studio.submit(ids[1], result(A_LINE))
    assert seen + [task.id for task in pages] == ids


@both_tokens
def test_serves_in_the_order_of_the_pushed_scores(studio: Studio, project: int) -> None:
    ids = studio.import_tasks(project, data(6))
    order = [4, 1, 5, 0, 3, 2]
    studio.import_predictions(project, [predicted(ids[row], place / 6, "v1") for place, row in enumerate(order)])
    studio.update_project(project, model_version="v1")
    served = []
    for place in range(6):
        if place == 3:  # a new version turns what is left around
            left = [ids[row] for row in reversed(order[3:])]
            studio.import_predictions(project, [predicted(task, rank / 6, "v2") for rank, task in enumerate(left)])
            studio.update_project(project, model_version="v2")
        task = studio.next_task(project)
        assert task is not None
        served.append(ids.index(task["id"]))
        assert task["predictions"][0]["model_version"] == ("v1" if place < 3 else "v2")
        studio.submit(task["id"], result(A_LINE))
    assert served == order[:3] + order[3:][::-1]
    assert studio.next_task(project) is None
    assert sorted(studio.model_versions(project)) == ["v1", "v2"]
    assert studio.project(project).model_version == "v2"


def test_confirmed_annotations_come_with_the_predictions_shown(
    studio: Studio, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "PAGE", 2)
    monkeypatch.setattr(annotations_module, "EXPORT_PIECE", 2)
    ids = studio.import_tasks(project, data(6))
    studio.import_predictions(project, [predicted(task, row / 6, "v1") for row, task in enumerate(ids[:5])])
    studio.update_project(project, model_version="v1")
    shown = []
    for _ in range(3):
        task = studio.next_task(project)
        assert task is not None
        shown.append((task["id"], task["predictions"][0]["id"]))
    assert len(set(shown)) == 1  # a lock is served first
    first, prediction = shown[0]

    confirmed = [studio.submit(first, result(A_LINE), lead_time=2.5, parent_prediction=prediction)]
    confirmed.append(studio.submit(ids[1], []))  # nothing ticked: a confirmed empty combination
    studio.skip(ids[1])  # and somebody else skips it
    studio.skip(ids[2])
    confirmed.append(studio.submit(ids[5], result(B_LINE)))
    studio.submit(first, result(B_LINE))
    # The version changes while a task is open.
    opened = studio.next_task(project)
    assert opened is not None
    studio.import_predictions(project, [predicted(task, row / 6, "v2", B_LINE) for row, task in enumerate(ids)])
    studio.update_project(project, model_version="v2")
    parent = opened["predictions"][0]["id"]
    confirmed.append(studio.submit(opened["id"], result(NO_SYMPTOM), parent_prediction=parent))

    found = studio.confirmed_annotations(project)
    by_id = {annotation.id: annotation for annotation in found}
    assert len(found) == 5
    assert set(confirmed) < set(by_id)
    one = by_id[confirmed[0]]
    assert (one.task, one.data) == (first, data(1)[0])
    assert one.updated_at.endswith("Z")
    read = [labels_of(by_id[annotation].result, CONFIGURATION)[0].tolist() for annotation in confirmed]
    assert read == [[1, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 0]]

    predictions = studio.shown_predictions(project, [by_id[annotation] for annotation in confirmed])
    assert set(predictions) == {confirmed[0], confirmed[3]}  # the others came without a parent prediction
    for annotation in (confirmed[0], confirmed[3]):
        assert predictions[annotation]["model_version"] == "v1"
        default = default_of(predictions[annotation], CONFIGURATION)
        assert default.labels is not None
        assert default.plain is not None
        assert (default.labels.tolist(), default.plain.tolist()) == ([1, 0, 0], [0, 1, 0])

    # Label Studio forgets the parent with the version; the copy in the annotation is left where it is the right one.
    studio.delete_model_version(project, "v1")
    again = studio.shown_predictions(project, found)
    assert again[confirmed[0]]["model_version"] == "v1"
    assert studio.counts(project) == Counts(tasks=6, annotated=4, unlabelled=2, annotations=5)

    studio.delete_annotation(confirmed[2])
    assert studio.counts(project) == Counts(tasks=6, annotated=3, unlabelled=3, annotations=4)


@pytest.mark.parametrize(("skip_queue", "waits"), [("REQUEUE_FOR_OTHERS", True), ("IGNORE_SKIPPED", False)])
def test_a_skipped_frame_waits_where_the_project_says_so(
    studio: Studio, project: int, skip_queue: str, waits: bool
) -> None:
    studio.update_project(project, skip_queue=skip_queue)
    labelled, skipped, fresh = studio.import_tasks(project, data(3))
    studio.submit(labelled, result(A_LINE))
    studio.skip(skipped)
    pool = [task.id for task in studio.tasks(project, only_unlabelled=True)]
    assert pool == ([skipped, fresh] if waits else [fresh])
    assert [task.id for task in studio.tasks(project)] == [labelled, skipped, fresh]
    # Label Studio does not count a frame with a star among those with annotations, nor one that was skipped for good;
    # the last batch must wait for neither.
    starred = studio.submit(fresh, result(A_LINE))
    studio._sdk.annotations.update(starred, ground_truth=True)
    assert studio.counts(project).unlabelled == (1 if waits else 0)


@pytest.mark.parametrize("is_labelled", [False, True])
def test_annotations_that_label_studio_lost_count_of_are_found(
    studio: Studio, project: int, studio_server: StudioServer, is_labelled: bool
) -> None:
    first, second, third = studio.import_tasks(project, data(3))
    submitted = [studio.submit(task, result(A_LINE)) for task in (first, second)]
    # What two transactions of a busy Label Studio on PostgreSQL leave behind now and then.
    studio_server.execute(f"UPDATE task SET total_annotations = 0, is_labeled = {is_labelled} WHERE id = {first}")
    assert [one.id for one in studio.confirmed_annotations(project)] == submitted[::-1]
    unlabelled = [task.id for task in studio.tasks(project, only_unlabelled=True)]
    assert unlabelled == [first, third]
    studio.import_predictions(project, [predicted(task, 0.5, "v1") for task in unlabelled])
    assert [task.id for task in studio.tasks(project, only_unlabelled=True)] == [third]
    assert [one.id for one in studio.confirmed_annotations(project)] == submitted


def test_a_prediction_that_label_studio_drops_is_an_error(studio: Studio, project: int) -> None:
    first, second = studio.import_tasks(project, data(2))
    good = predicted(first, 0.1, "v1")
    bad = predicted(second, 0.2, "v1") | {"score": 1.5}
    with pytest.raises(StudioRefused, match="2 were sent and 1 stored"):
        studio.import_predictions(project, [good, bad])
    studio.import_predictions(project, [])


def test_many_predictions_go_in_pieces(studio: Studio, project: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "PIECE", 2)
    ids = studio.import_tasks(project, data(5))
    studio.import_predictions(project, [predicted(task, 0.5, "v1", None) for task in ids])
    assert studio._sdk.projects.get(project).total_predictions_number == 5


def test_the_version_that_is_shown_is_not_deleted(studio: Studio, project: int) -> None:
    ids = studio.import_tasks(project, data(2))
    for version in ("v1", "v2"):
        studio.import_predictions(project, [predicted(task, 0.5, version) for task in ids])
    studio.update_project(project, model_version="v2")
    with pytest.raises(StudioRefused, match="switch it to another pushed version first"):
        studio.delete_model_version(project, "v2")
    studio.delete_model_version(project, "v1")
    assert studio.model_versions(project) == ["v2"]
    assert studio.project(project).model_version == "v2"


def test_webhooks(studio: Studio, project: int) -> None:
    url = "http://127.0.0.1:9/webhook?project=1"
    webhook = studio.create_webhook(project, url, ["ANNOTATION_UPDATED", "ANNOTATION_CREATED"], {"X-Secret": "abc"})
    (found,) = studio.webhooks(project)
    assert (found.id, found.url, found.headers) == (webhook, url, {"X-Secret": "abc"})
    assert found.actions == ("ANNOTATION_CREATED", "ANNOTATION_UPDATED")
    assert (found.send_for_all_actions, found.send_payload, found.is_active) == (False, True, True)
    assert "abc" not in repr(found)
    studio.update_webhook(webhook, is_active=False, headers={})
    (found,) = studio.webhooks(project)
    assert (found.is_active, found.headers, found.url) == (False, {}, url)
    studio.switch_on(found)
    assert studio.webhooks(project) == [replace(found, is_active=True)]
    studio.delete_webhook(webhook)
    assert studio.webhooks(project) == []


@pytest.fixture
def backend() -> Iterator[Site]:
    with running_site() as site:
        site.says("/health", {"status": "UP"})
        site.says("/setup", {"model_version": "v1"})
        yield site


def test_ml_backends(studio: Studio, project: int, backend: Site) -> None:
    made = studio.create_backend(project, backend.url, "ours", user="studio", password="secret")
    assert backend.asked[-1] == ("/setup", "Basic c3R1ZGlvOnNlY3JldA==")
    (found,) = studio.backends(project)
    assert (found.id, found.url, found.state) == (made, backend.url, "CO")
    assert found.basic_auth_user == "studio"
    studio.update_backend(project, made, backend.url, "renamed")
    (found,) = studio.backends(project)
    assert found.basic_auth_user is None
    assert backend.asked[-1] == ("/setup", None)
    studio.delete_backend(made)
    assert studio.backends(project) == []


def test_an_ml_backend_must_answer(studio: Studio, project: int, backend: Site) -> None:
    del backend.pages["/health"]
    with pytest.raises(StudioRefused, match="registering the ML backend"):
        studio.create_backend(project, backend.url, "ours")


def test_local_files(studio: Studio, project: int, studio_server: StudioServer) -> None:
    folder = studio_server.files / f"project-{project}"
    folder.mkdir()
    studio.create_local_storage(project, str(folder), "frames")
    assert studio.local_storages(project) == [str(folder)]
    (folder / "frame.png").write_bytes(b"a file")
    (storage,) = studio._get("", "api/storages/localfiles/", project=project)
    studio._calls.request("POST", f"api/storages/localfiles/{storage['id']}/sync", json={})  # the button Sync
    assert list(studio.tasks(project)) == []
    with pytest.raises(StudioRefused, match="serving the folder"):
        studio.create_local_storage(project, "/nowhere", "frames")


def test_an_unknown_project_is_named(studio: Studio) -> None:
    calls: list[Callable[[], object]] = [
        lambda: studio.project(UNKNOWN),
        lambda: studio.counts(UNKNOWN),
        lambda: list(studio.tasks(UNKNOWN)),
        lambda: studio.confirmed_annotations(UNKNOWN),
        lambda: studio.import_tasks(UNKNOWN, data(1)),
        lambda: studio.import_predictions(UNKNOWN, [predicted(1, 0.5, "v")]),
        lambda: studio.update_project(UNKNOWN, model_version="v"),
        lambda: studio.model_versions(UNKNOWN),
        lambda: studio.delete_model_version(UNKNOWN, "v"),
        lambda: studio.next_task(UNKNOWN),
    ]
    for call in calls:
        with pytest.raises(StudioRefused, match=f"project {UNKNOWN}: Label Studio") as caught:
            call()
        assert "project ID" in str(caught.value) or "no such project" in str(caught.value)


def test_says_which_value_is_wrong(studio: Studio, project: int) -> None:
    with pytest.raises(StudioRefused, match="label_config: no element found"):
        studio.create_project("Broken", "<View>")
    with pytest.raises(StudioRefused, match='"image" key is expected'):
        studio.import_tasks(project, [{"picture": "x"}])
    with pytest.raises(StudioRefused, match="Model version doesn't exist"):
        studio.update_project(project, model_version="nothing")
    with pytest.raises(StudioRefused, match=f"annotating task {UNKNOWN}"):
        studio.submit(UNKNOWN, [])


@pytest.mark.parametrize("kind", ["legacy", "personal"])
def test_a_wrong_token_is_an_error_with_advice(studio_server: StudioServer, kind: str) -> None:
    token = token_of(studio_server, kind)
    wrong = token[:-4] + ("abcd" if not token.endswith("abcd") else "abce")
    with pytest.raises(StudioRefused, match="use a personal access token") as caught:
        Studio(studio_server.url, wrong).project(1)
    assert wrong not in str(caught.value)


def test_predictions_accepted_in_bulk_are_flagged_until_somebody_updates_them(studio: Studio, project: int) -> None:
    """One click on "Create Annotations From Predictions" in the Data Manager."""
    ids = studio.import_tasks(project, data(5))
    studio.import_predictions(project, [predicted(task, row / 5, "v1") for row, task in enumerate(ids[:4])])
    studio.update_project(project, model_version="v1")
    opened = studio.next_task(project)
    assert opened is not None
    assert opened["id"] == ids[0]
    in_browser = studio.submit(ids[0], result(A_LINE), lead_time=1.5, parent_prediction=opened["predictions"][0]["id"])
    with running_site() as site:
        site.says("/webhook", {})
        studio.create_webhook(project, f"{site.url}/webhook", ["ANNOTATIONS_CREATED"], {})
        selected = {"all": False, "included": ids[1:4]}
        studio._calls.request(
            "POST",
            "api/dm/actions/",
            params={"id": "predictions_to_annotations", "project": project},
            json={"selectedItems": selected, "model_version": "v1"},
        )
        (posted,) = site.bodies["/webhook"]
    imported = [{"data": data(1)[0], "annotations": [{"result": result(B_LINE)}]}]
    studio._calls.request("POST", f"api/projects/{project}/import", json=imported)

    found = {one.task: one for one in studio.confirmed_annotations(project)}
    assert len(found) == 5
    assert [found[task].accepted_unseen for task in ids[:4]] == [False, True, True, True]
    (new,) = found.keys() - set(ids)
    assert not found[new].accepted_unseen
    assert found[ids[0]].id == in_browser

    assert posted["action"] == "ANNOTATIONS_CREATED"
    told = {one.task: one for one in annotations_in(posted)}
    assert {task: one.accepted_unseen for task, one in told.items()} == dict.fromkeys(ids[1:4], True)

    # The button Update in the browser sends a time; a script need not.
    studio._sdk.annotations.update(found[ids[1]].id, result=result(B_LINE), lead_time=3.0)
    studio._sdk.annotations.update(found[ids[2]].id, result=result(A_LINE))
    again = {one.task: one.accepted_unseen for one in studio.confirmed_annotations(project)}
    assert [again[task] for task in ids[1:4]] == [False, False, True]


def test_an_empty_page_ends_the_list() -> None:
    """Label Studio counts the tasks first; what it counted may be annotated before it reads them."""
    with running_site() as site:
        site.says("/api/tasks", {"tasks": [], "total": 3})
        assert list(Studio(site.url, "a-token").tasks(7)) == []


@pytest.mark.parametrize(
    "detail",
    [
        "There are no tasks for lead@example.com",
        "There are still some tasks to complete for the user=lead@example.com, but they seem to be locked",
    ],
)
def test_an_empty_queue_gives_no_task_in_the_words_of_every_release(detail: str) -> None:
    with running_site() as site:
        site.says("/api/dm/actions/", {"detail": detail}, 404)
        assert Studio(site.url, "a-token").next_task(7) is None
        site.says("/api/dm/actions/", {"detail": "Not found."}, 404)
        with pytest.raises(StudioRefused):
            Studio(site.url, "a-token").next_task(7)
