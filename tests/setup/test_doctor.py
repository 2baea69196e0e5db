"""The doctor before a real Label Studio and a real Redis, with one real fault at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rq import Worker
from rq.serializers import JSONSerializer

from ml_backend.__main__ import main
from ml_backend.launch.processes import free_port
from ml_backend.launch.serve import environment
from ml_backend.loop import jobs
from ml_backend.services import Services
from ml_backend.settings import Settings
from ml_backend.setup.address import from_label_studio
from ml_backend.setup.connect import connect
from ml_backend.setup.doctor import findings
from ml_backend.setup.label_configuration import render
from ml_backend.setup.project import rights
from ml_backend.store import heartbeat
from ml_backend.store.parked import Parked
from ml_backend.studio.client import Studio
from tests.installation import manifest_of, write_no_weights
from tests.setup.test_connect import backend, dump, project, served, services, settings
from tests.studio.site import running_site
from tests.studio_server import StudioServer, executable, running_studio

__all__ = ["backend", "dump", "project", "services", "settings"]


@pytest.fixture
def installation(
    settings: Settings, project: int, redis_url: str, studio_server: StudioServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Services]:
    """A connected project with a frame, a backend, a worker that is registered, and a sidecar that was alive now."""
    whole = settings.model_copy(update={"redis_url": redis_url, "evidence": False})  # no panel, no notes
    for name, value in environment(whole).items():
        monkeypatch.setenv(name, value)
    there = Services(whole)
    frame = studio_server.files / "doctor.png"
    frame.write_bytes(PIXEL)
    data = {"image": "/data/local-files/?d=doctor.png", "patient": "P1", "clip": "one", "time": 0.0, "caption": "P1"}
    there.studio.import_tasks(project, [data])
    worker = Worker([there.queue(jobs.QUEUE)], connection=there.redis, serializer=JSONSerializer)
    worker.register_birth()
    heartbeat.beat(lambda: there.redis, heartbeat.SIDECAR)
    with served(whole):
        connect(there, project, lambda line: None)
        yield there
    worker.register_death()


PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010800000000" + "3a7e9b55"
    "0000000a49444154789c63600000000200015de8d4a5" + "0000000049454e44ae426082"
)


def code(*arguments: str) -> object:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", *arguments])
    return ended.value.code


def changes(only: int | None = None) -> set[str]:
    """What has to be changed, by subject."""
    return {finding.subject for finding in findings(only) if finding.state == "change"}


def test_a_complete_installation_passes_and_stays_unchanged(
    installation: Services, project: int, dump: Callable[[int], dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    before = dump(project)
    found = list(findings())
    assert [finding for finding in found if finding.state != "ok"] == []
    assert {finding.subject for finding in found} >= {
        *("settings", "disk", "redis", "worker", "sidecar", "model", "backend from here", "sdk"),
        *("label studio version", "project", "symptoms", "backend from Label Studio", "webhook", "frames"),
        *("right to predict", "data keys", "answers"),
    }
    assert dump(project) == before
    heartbeat.beat(lambda: installation.redis, heartbeat.SIDECAR)  # on a busy machine a minute has passed
    assert code("--project", str(project)) == 0
    assert all(line.startswith("ok ") for line in capsys.readouterr().out.splitlines())


def test_an_invalid_setting_is_the_only_finding(installation: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSAL_K_MAX", "none")
    assert [(finding.subject, finding.state) for finding in findings()] == [("settings", "change")]
    assert code() == 1


def test_a_wrong_token_is_found(installation: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSAL_LABEL_STUDIO_TOKEN", "1" * 40)
    assert changes() == {"label studio"}


def test_an_unreachable_label_studio_is_found(installation: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSAL_LABEL_STUDIO_URL", f"http://127.0.0.1:{free_port()}")
    assert changes() == {"label studio"}


def test_an_unknown_project_is_found(installation: Services) -> None:
    assert changes(999999) == {"project"}


def test_missing_weights_are_found(installation: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSAL_WEIGHTS", "/nonexistent")
    assert changes() == {"model"}


def test_an_unreachable_redis_is_found(installation: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSAL_REDIS_URL", f"redis://127.0.0.1:{free_port()}")
    assert changes() == {"redis"}


def test_an_absent_worker_and_sidecar_are_found(installation: Services) -> None:
    for worker in Worker.all(connection=installation.redis):
        worker.register_death()
    installation.redis.delete("tsal:alive:sidecar")
    assert changes() == {"worker", "sidecar"}


def test_a_switched_off_and_a_changed_webhook_are_found(installation: Services, project: int) -> None:
    (webhook,) = installation.studio.webhooks(project)
    actions = list(webhook.actions)
    installation.studio.update_webhook(webhook.id, actions=actions, is_active=False)
    assert changes() == {"webhook"}
    installation.studio.update_webhook(webhook.id, actions=actions, is_active=True, headers={"X-TSAL-Secret": "old"})
    assert changes() == {"webhook"}
    installation.studio.delete_webhook(webhook.id)
    assert changes() == {"webhook"}
    assert webhook.url == f"{installation.settings.backend_url}/webhook?project={project}"


def test_a_project_whose_queue_does_not_work_is_found(installation: Services, project: int, tmp_path: Path) -> None:
    studio, settings = installation.studio, installation.settings
    studio.update_project(project, sampling="Sequential sampling", show_collab_predictions=False, maximum_annotations=3)
    (ours,) = studio.backends(project)
    studio.delete_backend(ours.id)
    other = settings.model_copy(update={"port": free_port(), "data_dir": tmp_path / "other"})
    with served(other):
        studio.create_backend(project, f"http://127.0.0.1:{other.port}", "Another", "label-studio", "frames")
    studio.create_backend(project, settings.backend_url, "Ours", "label-studio", "frames")
    installation.folder(project).rename(tmp_path / "elsewhere")
    found = [finding for finding in findings(project) if finding.state == "change"]
    assert {finding.subject for finding in found} >= {
        *("sampling", "show_collab_predictions", "annotations per task", "first backend", "sidecar's list")
    }
    for finding in found:
        assert (finding.mend is not None) == finding.text.endswith(f": run `tsal connect --project {project}`")
    assert studio.project(project).sampling == "Sequential sampling"


def test_a_parked_fine_tune_is_found(installation: Services, project: int) -> None:
    parked = Parked(
        parent=None, active=None, reason="all frames are alike", at="2026-01-02T03:04", tried={}, settings=""
    )
    installation.parked(project).put(parked)
    (found,) = [finding for finding in findings() if finding.state != "ok"]
    assert (found.subject, found.state) == ("parked", "change")
    assert "all frames are alike" in found.text


def test_a_backend_with_other_secrets_is_found(installation: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSAL_WEBHOOK_SECRET", "another")
    assert "secrets" in changes()


def test_a_user_who_may_read_but_not_write_is_found() -> None:
    """The stand-in refuses, because Label Studio's community edition knows no user who may only read."""
    with running_site() as site:
        site.says("/api/projects/7/import/predictions", {"detail": "You do not have permission."}, 403)
        (found,) = rights(Studio(site.url, "0" * 40), 7)
    assert (found.subject, found.state) == ("right to predict", "change")
    assert "may not create predictions" in found.text
    assert "You do not have permission." in found.text


def test_a_damaged_version_is_found(installation: Services, project: int) -> None:
    store = installation.versions(project)
    version = store.create(manifest_of(1, project=project), write_no_weights).version
    (store.tail(version).parent / "manifest.json").write_text("{}")
    assert list(store.set_aside_damaged()) == [version]
    (found,) = [finding for finding in findings() if finding.state == "change"]
    assert found.subject == "versions"
    assert f"version {version} was damaged and set aside" in found.text


def test_a_doubtful_healthy_label_is_found_until_a_setting_names_it(
    installation: Services, project: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    xml = render().replace("</Choices>", '<Choice value="Normal lung"/></Choices>').replace("A-line", "Thick pleura")
    installation.studio.update_project(project, label_config=xml)
    (found,) = [finding for finding in findings() if finding.state == "change"]
    assert found.subject == "healthy label"
    assert "TSAL_HEALTHY_LABEL='Normal lung'" in found.text
    monkeypatch.setenv("TSAL_HEALTHY_LABEL", "Normal lung")
    assert changes() == set()


def test_a_stopped_backend_is_found_from_both_sides(
    settings: Settings, project: int, monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    for name, value in environment(settings.model_copy(update={"redis_url": redis_url})).items():
        monkeypatch.setenv(name, value)
    with served(settings):
        connect(Services(settings), project, lambda line: None)
    assert changes() >= {"backend from here", "backend from Label Studio"}


def test_a_backend_that_is_not_registered_is_found_and_tried(
    settings: Settings, project: int, backend: None, monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    for name, value in environment(settings.model_copy(update={"redis_url": redis_url})).items():
        monkeypatch.setenv(name, value)
    found = {finding.subject: finding.state for finding in findings(project)}
    assert found["backend registered"] == "change"
    assert found["backend from Label Studio"] == "ok"
    assert Services(settings).studio.backends(project) == []


def test_an_address_that_label_studio_refuses_is_known_without_trying(
    settings: Settings, backend: None, tmp_path: Path
) -> None:
    program = executable()
    if program is None:
        pytest.skip("no Label Studio is installed")
    stock = {"SSRF_PROTECTION_ENABLED": "true", "ML_BLOCK_LOCAL_IP": "true"}
    with running_studio(program, tmp_path / "studio", stock) as server:
        studio = Studio(server.url, server.token)
        number = studio.create_project("Stock", "<View></View>")
        found = from_label_studio(studio, number, settings.backend_url)
        assert found.state == "change"
        assert "refuses the address" in found.text
        assert studio.backends(number) == []
        assert studio.webhooks(number) == []
