"""What /health says about Label Studio, the disk and the model, and that nobody waits for it."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import namedtuple
from pathlib import Path

import pytest

from ml_backend.errors import StudioRefused, StudioUnavailable, WeightsUnavailable
from ml_backend.services import Services
from ml_backend.studio.client import Studio
from ml_backend.web import health
from ml_backend.web.app import create_app
from ml_backend.web.health import Health
from tests.installation import settings_in
from tests.studio_server import StudioServer

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return Services(settings_in(tmp_path))


def looked(looker: Health) -> dict[str, str]:
    """What is known once the look that this begins has ended."""
    looker.known(reasons=True)
    for thread in [one for one in threading.enumerate() if one.name == "health"]:
        thread.join(30)
    return looker.known(reasons=True)


def test_label_studio_is_up_if_it_accepts_the_token(tmp_path: Path, studio_server: StudioServer) -> None:
    settings = settings_in(tmp_path, label_studio_url=studio_server.url, label_studio_token=studio_server.token)
    assert looked(Health(Services(settings))) == {"label_studio": "UP", "disk": "UP", "model": "UP"}
    wrong = settings_in(tmp_path, label_studio_url=studio_server.url, label_studio_token="0" * 40)
    assert looked(Health(Services(wrong)))["label_studio"] == "REFUSED"


def test_the_backend_is_up_while_label_studio_is_down(services: Services) -> None:
    client = create_app(services.settings).test_client()
    first = client.get("/health")
    assert (first.status_code, first.get_json()["label_studio"]) == (200, "UNKNOWN")
    for thread in [one for one in threading.enumerate() if one.name == "health"]:
        thread.join(30)
    second = client.get("/health")
    assert (second.status_code, second.get_json()["status"]) == (200, "UP")
    assert (second.get_json()["label_studio"], second.get_json()["disk"]) == ("DOWN", "UP")
    assert client.get("/").get_json()["label_studio"] == "DOWN"


def test_a_full_disk_is_reported(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 10**12 - 1, 1))
    assert looked(Health(services))["disk"] == "FULL"


def test_a_read_only_folder_is_reported(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    # As root everything can be written, so the system's answer is made up.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert looked(Health(services))["disk"] == "READ ONLY"


def test_nobody_waits_and_only_one_check_runs_at_a_time(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []
    answer = threading.Event()

    def me() -> None:
        looks.append("look")
        assert answer.wait(30)
        raise StudioUnavailable("Label Studio does not answer")

    monkeypatch.setattr(Studio, "me", lambda _: me())
    looker = Health(services)
    for _ in range(5):
        assert looker.known(reasons=True) == {"label_studio": "UNKNOWN", "disk": "UNKNOWN", "model": "UNKNOWN"}
    answer.set()
    assert looked(looker)["label_studio"] == "DOWN"
    assert looks == ["look"]
    # A later one, when what is known is old.
    monkeypatch.setattr(looker, "_looked", time.monotonic() - health.SECONDS - 1)
    assert looked(looker)["label_studio"] == "DOWN"
    assert len(looks) == 2


def test_a_refusal_names_no_secret(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    def me() -> None:
        raise StudioRefused("the token token-of-the-tests is not known")

    monkeypatch.setattr(Studio, "me", lambda _: me())
    assert looked(Health(services)) == {"label_studio": "REFUSED", "disk": "UP", "model": "UP"}


def test_a_disk_that_does_not_answer_is_down(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: object) -> None:
        raise OSError("input/output error")

    monkeypatch.setattr(shutil, "disk_usage", broken)
    assert looked(Health(services)) == {"label_studio": "DOWN", "disk": "DOWN", "model": "UP"}


def test_a_hanging_check_makes_the_last_result_stale(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    looker = Health(services)
    assert looked(looker)["disk"] == "UP"
    answer = threading.Event()
    monkeypatch.setattr(Studio, "me", lambda _: answer.wait(30))
    monkeypatch.setattr(looker, "_looked", time.monotonic() - 3 * health.SECONDS)
    assert looker.known(reasons=True)["disk"] == "UP"  # the look has only begun
    monkeypatch.setattr(looker, "_begun", time.monotonic() - health.SECONDS - 1)
    assert looker.known(reasons=True) == {"label_studio": "UNKNOWN", "disk": "UNKNOWN", "model": "UNKNOWN"}
    answer.set()
    assert looked(looker) == {"label_studio": "UP", "disk": "UP", "model": "UP"}


def test_a_model_that_cannot_be_built_is_reported_until_it_can(tmp_path: Path) -> None:
    broken = Services(settings_in(tmp_path, weights=str(tmp_path / "missing.pth")))
    with pytest.raises(WeightsUnavailable) as caught:
        broken.predictor.network(3)
    # Another process of the same installation, as the backend is when a worker fails.
    state = looked(Health(Services(settings_in(tmp_path))))["model"]
    assert state == f"CANNOT BE BUILT ({caught.value})"
    assert "missing.pth" in state
    # Only those who have the secrets learn where files lie.
    client = create_app(settings_in(tmp_path, basic_auth_user="lead", basic_auth_password="secret")).test_client()
    assert client.get("/health").status_code == 200
    for thread in [one for one in threading.enumerate() if one.name == "health"]:
        thread.join(30)
    assert client.get("/health").get_json()["model"] == "CANNOT BE BUILT"
    assert client.get("/health", auth=("lead", "guess")).get_json()["model"] == "CANNOT BE BUILT"
    assert client.get("/health", auth=("lead", "secret")).get_json()["model"] == state
    mended = Services(settings_in(tmp_path, weights="random"))
    mended.predictor.network(3)
    assert looked(Health(mended))["model"] == "UP"
