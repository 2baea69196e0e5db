"""A real Label Studio for the tests: a fresh one, started once a session and stopped at its end.

The fixture comes into reach by ``from tests.studio_server import studio_server`` in a conftest.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.processes import stop
from tests.studio_database import execute, studio_database

ROOT = Path(__file__).resolve().parent.parent
EXECUTABLE = "TSAL_TEST_LABEL_STUDIO"
START_SECONDS = 480


@dataclass(frozen=True)
class StudioServer:
    """A running Label Studio: where it is, who may use it, and the folder that it serves as local files.

    ``token`` is its user's legacy token, ``personal_token`` the one personal access token that a user can have;
    ``environment`` is what it was started with beyond what every test gives it.
    """

    url: str
    token: str = field(repr=False)
    personal_token: str = field(repr=False)
    username: str
    password: str = field(repr=False)
    files: Path
    log: Path
    pid: int
    program: Path
    environment: dict[str, str] = field(repr=False)

    @property
    def release(self) -> str:
        """The release that is installed beside its program."""
        ask: list[str | Path] = [
            self.program.parent / "python",
            "-c",
            "from importlib.metadata import version; print(version('label-studio'))",
        ]
        return subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip()

    def execute(self, statement: str) -> None:
        """Change its database behind its back."""
        execute(statement, self.files.parent / "data", self.environment)


def executable() -> Path | None:
    """The program to run: named by the environment, else the one that the Makefile installs; None without either."""
    path = Path(os.environ.get(EXECUTABLE) or ROOT / ".venv-label-studio" / "bin" / "label-studio")
    return path if path.is_file() else None


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def running_studio(program: Path, folder: Path, environment: dict[str, str] | None = None) -> Iterator[StudioServer]:
    """Run Label Studio with its data below ``folder`` until the block ends.

    It listens on 127.0.0.1, has one user with a known legacy token, allows back ends on private addresses, and serves
    the folder ``files`` in ``folder``; ``environment`` adds to that. Raises RuntimeError with the end of its log where
    it does not come up.
    """
    files, log, port = folder / "files", folder / "label-studio.log", free_port()
    files.mkdir(parents=True, exist_ok=True)
    username, password, token = "admin@example.com", "phantom-frames", "0123456789abcdef0123456789abcdef01234567"
    settings = {
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder / "data"),
        "LABEL_STUDIO_USERNAME": username,
        "LABEL_STUDIO_PASSWORD": password,
        "LABEL_STUDIO_USER_TOKEN": token,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        # Label Studio gives a backend 1 to 3 seconds, which are not enough beside other tests.
        **dict.fromkeys(("ML_CONNECTION_TIMEOUT", "ML_TIMEOUT_HEALTH", "ML_TIMEOUT_SETUP"), "30"),
        "LOCAL_FILES_SERVING_ENABLED": "true",
        "LOCAL_FILES_DOCUMENT_ROOT": str(files),
        "SSRF_PROTECTION_ENABLED": "false",
        "ML_BLOCK_LOCAL_IP": "false",
        "LATEST_VERSION_CHECK": "false",
        "COLLECT_ANALYTICS": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
    }
    inherited = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    command = [str(program), "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=inherited | settings | (environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(f"{url}/health", process, log)
        personal = _personal_token(url, token)
        yield StudioServer(
            url, token, personal, username, password, files, log, process.pid, program, environment or {}
        )
    finally:
        stop(process)


@pytest.fixture(scope="session")
def studio_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudioServer]:
    """A Label Studio of its own for this test session; skips where none is installed."""
    program = executable()
    if program is None:
        pytest.skip(f"no Label Studio: run `make install`, or set {EXECUTABLE} to its program")
    folder = tmp_path_factory.mktemp("label-studio")
    with studio_database() as database, running_studio(program, folder, database) as server:
        yield server


def _wait(health: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(health, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"Label Studio did not come up:\n{log.read_text(errors='replace')[-3000:]}")


def _personal_token(url: str, token: str) -> str:
    request = urllib.request.Request(
        f"{url}/api/token/", b"{}", {"Authorization": f"Token {token}", "Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(json.load(answer)["token"])
