"""The loop through real servers: Label Studio, Redis, gunicorn, an RQ worker and the sidecar; its stages in order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ml_backend.loop import jobs
from ml_backend.setup.label_configuration import render
from ml_backend.store.versions import Manifest
from ml_backend.studio.payloads import Checker, choices_result, default_of
from ml_backend.tsal.belief import SOURCES
from tests.stack import Stack, running_stack
from tests.studio_server import StudioServer

K_MAX = 6


@pytest.fixture(scope="module")
def stack(studio_server: StudioServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Start everything, with a project of phantom frames that is connected."""
    folder = tmp_path_factory.mktemp("end-to-end")
    # The sidecar must rely on webhooks and jobs alone; a later stage makes it poll.
    with running_stack(studio_server, folder, render(), "*_clip_01.mp4", k_max=K_MAX, poll_seconds=3600) as made:
        yield made


def test_before_the_first_answer_frames_that_differ_come_first_and_nothing_is_ticked(stack: Stack) -> None:
    order = stack.order(None)
    assert order.about.strategy == "cover"
    assert set(order.tasks.tolist()) == stack.pool()
    assert order.tasks.tolist() != sorted(order.tasks.tolist())

    for place in range(K_MAX):
        task = stack.next_task()
        assert task["id"] == order.tasks[place]
        (prediction,) = task["predictions"]
        assert prediction["model_version"] == order.about.name
        assert default_of(prediction, stack.configuration).labels is None
        if place == 2:
            stack.services.studio.skip(task["id"])
            stack.skipped.add(task["id"])
        else:
            stack.confirm(task)
    assert stack.services.pending(stack.project).count() == K_MAX - 1
    assert stack.jobs_waiting() == 0
    assert stack.services.versions(stack.project).names() == []


def test_a_batch_trains_a_version_that_the_webhook_started(stack: Stack) -> None:
    before = stack.order(None)
    assert stack.confirm_next(1) == [before.tasks[K_MAX]]
    manifest = stack.version(after=None)
    assert manifest.trigger == "webhook"
    assert manifest.job == f"finetune-{stack.project}-after-nothing"
    assert manifest.parent is None
    assert {one.task for one in manifest.seen} == set(before.tasks[: K_MAX + 1].tolist()) - stack.skipped
    assert len(manifest.seen) == K_MAX
    assert manifest.batch["manual_share_validated"] == 1.0


def test_the_new_version_ticks_the_symptoms_and_orders_the_queue(stack: Stack) -> None:
    first = stack.newest()
    order = stack.order(first.version)
    assert order.about.strategy == "cover"
    assert first.trial is None
    assert set(order.tasks.tolist()) == stack.pool()
    assert stack.services.studio.project(stack.project).model_version == order.about.name
    assert stack.services.versions(stack.project).names() == [first.version]
    finished = jobs.queue(stack.services).finished_job_registry
    stack.wait_for("the end of the job", lambda: len(finished) == 1)  # the order serves before the job ends

    expected = stack.expected(K_MAX)
    # The memory ticks what somebody has confirmed, the network what its table knows.
    known = {*map(tuple, _combinations(first)), *(tuple(labels.tolist()) for labels in stack.truth.values())}
    checker = Checker(stack.configuration)
    for task_id in expected:
        task = stack.next_task()
        assert task["id"] == task_id
        (prediction,) = task["predictions"]
        assert prediction["model_version"] == order.about.name
        assert prediction["score"] == pytest.approx(order.tasks.tolist().index(task_id) / len(order.tasks))
        ticked = default_of(prediction, stack.configuration)
        assert ticked.labels is not None
        assert tuple(ticked.labels.tolist()) in known
        assert ticked.audit["source"] in SOURCES
        assert set(ticked.audit["probabilities"]) == set(stack.configuration.label_names)
        assert checker.errors(prediction) == []
        stack.confirm(task)

    second = stack.version(after=first)
    assert (second.parent, second.trigger) == (first.version, "webhook")
    assert second.job == f"finetune-{stack.project}-after-{first.version}"
    assert second.batch["with_default"] == second.batch["annotations"] == K_MAX
    assert {one.task for one in second.seen} == {one.task for one in first.seen} | set(expected)
    audited = stack.services.audits(stack.project).tasks() & set(expected)
    assert second.trial is not None
    assert second.trial["annotations"] == len(audited) > 0
    assert stack.order(second.version).about.name != order.about.name
    stack.wait_for("the end of the second job", lambda: len(finished) == 2)


def test_changed_and_deleted_annotations_change_the_training_set(stack: Stack) -> None:
    second = stack.newest()
    stack.order(second.version)
    changed, deleted = second.seen[0], second.seen[1]
    healthy = choices_result(stack.configuration.label_set.encode([]), stack.configuration)
    answer = stack.studio.patch(f"/api/annotations/{changed.annotation}/", json={"result": [healthy]})
    updated_at = answer.raise_for_status().json()["updated_at"]
    assert stack.services.pending(stack.project).tasks() == {changed.task}
    stack.studio.delete(f"/api/annotations/{deleted.annotation}/").raise_for_status()

    # The button Start Training.
    (backend,) = stack.services.studio.backends(stack.project)
    for _ in range(2):
        stack.studio.post(f"/api/ml/{backend.id}/train", json={}).raise_for_status()
    third = stack.version(after=second)
    assert (third.parent, third.trigger) == (second.version, "request")
    seen = {one.annotation: one for one in third.seen}
    assert seen.keys() == {one.annotation for one in second.seen} - {deleted.annotation}
    assert seen[changed.annotation].updated_at == updated_at != changed.updated_at
    assert deleted.task in stack.order(third.version).tasks
    assert stack.services.versions(stack.project).names() == [second.parent, second.version, third.version]


def test_frames_that_come_later_join_the_queue(stack: Stack) -> None:
    before = stack.current()
    pool = stack.pool()
    stack.bring("phantom_001_clip_02.mp4")
    stack.wait_for("an order with the new frames", lambda: set(stack.current().tasks.tolist()) == stack.pool())
    after = stack.current()
    assert len(stack.pool() - pool) > 2
    assert after.about.version == before.about.version
    assert after.about.name != before.about.name
    assert [stack.next_task()["id"]] == stack.expected(1)
    stack.confirm(stack.next_task())  # a frame that was taken is served first again
    assert [stack.next_task()["id"]] == stack.expected(1)
    stack.confirm(stack.next_task())


def test_label_studio_gets_a_prediction_when_it_asks_for_one(stack: Stack) -> None:
    stack.stop("sidecar")
    before = stack.pool()
    order = stack.current()
    stack.bring("phantom_002_clip_02.mp4")
    opened, *others = sorted(stack.pool() - before)
    task = stack.studio.get(f"/api/tasks/{opened}/").raise_for_status().json()
    predictions = [task["predictions"]]
    selected = {"selectedItems": {"all": False, "included": others}}
    stack.studio.post(
        "/api/dm/actions/",
        params={"id": "retrieve_tasks_predictions", "project": stack.project},
        json=selected,
    ).raise_for_status()
    for other in others:
        answer = stack.studio.get("/api/predictions/", params={"task": other}).raise_for_status()
        predictions.append(answer.json())

    checker = Checker(stack.configuration)
    assert len(predictions) > 2
    for (prediction,) in predictions:
        assert prediction["model_version"] == order.about.name
        assert checker.errors(prediction) == []
        assert default_of(prediction, stack.configuration).labels is not None
        assert 0 <= prediction["score"] <= 1


def test_polling_finds_what_webhooks_missed(stack: Stack) -> None:
    third = stack.newest()
    assert stack.children["sidecar"].process.poll() is not None
    stack.stop("backend")
    told = stack.services.pending(stack.project).tasks()
    confirmed = stack.confirm_next(K_MAX)
    assert stack.services.pending(stack.project).tasks() == told
    assert stack.services.versions(stack.project).newest() == third
    assert stack.jobs_waiting() == 0

    stack.restart("backend")
    stack.restart("sidecar", TSAL_POLL_SECONDS="1")
    fourth = stack.version(after=third)
    assert (fourth.parent, fourth.trigger) == (third.version, "poll")
    assert {one.task for one in fourth.seen} == {one.task for one in third.seen} | told | set(confirmed)
    stack.order(fourth.version)
    assert set(stack.current().tasks.tolist()) == stack.pool()
    assert [stack.next_task()["id"]] == stack.expected(1)


def test_predictions_of_old_orders_are_removed(stack: Stack) -> None:
    studio = stack.services.studio

    def few() -> bool:
        return len(studio.model_versions(stack.project)) == stack.services.settings.keep_pushed

    stack.wait_for("the old orders' end", few)
    assert stack.current().about.name in studio.model_versions(stack.project)
    assert studio.project(stack.project).model_version == stack.current().about.name


def _combinations(manifest: Manifest) -> list[list[int]]:
    """The label combinations that a version's table knows, which are all that a default can be."""
    combinations = manifest.table["combinations"]
    return [[int(value) for value in combination] for combination in combinations]
