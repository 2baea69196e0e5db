from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from werkzeug.serving import make_server

from ml_backend.errors import ConfigurationUnusable, SettingsError, StudioRefused
from ml_backend.launch.processes import free_port
from ml_backend.services import Services
from ml_backend.settings import Settings, load
from ml_backend.setup.address import from_here, from_label_studio
from ml_backend.setup.checks import ACTIONS
from ml_backend.setup.connect import connect
from ml_backend.setup.label_configuration import render
from ml_backend.setup.project import answers, data_keys
from ml_backend.store.format import NOW, require_readable
from ml_backend.store.orders import About, Order
from ml_backend.studio.client import Studio
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.keys import CAPTION
from ml_backend.studio.payloads import choices_result
from ml_backend.web.app import create_app
from tests.installation import connected_settings, exit_code, one_line
from tests.studio_server import StudioServer

SECRET = {"X-TSAL-Secret": "phantom"}
SINGLE_CHOICE = (
    '<View><Image name="image" value="$image"/><Choices name="symptoms" toName="image" choice="single">'
    '<Choice value="A-line"/><Choice value="B-line"/></Choices></View>'
)


@contextmanager
def answering(port: int, app: Callable[..., Any]) -> Iterator[None]:
    """Serve a WSGI app on this machine."""
    server = make_server("127.0.0.1", port, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def served(settings: Settings) -> Iterator[None]:
    """Run the backend, listening where the settings say."""
    with answering(settings.port, create_app(settings)):
        yield


@pytest.fixture
def settings(studio_server: StudioServer, tmp_path: Path) -> Settings:
    return connected_settings(studio_server, tmp_path)


@pytest.fixture
def services(settings: Settings) -> Services:
    return Services(settings)


@pytest.fixture
def backend(settings: Settings) -> Iterator[None]:
    with served(settings):
        yield


@pytest.fixture
def project(services: Services) -> int:
    return services.studio.create_project("Fresh", render())


@pytest.fixture
def dump(studio_server: StudioServer) -> Iterator[Callable[[int], dict[str, Any]]]:
    """Everything of a project that `connect` could change, as Label Studio's API shows it."""
    with httpx.Client(
        base_url=studio_server.url, headers={"Authorization": f"Token {studio_server.token}"}, timeout=60
    ) as api:

        def read(project: int) -> dict[str, Any]:
            pages = {
                "project": f"/api/projects/{project}/",
                "webhooks": f"/api/webhooks/?project={project}",
                "backends": f"/api/ml?project={project}",
                "storages": f"/api/storages/localfiles?project={project}",
                "views": f"/api/dm/views?project={project}",
                "predictions": f"/api/predictions/?project={project}",
            }
            found = {name: api.get(page).raise_for_status().json() for name, page in pages.items()}
            for one in found["backends"]:
                del one["updated_at"]  # Label Studio sets it when it is asked for the list
            return found

        yield read


def said(services: Services, project: int, dry_run: bool = False) -> list[str]:
    lines: list[str] = []
    connect(services, project, lines.append, dry_run=dry_run)
    return lines


def first_words(lines: list[str]) -> set[str]:
    return {line.split()[0] for line in lines}


def pushed(services: Services, project: int) -> str:
    """Push an order and make it the one in force, as the sidecar does."""
    data = {"image": "/data/local-files/?d=none.png", "patient": "P1", "clip": "one", "time": 0.0}
    (task,) = services.studio.import_tasks(project, [data])
    name = "diversity.1"
    about = About(name=name, version=None, strategy="diversity", created_at="", seed=0, unreadable={}, seconds={})
    services.orders(project).save(Order(about, np.array([task]), np.array([0.0])))
    services.orders(project).activate(name)
    services.studio.import_predictions(project, [{"task": task, "model_version": name, "score": 0.0, "result": []}])
    return name


@pytest.mark.usefixtures("backend")
def test_a_fresh_project_is_connected(services: Services, settings: Settings, project: int) -> None:
    lines = said(services, project)
    assert require_readable(settings.data_dir) == NOW
    assert [line for line in lines if line.startswith("change")] == [
        f"change   register the backend {settings.backend_url}",
        f"change   remove the webhook {settings.backend_url}/webhook that Label Studio made",
        f"change   add the webhook {settings.backend_url}/webhook?project={project}",
        "change   set sampling to Uncertainty sampling (it is Sequential sampling)",
        f"change   let the sidecar watch the project ({services.folder(project)})",
        *(
            f"change   add the Data Manager's tab 'tsal: {title}'"
            for title in ("next in the queue", "least sure", "accepted unseen", "by clip")
        ),
    ]
    assert any(line.startswith("missing  the project has no frames") for line in lines)
    assert any("symptoms: B-line, Pleural lesion, Pleural effusion; healthy: A-line" in line for line in lines)

    (registered,) = services.studio.backends(project)
    assert (registered.url, registered.state) == (settings.backend_url, "CO")
    assert registered.basic_auth_user == "label-studio"
    (webhook,) = services.studio.webhooks(project)
    assert webhook.url == f"{settings.backend_url}/webhook?project={project}"
    assert (webhook.headers, webhook.actions) == (SECRET, tuple(sorted(ACTIONS)))
    assert (webhook.is_active, webhook.send_payload, webhook.send_for_all_actions) == (True, True, False)
    assert services.studio.project(project).sampling == "Uncertainty sampling"
    assert services.projects() == [project]


@pytest.mark.usefixtures("backend")
def test_a_second_time_changes_nothing(services: Services, project: int, dump: Callable[[int], dict[str, Any]]) -> None:
    said(services, project)
    pushed(services, project)
    said(services, project)
    before = dump(project)
    lines = said(services, project)
    assert first_words(lines) - {"note"} == {"ok", "missing"}
    assert [line for line in lines if line.startswith("missing")] == [
        line for line in lines if "cannot be read" in line
    ]
    assert dump(project) == before


@pytest.mark.usefixtures("backend")
def test_a_dry_run_says_the_same_and_changes_nothing(
    services: Services, project: int, dump: Callable[[int], dict[str, Any]]
) -> None:
    before = dump(project)
    lines = said(services, project, dry_run=True)
    assert dump(project) == before
    assert services.projects() == []
    really = [line for line in said(services, project) if "that Label Studio made" not in line]
    assert [line.replace("would   ", "change  ") for line in lines] == really


@pytest.mark.usefixtures("backend")
def test_the_order_in_force_is_served_again(services: Services, project: int) -> None:
    said(services, project)
    assert services.studio.project(project).model_version == "Lung ultrasound annotator", "Label Studio set it"
    name = pushed(services, project)
    services.studio.update_project(project, sampling="Sequential sampling")
    assert [line for line in said(services, project) if line.startswith("change")] == [
        "change   set sampling to Uncertainty sampling (it is Sequential sampling)",
        f"change   set model_version to {name} (it is Lung ultrasound annotator)",
    ]
    assert services.studio.project(project).model_version == name


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize(
    "wrong",
    [
        {"headers": {"X-TSAL-Secret": "old"}},
        {"headers": {}},
        {"actions": ["ANNOTATION_CREATED"]},
        {"is_active": False},
        {"send_payload": False},
        {"send_for_all_actions": True},
    ],
    ids=str,
)
def test_a_wrong_webhook_is_corrected(services: Services, project: int, wrong: dict[str, Any]) -> None:
    said(services, project)
    (right,) = services.studio.webhooks(project)
    # Label Studio forgets the actions that a change does not name.
    services.studio.update_webhook(right.id, **{"actions": list(ACTIONS), **wrong})
    assert services.studio.webhooks(project) != [right]
    lines = said(services, project)
    assert [line for line in lines if line.startswith("change")] == [
        f"change   correct the webhook {right.url}: {next(iter(wrong))}"
    ]
    assert services.studio.webhooks(project) == [right]


@pytest.mark.usefixtures("backend")
def test_other_webhooks_of_the_backend_go_and_those_of_others_stay(
    services: Services, settings: Settings, project: int
) -> None:
    said(services, project)
    (ours,) = services.studio.webhooks(project)
    others = {
        url: services.studio.create_webhook(project, url, ["TASKS_CREATED"], {})
        for url in (f"{settings.backend_url}/webhook", ours.url, "http://127.0.0.1:1/webhook")
    }
    lines = said(services, project)
    assert sum(line.startswith("change   remove the webhook") for line in lines) == 2
    left = {webhook.id: webhook for webhook in services.studio.webhooks(project)}
    assert left.keys() == {ours.id, others["http://127.0.0.1:1/webhook"]}
    assert left[ours.id] == ours


@pytest.mark.usefixtures("backend")
def test_another_backend_in_the_first_place_is_reported(
    services: Services, settings: Settings, project: int, tmp_path: Path
) -> None:
    other = settings.model_copy(update={"port": free_port(), "data_dir": tmp_path / "other"})
    url = f"http://127.0.0.1:{other.port}"
    with served(other):
        services.studio.create_backend(project, url, "Another", "label-studio", "frames")
        lines = said(services, project)
    assert any(line.startswith("missing") and url in line for line in lines)


def test_a_backend_that_does_not_answer_is_reported(services: Services, settings: Settings, project: int) -> None:
    with pytest.raises(StudioRefused, match=r"tsal serve.*USE_DEFAULT_BANNED_SUBNETS") as refused:
        said(services, project)
    assert settings.backend_url in str(refused.value)
    assert "\n" not in str(refused.value)
    assert services.studio.backends(project) == []


def test_a_registered_backend_that_does_not_answer_is_reported_until_it_does(
    services: Services, settings: Settings, project: int
) -> None:
    with served(settings):
        said(services, project)
    with pytest.raises(StudioRefused, match="tsal serve"):
        said(services, project)
    with served(settings):
        assert first_words(said(services, project)) - {"note"} == {"ok", "missing"}


@pytest.mark.parametrize(
    "new",
    [
        {"basic_auth_user": "another"},
        {"basic_auth_password": "another"},
        {"basic_auth_user": None, "basic_auth_password": None},
    ],
    ids=str,
)
def test_a_new_user_or_password_is_registered_in_label_studio(
    settings: Settings, project: int, new: dict[str, str | None]
) -> None:
    with served(settings):
        said(Services(settings), project)
    changed = load(**{**settings.model_dump(), **new})
    services = Services(changed)
    with served(changed):
        lines = said(services, project)
        assert sum(line.startswith("change") for line in lines) == 1
        (registered,) = services.studio.backends(project)
        assert (registered.state, registered.basic_auth_user) == ("CO", changed.basic_auth_user)
        assert first_words(said(services, project)) - {"note"} == {"ok", "missing"}


def test_the_needs_of_the_start_training_button_are_reported(settings: Settings, project: int) -> None:
    open_to_all = settings.model_copy(update={"basic_auth_user": None, "basic_auth_password": None})
    with served(open_to_all):
        lines = said(Services(open_to_all), project)
    assert any("Start Training" in line and "TSAL_BASIC_AUTH_USER" in line for line in lines)


@pytest.mark.usefixtures("backend")
def test_unreadable_frames_are_reported(
    services: Services, settings: Settings, project: int, studio_server: StudioServer
) -> None:
    folder = studio_server.files / f"connect-{project}"
    folder.mkdir()
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(folder / "frame.png")
    services.studio.import_tasks(project, [{"image": f"/data/local-files/?d=connect-{project}/frame.png"}])
    assert any(line.startswith("ok       frames can be read") for line in said(services, project))
    # Read through Label Studio, which serves a folder only where a storage covers it.
    elsewhere = Services(settings.model_copy(update={"document_root": None}))
    assert any(line.startswith("missing") and "cannot be read" in line for line in said(elsewhere, project))
    services.studio.create_local_storage(project, str(folder), "Frames")
    assert any(line.startswith("ok       frames can be read") for line in said(elsewhere, project))


@pytest.mark.usefixtures("backend")
def test_second_annotations_are_reported(services: Services, project: int) -> None:
    services.studio.update_project(project, maximum_annotations=2)
    assert any(line.startswith("missing  Annotations per task is 2") for line in said(services, project))


@pytest.mark.usefixtures("backend")
def test_a_configuration_that_cannot_be_used_is_refused_before_anything_is_changed(
    services: Services, dump: Callable[[int], dict[str, Any]]
) -> None:
    project = services.studio.create_project("Single", SINGLE_CHOICE)
    before = dump(project)
    with pytest.raises(ConfigurationUnusable, match='choice="multiple"'):
        said(services, project)
    assert dump(project) == before
    assert services.projects() == []


@pytest.mark.usefixtures("backend")
def test_a_host_without_a_dot_is_refused(
    settings: Settings, project: int, dump: Callable[[int], dict[str, Any]]
) -> None:
    before = dump(project)
    dotless = Services(settings.model_copy(update={"backend_url": f"http://backend:{settings.port}"}))
    with pytest.raises(SettingsError, match="without a dot: set TSAL_BACKEND_URL"):
        said(dotless, project)
    assert dump(project) == before


# The command


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> pytest.MonkeyPatch:
    monkeypatch.setenv("TSAL_LABEL_STUDIO_URL", settings.label_studio_url)
    monkeypatch.setenv("TSAL_LABEL_STUDIO_TOKEN", settings.token())
    monkeypatch.setenv("TSAL_BACKEND_URL", settings.backend_url)
    monkeypatch.setenv("TSAL_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("TSAL_BACKBONE", settings.backbone)
    monkeypatch.setenv("TSAL_BASIC_AUTH_USER", "label-studio")
    monkeypatch.setenv("TSAL_BASIC_AUTH_PASSWORD", "frames")
    return monkeypatch


@pytest.mark.usefixtures("backend", "environment")
def test_the_command_connects(services: Services, project: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("connect", "--project", str(project), "--dry-run") == 0
    assert "would    register the backend" in capsys.readouterr().out
    assert services.studio.backends(project) == []
    assert exit_code("connect", "--project", str(project)) == 0
    assert "change   register the backend" in capsys.readouterr().out
    assert len(services.studio.backends(project)) == 1


def test_the_command_names_a_missing_token(environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    environment.delenv("TSAL_LABEL_STUDIO_TOKEN")
    assert exit_code("connect", "--project", "1") == 2
    assert "TSAL_LABEL_STUDIO_TOKEN" in one_line(capsys)


@pytest.mark.usefixtures("environment")
def test_the_command_names_an_unreachable_backend(project: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("connect", "--project", str(project)) == 5
    assert "tsal serve" in one_line(capsys)


@pytest.mark.usefixtures("environment")
def test_the_command_names_a_configuration_that_cannot_be_used(
    services: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    project = services.studio.create_project("Single", SINGLE_CHOICE)
    assert exit_code("connect", "--project", str(project)) == 2
    assert 'choice="multiple"' in one_line(capsys)


def test_no_line_shows_the_token(services: Services, settings: Settings, project: int, backend: None) -> None:
    for line in said(services, project):
        assert settings.token() not in line
        assert "phantom" not in line
    assert isinstance(services.studio, Studio)


@pytest.mark.usefixtures("backend")
def test_answers_count_until_the_first_version(services: Services, project: int) -> None:
    configuration = Configuration.parse(services.studio.project(project).label_config)
    tasks = services.studio.import_tasks(project, [{"image": f"/data/{n}.png", "patient": "P1"} for n in range(3)])
    services.studio.submit(tasks[0], [choices_result(np.array([1, 0, 0, 0], np.uint8), configuration)], lead_time=1.0)
    found = list(answers(services, project, configuration))
    assert [finding.subject for finding in found] == ["answers"]
    assert "1 frames are annotated, 1 of them" in found[0].text
    assert "99 more" in found[0].text


@pytest.mark.usefixtures("backend")
def test_missing_data_keys_are_reported_with_the_keys_that_are_there(services: Services, project: int) -> None:
    tasks: list[dict[str, Any]] = [
        {"image": "/data/1.png", "pat": "P1", "clip": "one"},
        {"image": "/data/2.png", "clip": "", "time": 0},
    ]
    services.studio.import_tasks(project, tasks)
    found = list(data_keys(services, project, Configuration.parse(render())))
    states = {(finding.text.split(" (key ")[0], finding.state) for finding in found}
    assert ("0 of 2 tasks name a patient", "change") in states
    assert ("1 of 2 tasks name a clip", "note") in states
    assert ("1 of 2 tasks name a time", "note") in states
    assert any("image, pat" in finding.text for finding in found)
    assert [(finding.state, finding.text[:6]) for finding in found if finding.subject == CAPTION] == [
        ("note", "0 of 2")
    ]


def test_only_a_model_that_cannot_be_built_is_wrong_with_a_backend(settings: Settings) -> None:
    def told_by_a_backend(model: str) -> str:
        def answer(_: object, respond: Callable[..., object]) -> list[bytes]:
            respond("200 OK", [("Content-Type", "application/json")])
            return [json.dumps({"model_class": "LungUltrasoundModel", "model": model}).encode()]

        with answering(settings.port, answer):
            return from_here(settings).state

    states = [told_by_a_backend(model) for model in ("UP", "UNKNOWN", "CANNOT BE BUILT (no weights)")]
    assert states == ["ok", "ok", "change"]


def test_a_dry_run_says_that_no_backend_answers(services: Services, project: int) -> None:
    lines = said(services, project, dry_run=True)
    assert sum(line.startswith("missing  no backend answers at") for line in lines) == 1
    assert sum(line.startswith("missing  Label Studio cannot reach") for line in lines) == 1
    assert services.studio.backends(project) == []


@pytest.mark.usefixtures("backend")
def test_a_model_that_cannot_be_built_is_reported(settings: Settings, project: int) -> None:
    without = Services(settings.model_copy(update={"weights": "/nonexistent"}))
    assert any(
        line.startswith("missing  the model cannot be built") and "efficientnet_lite0" in line
        for line in said(without, project)
    )


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"webhook_secret": "another"}, "TSAL_WEBHOOK_SECRET"),
        ({"basic_auth_password": "another"}, "TSAL_BASIC_AUTH_USER and TSAL_BASIC_AUTH_PASSWORD"),
        ({"basic_auth_user": "another"}, "TSAL_BASIC_AUTH_USER and TSAL_BASIC_AUTH_PASSWORD"),
    ],
    ids=str,
)
def test_a_backend_with_other_secrets_is_found(settings: Settings, other: dict[str, str], named: str) -> None:
    with served(settings):
        assert from_here(settings).state == "ok"
        found = from_here(load(**{**settings.model_dump(), **other}))
    assert (found.subject, found.state) == ("secrets", "change")
    assert found.text.startswith(f"the backend was started with other secrets: {named} must be")


def test_a_dry_run_says_that_the_backend_has_other_secrets(settings: Settings, project: int) -> None:
    with served(settings):
        other = load(**{**settings.model_dump(), "webhook_secret": "another"})
        lines = said(Services(other), project, dry_run=True)
    assert [line for line in lines if line.startswith("missing  the backend was started with other secrets")]


@pytest.mark.parametrize("status", ["502 Bad Gateway", "503 Service Unavailable", "401 Unauthorized", "200 OK"])
def test_a_proxy_that_answers_in_the_backends_place_does_not_count_as_reached(
    services: Services, settings: Settings, project: int, status: str
) -> None:
    def answer(_: object, respond: Callable[..., object]) -> list[bytes]:
        respond(status, [("Content-Type", "text/html")])
        return [b"a proxy's page"]

    with answering(settings.port, answer):
        found = from_label_studio(services.studio, project, settings.backend_url)
    assert found.state == "change"
    assert "cannot reach" in found.text
    assert services.studio.backends(project) == []


def test_our_backend_counts_as_reached(services: Services, settings: Settings, project: int) -> None:
    with served(settings):
        assert from_label_studio(services.studio, project, settings.backend_url).state == "ok"
    assert services.studio.backends(project) == []
