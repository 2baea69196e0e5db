from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from ml_backend.errors import StudioUnavailable
from ml_backend.launch.processes import free_port
from ml_backend.loop import jobs, watch
from ml_backend.loop import order as ordering
from ml_backend.loop import train as training
from ml_backend.loop.watch import Watched, look, try_look
from ml_backend.model import LungUltrasoundModel
from ml_backend.services import Services
from ml_backend.settings import Settings, load
from ml_backend.setup.label_configuration import render
from ml_backend.store.format import FILE, NOW, require_readable
from ml_backend.store.orders import WORDS, Order
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.payloads import AUDIT, choices_result
from ml_backend.tsal.split import held_out
from tests.events import events
from tests.installation import exit_code, one_line
from tests.studio_server import StudioServer

ROOT = Path(__file__).resolve().parents[2]
FRAMES = 8


@pytest.fixture
def settings(studio_server: StudioServer, redis_url: str, tmp_path: Path) -> Settings:
    return load(
        label_studio_url=studio_server.url,
        label_studio_token=studio_server.token,
        document_root=studio_server.files,
        data_dir=tmp_path / "data",
        redis_url=redis_url,
        backbone="efficientnet_lite0",
        k_max=4,
        epochs=1,
        minimum_steps=2,
        views=1,
        poll_seconds=3600,
        rest_seconds=0,
    )


@pytest.fixture
def services(settings: Settings) -> Services:
    return Services(settings)


@pytest.fixture
def empty(services: Services) -> int:
    """A project without frames."""
    return services.studio.create_project("Queue", render())


@pytest.fixture
def project(services: Services, empty: int) -> int:
    """A project with frames that nobody has put in order."""
    add_frames(services, empty, FRAMES)
    return empty


@pytest.fixture
def trained(services: Services, project: int) -> int:
    """A project with a version, whose order is the one by diversity still."""
    look(services, project, Watched())
    configuration = Configuration.parse(render())
    for task, names in zip(order(services, project).tasks[:2].tolist(), (["A-line"], ["B-line"]), strict=True):
        labels = configuration.label_set.encode(names)
        services.studio.submit(task, [choices_result(labels, configuration)])
    training.fine_tune(services, project, lambda stage, done, total: None)
    return project


def add_frames(services: Services, project: int, count: int, patients: Sequence[str] = ()) -> list[int]:
    """Import frames that are not alike, of these patients or of none."""
    root = services.settings.document_root
    assert root is not None
    folder = root / f"reorder-{project}"
    folder.mkdir(exist_ok=True)
    have = len(list(folder.iterdir()))
    rng = np.random.default_rng(have)
    for number in range(have, have + count):
        small = rng.integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(small.repeat(16, 0).repeat(16, 1)).save(folder / f"{number}.png")
    names = [f"reorder-{project}/{number}.png" for number in range(have, have + count)]
    data: list[dict[str, str]] = [{"image": f"/data/local-files/?d={name}"} for name in names]
    for one, patient in zip(data, patients, strict=False):
        one["patient"] = patient
    return services.studio.import_tasks(project, data)


def order(services: Services, project: int) -> Order:
    current = services.orders(project).current()
    assert current is not None
    return current


def ticks_of(prediction: Mapping[str, Any]) -> list[str]:
    """The symptoms that a prediction ticks."""
    ticked = [one["value"]["choices"] for one in prediction["result"] if one["from_name"] == "symptoms"]
    return [name for names in ticked for name in names]


def predictions(services: Services, project: int) -> dict[int, tuple[list[str], dict[str, Any]]]:
    """What Label Studio shows of each task that nobody annotated: ticks, and figures without the place in the queue."""
    settings, name = services.settings, services.studio.project(project).model_version
    shown = {}
    for task in services.studio.tasks(project, only_unlabelled=True):
        answer = httpx.get(
            f"{settings.label_studio_url}/api/predictions/",
            params={"task": task.id},
            headers={"Authorization": f"Token {settings.token()}"},
        ).raise_for_status()
        (one,) = [one for one in answer.json() if one["model_version"] == name]
        shown[task.id] = (ticks_of(one), {key: one["result"][0][AUDIT][key] for key in ("probabilities", "plain")})
    return shown


def served(services: Services, project: int) -> list[int]:
    """What Label Studio serves, by skipping one frame after the other."""
    tasks: list[int] = []
    while (task := services.studio.next_task(project)) is not None:
        services.studio.skip(task["id"])
        tasks.append(task["id"])
    return tasks


# Once, from the command line


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> pytest.MonkeyPatch:
    for name in ("label_studio_url", "document_root", "data_dir", "backbone", "k_max"):
        monkeypatch.setenv(f"TSAL_{name.upper()}", str(getattr(settings, name)))
    monkeypatch.setenv("TSAL_LABEL_STUDIO_TOKEN", settings.token())
    return monkeypatch


@pytest.mark.usefixtures("environment")
def test_once_puts_the_queue_in_order_without_redis_and_ends(services: Services, project: int) -> None:
    missing = services.studio.import_tasks(project, [{"image": "/data/local-files/?d=missing.png"}])
    command = [sys.executable, str(ROOT / "scripts" / "reorder_queue.py"), "--once", "--project", str(project)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, env=dict(os.environ))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"project {project}: {FRAMES + 1} frames in the order {WORDS}diversity.1\n"
    assert "frame unreadable" in ended.stderr
    placed = order(services, project)
    assert placed.about.strategy == "cover"
    assert placed.tasks[-1:].tolist() == missing
    assert placed.tasks.tolist() != sorted(placed.tasks.tolist())
    info = services.studio.project(project)
    assert (info.model_version, info.sampling) == (f"{WORDS}diversity.1", "Uncertainty sampling")
    assert served(services, project) == placed.tasks.tolist()


@pytest.mark.usefixtures("environment")
def test_once_again_is_the_same_order_under_another_name(
    services: Services, project: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("order", "--project", str(project)) == 0
    first = order(services, project)
    assert exit_code("order", "--project", str(project)) == 0
    second = order(services, project)
    assert (
        capsys.readouterr().out.splitlines()[-1]
        == f"project {project}: {FRAMES} frames in the order {WORDS}diversity.2"
    )
    assert (first.about.name, second.about.name) == (f"{WORDS}diversity.1", f"{WORDS}diversity.2")
    assert first.tasks.tolist() == second.tasks.tolist()


@pytest.mark.usefixtures("environment")
def test_once_without_a_project_takes_the_connected_ones(
    services: Services, project: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("order") == 2
    assert "no project is connected" in one_line(capsys)
    services.folder(project).mkdir(parents=True)
    assert exit_code("order") == 0
    assert f"project {project}: {FRAMES} frames" in capsys.readouterr().out


@pytest.mark.usefixtures("environment")
def test_once_on_an_empty_project_says_so(services: Services, empty: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("order", "--project", str(empty)) == 0
    assert capsys.readouterr().out == f"project {empty}: no frame is left to annotate\n"
    assert services.orders(empty).current() is None


both = pytest.mark.parametrize("command", ["order", "connect"])


@both
@pytest.mark.usefixtures("environment")
def test_an_unknown_project_is_named(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(command, "--project", "999999") == 5
    assert "project 999999" in one_line(capsys)


@both
def test_a_wrong_token_is_named(
    command: str, environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("TSAL_LABEL_STUDIO_TOKEN", "1" * 40)
    assert exit_code(command, "--project", "1") == 5
    assert "access token" in one_line(capsys)


@both
def test_an_unreachable_label_studio_is_named(
    command: str, environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("TSAL_LABEL_STUDIO_URL", f"http://127.0.0.1:{free_port()}")
    assert exit_code(command, "--project", "1") == 4
    assert "does not answer" in one_line(capsys)


def test_once_names_an_unknown_strategy(environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    environment.setenv("TSAL_STRATEGY", "best")
    assert exit_code("order", "--project", "1") == 2
    assert "TSAL_STRATEGY" in one_line(capsys)


# What the watch does at each look


def test_a_new_version_leads_to_its_order_once(services: Services, trained: int) -> None:
    state = Watched()
    look(services, trained, state)
    placed = order(services, trained)
    assert (placed.about.version, placed.about.strategy) == (services.versions(trained).active(), "cover")
    assert set(placed.tasks.tolist()) == {task.id for task in services.studio.tasks(trained, only_unlabelled=True)}
    look(services, trained, state)
    look(services, trained, Watched())
    assert order(services, trained).about.name == placed.about.name
    assert served(services, trained) == placed.tasks.tolist()


def test_another_strategy_leads_to_another_order(services: Services, settings: Settings, trained: int) -> None:
    look(services, trained, Watched())
    before = order(services, trained)
    other = Services(settings.model_copy(update={"strategy": "lc"}))
    look(other, trained, Watched())
    after = order(services, trained)
    assert after.about.strategy == "lc"
    assert after.about.name != before.about.name
    assert services.studio.project(trained).model_version == after.about.name
    assert served(services, trained) == after.tasks.tolist()


def test_a_symptom_is_added_and_the_ticks_of_the_others_stay(
    services: Services, settings: Settings, trained: int
) -> None:
    state = Watched()
    look(services, trained, state)
    before = predictions(services, trained)
    assert any(audit["probabilities"] for _, audit in before.values())

    with_fifth = render().replace("</Choices>", '<Choice value="Consolidation"/></Choices>', 1)
    services.studio.update_project(trained, label_config=with_fifth)
    state.polled = float("-inf")
    look(services, trained, state)
    assert order(services, trained).about.symptoms[-1] == "Consolidation"
    assert services.studio.project(trained).model_version == order(services, trained).about.name
    assert predictions(services, trained) == before

    hook = LungUltrasoundModel(str(trained), with_fifth, services)
    tasks = [{"id": task.id, "data": task.data} for task in services.studio.tasks(trained, only_unlabelled=True)]
    assert {one["id"]: ticks_of(said) for one, said in zip(tasks, hook.predict(tasks), strict=True)} == {
        task: ticks for task, (ticks, _) in before.items()
    }

    # The next version learns the new symptom, and starts from the outputs of those that stay.
    configuration = Configuration.parse(with_fifth)
    first = services.versions(trained).newest()
    for task in order(services, trained).tasks[:2].tolist():
        labels = configuration.label_set.encode(["B-line", "Consolidation"])
        services.studio.submit(task, [choices_result(labels, configuration)])
    nobody_held_out = Services(settings.model_copy(update={"hold_out": 0.0}))
    second = training.fine_tune(nobody_held_out, trained, lambda stage, done, total: None)
    assert first is not None
    assert second.parent == first.version
    assert second.positives["Consolidation"] == 2
    look(services, trained, state)
    assert {name for _, audit in predictions(services, trained).values() for name in audit["probabilities"]} == set(
        configuration.label_names
    )


def test_a_symptom_is_removed_and_the_ticks_of_the_others_stay(services: Services, trained: int) -> None:
    state = Watched()
    look(services, trained, state)
    before = predictions(services, trained)
    without = render().replace('<Choice value="Pleural lesion"', '<Choice value="Another sign"')
    assert without != render()
    services.studio.update_project(trained, label_config=without)
    state.polled = float("-inf")
    look(services, trained, state)
    for task, (ticks, audit) in predictions(services, trained).items():
        ticks_before, audit_before = before[task]
        assert ticks == [name for name in ticks_before if name != "Pleural lesion"]
        assert set(audit["probabilities"]) == {"A-line", "B-line", "Pleural effusion"}
        assert audit["probabilities"].items() <= audit_before["probabilities"].items()


def test_another_version_in_label_studio_is_switched_back(services: Services, trained: int) -> None:
    look(services, trained, Watched())
    right = order(services, trained)
    services.studio.update_project(trained, model_version=f"{WORDS}diversity.1")
    look(services, trained, Watched())
    placed = order(services, trained)
    assert services.studio.project(trained).model_version == placed.about.name
    assert placed.about.version == right.about.version
    assert served(services, trained) == right.tasks.tolist()


def test_new_frames_join_when_a_webhook_announces_them(services: Services, trained: int) -> None:
    state = Watched()
    look(services, trained, state)
    new = add_frames(services, trained, 2)
    look(services, trained, state)
    assert not set(new) & set(order(services, trained).tasks.tolist()), "nobody told, and it is not time to poll"
    services.pending(trained).announce()
    look(services, trained, state)
    assert set(new) < set(order(services, trained).tasks.tolist())


def test_a_poll_finds_new_frames_by_itself(services: Services, trained: int) -> None:
    state = Watched()
    look(services, trained, state)
    new = add_frames(services, trained, 2)
    state.polled = float("-inf")
    look(services, trained, state)
    assert set(new) < set(order(services, trained).tasks.tolist())


def test_a_frame_whose_annotation_was_deleted_rejoins_the_queue(
    services: Services, trained: int, studio_server: StudioServer
) -> None:
    state = Watched()
    look(services, trained, state)
    annotation = services.studio.confirmed_annotations(trained)[0]
    assert annotation.task not in order(services, trained).tasks
    httpx.delete(
        f"{studio_server.url}/api/annotations/{annotation.id}/",
        headers={"Authorization": f"Token {studio_server.token}"},
    ).raise_for_status()
    state.polled = float("-inf")
    look(services, trained, state)
    assert annotation.task in order(services, trained).tasks


def test_a_corrected_patient_counts_from_the_next_refresh(services: Services, settings: Settings, empty: int) -> None:
    three_tenths = Services(settings.model_copy(update={"hold_out": 0.3, "audit": 0.0, "strategy": "adaptive"}))
    names = ["p1", "p2", "p3", "p4"]
    (held,) = [name for name, kept in zip(names, held_out(names, 0.3, settings.seed), strict=True) if kept]
    tasks = add_frames(services, empty, 4, names)

    def last() -> list[int]:
        placed = order(services, empty)
        reasons = zip(placed.tasks.tolist(), placed.reasons, strict=True)
        return [task for task, reason in reasons if reason == "held out"]

    look(three_tenths, empty, Watched())
    assert last() == [tasks[names.index(held)]]
    wrong = tasks[0 if held != "p1" else 1]
    data = next(task.data for task in services.studio.tasks(empty) if task.id == wrong)
    httpx.patch(
        f"{settings.label_studio_url}/api/tasks/{wrong}/",
        json={"data": {**data, "patient": held}},
        headers={"Authorization": f"Token {settings.token()}"},
    ).raise_for_status()
    ordering.refresh(three_tenths, empty, lambda stage, done, total: None)
    assert sorted(last()) == sorted([wrong, tasks[names.index(held)]])


def test_the_end_of_the_loop_is_logged_once(
    services: Services, settings: Settings, trained: int, caplog: pytest.LogCaptureFixture
) -> None:
    spent = Services(settings.model_copy(update={"annotation_budget": 2}))
    state = Watched()
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            state.polled = float("-inf")
            look(spent, trained, state)
    (told,) = events(caplog, "the loop has ended")
    assert "budget of 2" in told["reason"]


def test_a_poll_removes_old_orders_but_never_the_current_one(services: Services, project: int) -> None:
    state = Watched()
    names = []
    for _ in range(4):
        ordering.refresh(services, project, lambda stage, done, total: None)
        names.append(order(services, project).about.name)
    for _ in range(4):
        state.polled = float("-inf")
        look(services, project, state)
    assert sorted(services.studio.model_versions(project)) == names[-services.settings.keep_pushed :]
    assert services.studio.project(project).model_version == names[-1]


def test_a_deleted_project_is_retried_later_and_logged_once(
    services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    state, before = Watched(), time.monotonic()
    try_look(services, 999_999, state)
    assert state.again > before + services.settings.poll_seconds / 8
    state.again = float("inf")
    try_look(services, 999_999, state)  # too early: Label Studio is not asked
    state.again = float("-inf")
    try_look(services, 999_999, state)
    (told,) = events(caplog, "will try again")
    assert told["project"] == 999_999
    assert str(told["reason"]).startswith("StudioRefused")


def test_a_clock_that_is_set_back_is_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    offset = watch.log_clock_jump(time.time() - time.monotonic() + 1.0)
    assert caplog.messages == []
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 7200)
    offset = watch.log_clock_jump(offset)
    assert watch.log_clock_jump(offset) == pytest.approx(offset, abs=1)
    assert events(caplog, "the clock jumped") == [{"seconds": -7200}]


def test_waits_grow_with_each_failure_and_end_with_success(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise StudioUnavailable("Label Studio does not answer")

    poll = services.settings.poll_seconds
    state, waits = Watched(), []
    with monkeypatch.context() as broken:
        broken.setattr(watch, "look", fail)
        broken.setattr(time, "monotonic", lambda: 100.0)
        for _ in range(6):
            state.again = float("-inf")
            try_look(services, 1, state)
            waits.append((state.again - 100.0) / poll)
    np.testing.assert_allclose(waits, [0.25, 0.5, 1, 2, 2, 2])
    monkeypatch.setattr(watch, "look", lambda *_: None)
    state.again = float("-inf")
    try_look(services, 1, state)
    assert (state.failures, state.trouble) == (0, None)


def test_an_error_of_any_kind_costs_only_its_project(
    services: Services, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Services, project: int, state: Watched) -> None:
        looked.append(project)
        if project == 1:
            raise IndexError("list index out of range")

    looked: list[int] = []
    states = {1: Watched(), 2: Watched()}
    monkeypatch.setattr(watch, "look", fail)
    for _ in range(2):
        for project, state in states.items():
            state.again = float("-inf")
            try_look(services, project, state)
    assert looked == [1, 2, 1, 2]
    (told,) = events(caplog, "will try again")
    assert (told["project"], told["reason"]) == (1, "IndexError: list index out of range")
    assert str(told["at"]).endswith(f"commands/test_sidecar.py:{fail.__code__.co_firstlineno + 3}")
    assert states[2].trouble is None


def test_a_slow_project_keeps_no_other_waiting(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(_: Services, project: int, state: Watched) -> None:
        if project == 1:
            started.set()
            assert release.wait(60)
        elif started.wait(60):
            looked.append(project)
            if len(looked) == 3:
                release.set()
                os.kill(os.getpid(), signal.SIGTERM)

    started, release, looked = threading.Event(), threading.Event(), list[int]()
    monkeypatch.setattr(watch, "look", slow)
    monkeypatch.setattr(watch, "TICK_SECONDS", 0.01)
    (services.settings.data_dir / FILE).unlink(missing_ok=True)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        watch.watch(services, [1, 2])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert looked == [2, 2, 2]
    assert require_readable(services.settings.data_dir) == NOW  # an upgrade ends here


def test_a_data_folder_that_cannot_be_read_is_logged_once_and_known_projects_go_on(
    services: Services, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Services) -> list[int]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Services, "projects", fail)
    assert [watch.connected(services, [3]), watch.connected(services, [3])] == [[3], [3]]
    assert len(events(caplog, "data folder unreadable")) == 1


def test_a_webhook_that_was_switched_off_is_switched_on_again(
    services: Services, empty: int, caplog: pytest.LogCaptureFixture
) -> None:
    ours = services.studio.create_webhook(
        empty, f"{services.settings.backend_url}/webhook?project={empty}", ["ANNOTATION_CREATED"], {}
    )
    other = services.studio.create_webhook(empty, "http://127.0.0.1:5/webhook", ["ANNOTATION_CREATED"], {})
    for webhook in (ours, other):
        services.studio.update_webhook(webhook, is_active=False)
    state = Watched()
    look(services, empty, state)
    assert {one.id: one.is_active for one in services.studio.webhooks(empty)} == {ours: True, other: False}
    assert events(caplog, "webhook switched on again") == [{"project": empty, "webhook": ours}]


def test_corrections_in_an_empty_pool_are_trained_on_together_when_no_more_come(
    services: Services, settings: Settings, trained: int
) -> None:
    configuration = Configuration.parse(render())
    for task in list(services.studio.tasks(trained, only_unlabelled=True)):
        services.studio.submit(task.id, [choices_result(configuration.label_set.encode(["A-line"]), configuration)])
    training.fine_tune(services, trained, lambda stage, done, total: None)
    busy = Services(settings.model_copy(update={"k_max": 100}))
    state = Watched()
    look(busy, trained, state)
    for annotation in busy.studio.confirmed_annotations(trained)[:2]:
        busy.pending(trained).add({annotation.id: annotation.task})
        state.polled = float("-inf")
        look(busy, trained, state)
        assert jobs.queue(services).job_ids == []
    quiet = Services(settings.model_copy(update={"k_max": 100, "poll_seconds": 0.001}))
    look(quiet, trained, state)
    assert jobs.queue(services).job_ids == [f"finetune-{trained}-after-{services.versions(trained).active()}"]


def test_a_damaged_version_is_set_aside_at_the_next_look(
    services: Services, trained: int, caplog: pytest.LogCaptureFixture
) -> None:
    store = services.versions(trained)
    first = store.active()
    second = training.fine_tune(services, trained, lambda stage, done, total: None).version
    look(services, trained, Watched())
    tail = store.tail(second)
    tail.write_bytes(tail.read_bytes()[:1000])
    look(services, trained, Watched())
    assert (store.names(), store.active(), store.damaged()) == ([first], first, [second])
    assert order(services, trained).about.version == first
    (told,) = events(caplog, "version damaged")
    assert (told["project"], told["version"]) == (trained, second)


def test_a_failing_order_does_not_block_training(
    services: Services, trained: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    configuration = Configuration.parse(render())
    for task in list(services.studio.tasks(trained, only_unlabelled=True))[: services.settings.k_max]:
        labels = configuration.label_set.encode(["A-line"])
        services.studio.submit(task.id, [choices_result(labels, configuration)])
    state = Watched()
    with monkeypatch.context() as broken:
        broken.setattr(ordering, "refresh_if_needed", fail)
        try_look(services, trained, state)
    assert jobs.queue(services).job_ids == [f"finetune-{trained}-after-{services.versions(trained).active()}"]
    # Nothing new is told, and still it is tried again before the next poll.
    state.again = float("-inf")
    try_look(services, trained, state)
    assert order(services, trained).about.version == services.versions(trained).active()


def test_the_next_poll_fills_an_emptied_redis(services: Services, trained: int) -> None:
    configuration = Configuration.parse(render())
    (task, *_) = services.studio.tasks(trained, only_unlabelled=True)
    services.studio.submit(task.id, [choices_result(configuration.label_set.encode(["A-line"]), configuration)])
    state = Watched()
    look(services, trained, state)
    assert services.pending(trained).tasks() == {task.id}
    services.redis.flushall()
    state.polled = float("-inf")
    look(services, trained, state)
    assert services.pending(trained).tasks() == {task.id}


def test_a_full_disk_does_not_end_the_watch(services: Services, trained: int, caplog: pytest.LogCaptureFixture) -> None:
    look(services, trained, Watched())
    before = order(services, trained).about.name
    services.studio.update_project(trained, model_version=f"{WORDS}diversity.1")
    orders = services.folder(trained) / "orders"
    orders.rename(orders.with_name("away"))
    orders.touch()  # the folder can neither be written to nor made
    state = Watched()
    try_look(services, trained, state)
    assert events(caplog, "will try again")
    orders.unlink()
    orders.with_name("away").rename(orders)
    assert order(services, trained).about.name == before
    state.again = float("-inf")
    try_look(services, trained, state)
    assert order(services, trained).about.name != before
    assert state.trouble is None
