from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import psutil  # type: ignore[import-untyped]
import pytest
from pydantic import SecretStr

from ml_backend.__main__ import main
from ml_backend.launch import serve
from ml_backend.launch.processes import Child, Processes, embedded_redis, free_port
from ml_backend.settings import Settings, load
from tests.installation import exit_code

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Settings that work, of a Label Studio that is not there."""
    for name in [name for name in os.environ if name.startswith("TSAL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TSAL_LABEL_STUDIO_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("TSAL_LABEL_STUDIO_TOKEN", TOKEN)
    monkeypatch.setenv("TSAL_PORT", str(free_port()))
    monkeypatch.setenv("TSAL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("TSAL_BACKBONE", "efficientnet_lite0")
    monkeypatch.setattr(serve, "keep_running", lambda processes: pytest.fail("everything was started"))
    return monkeypatch


def refused(capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and the one line of an error; nothing may have been started."""
    resource_tracker.ensure_running()  # Python's own helper, which stays once a process was started aside
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    with pytest.raises(SystemExit) as ended:
        main(["serve"])
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before
    output = capsys.readouterr()
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1
    assert isinstance(ended.value.code, int)
    return ended.value.code, output.err


def test_without_a_token_nothing_starts(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    environment.delenv("TSAL_LABEL_STUDIO_TOKEN")
    code, error = refused(capsys)
    assert code == 2
    assert "TSAL_LABEL_STUDIO_TOKEN" in error
    assert not (tmp_path / "data").exists()


def test_other_machines_are_not_served_without_secrets(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("TSAL_HOST", "0.0.0.0")
    code, error = refused(capsys)
    assert code == 2
    assert "TSAL_WEBHOOK_SECRET" in error


def test_a_port_in_use_is_named(environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        environment.setenv("TSAL_PORT", str(port))
        code, error = refused(capsys)
    assert code == 2
    assert f"port {port} is in use" in error
    assert "TSAL_PORT" in error


def test_a_redis_that_does_not_answer_is_named(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("TSAL_REDIS_URL", f"redis://127.0.0.1:{free_port()}")
    code, error = refused(capsys)
    assert code == 6
    assert "TSAL_REDIS_URL" in error


@pytest.mark.usefixtures("environment")
def test_two_servers_do_not_share_one_redis_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command, url = embedded_redis(tmp_path / "data" / "redis")
    with Processes(lambda name, line: None) as processes:
        child = processes.start("redis", command, {})
        serve.wait_for_redis(url)
        code, error = refused(capsys)
        assert code == 2
        assert f"process {child.process.pid}" in error
        assert "TSAL_DATA_DIR" in error
        assert child.process.poll() is None


def test_without_weights_nothing_starts(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    environment.setenv("TSAL_WEIGHTS", "/nonexistent")
    code, error = refused(capsys)
    assert code == 3
    assert "TSAL_WEIGHTS" in error
    assert "efficientnet_lite0" in error
    assert not (tmp_path / "data").exists()


def test_only_the_first_start_builds_the_network(environment: pytest.MonkeyPatch) -> None:
    starts: list[Settings] = []
    environment.setattr(serve, "start", lambda processes, settings, wait_for_backend: starts.append(settings))
    environment.setattr(serve, "keep_running", lambda processes: None)
    assert exit_code("serve") == 0
    environment.setattr(serve, "_require_model", lambda settings: pytest.fail("it was built again"))
    assert exit_code("serve") == 0
    assert len(starts) == 2


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(("lives", "asked"), [(True, 3), (False, 0)])
def test_the_others_start_once_the_backend_answers_or_has_ended(
    monkeypatch: pytest.MonkeyPatch, redis_url: str, lives: bool, asked: int
) -> None:
    started: list[str] = []
    at_each_question: list[list[str]] = []

    class Recorder(Processes):
        def start(self, name: str, command: Any, environment: Any, patience: Any = None) -> Child:
            started.append(name)
            process = Mock(spec=subprocess.Popen)
            process.poll.return_value = None if lives else 1
            return Child(name, command, environment, process)

    def answers(url: str) -> bool:
        assert url == f"http://127.0.0.1:{os.environ['TSAL_PORT']}/health"
        at_each_question.append(list(started))
        return len(at_each_question) == 3

    monkeypatch.setattr("ml_backend.launch.label_studio.answers", answers)
    monkeypatch.setattr(serve, "LOOK_SECONDS", 0.0)
    serve.start(Recorder(lambda name, line: None), load(redis_url=redis_url), wait_for_backend=60)
    assert at_each_question == asked * [["backend"]]
    assert started == ["backend", "worker", "sidecar"]


def test_every_setting_reaches_the_processes(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = load(
        allowed_hosts=("one.example", "two.example:8443"),
        document_root=tmp_path,
        webhook_secret="secret",
        basic_auth_user="user",
        basic_auth_password="password",
        redis_url="unix:///tmp/none.sock",
        annotation_budget=500,
        target_exact_match=0.9,
        strategy="lc",
        k_max=7,
        poll_seconds=0.5,
        weights="random",
    )
    for name, value in serve.environment(settings).items():
        environment.setenv(name, value)
    assert load() == settings
    secrets = [name for name in Settings.model_fields if isinstance(getattr(settings, name), SecretStr)]
    assert len(secrets) == 3
    assert all("secret" not in repr(getattr(settings, name)) for name in secrets)


@pytest.fixture
def command(environment: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "serve.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    yield process
    family = _family(process) if process.poll() is None else []
    process.kill()
    for left in family:
        psutil.Process(left).kill()
    process.communicate()


def _family(command: subprocess.Popen[str]) -> list[int]:
    """What a command that still runs has started, and what that has started."""
    try:
        return [process.pid for process in psutil.Process(command.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def test_everything_runs_without_label_studio_and_ends_when_the_command_is_terminated(
    command: subprocess.Popen[str],
) -> None:
    url = f"http://127.0.0.1:{os.environ['TSAL_PORT']}/health"
    deadline = time.monotonic() + 120
    # Redis, gunicorn and its worker, the RQ worker and its scheduler, the sidecar.
    while not _healthy(url) or len(_family(command)) < 6:
        assert command.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    running = _family(command)
    command.send_signal(signal.SIGTERM)
    output, _ = command.communicate(timeout=120)
    assert command.returncode == 0, output
    assert "Ctrl-C stops everything" in output
    assert output.rstrip().endswith("stopping")
    assert "Traceback" not in output
    assert "starting it again" not in output
    deadline = time.monotonic() + 10  # Python's own helper sees a moment later that its parent is gone
    while [pid for pid in running if psutil.pid_exists(pid)]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _healthy(url: str) -> bool:
    try:
        told = httpx.get(url, timeout=5).json()
        # Nobody listens where Label Studio should be.
        wanted = {
            "status": "UP",
            "model_class": "LungUltrasoundModel",
            "redis": "UP",
            "label_studio": "DOWN",
            "disk": "UP",
            "model": "UP",
        }
        return bool(told == wanted)
    except httpx.HTTPError:
        return False
