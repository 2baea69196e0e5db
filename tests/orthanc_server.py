"""A real Orthanc with its DICOMweb plugin for the tests: a fresh one, started once a session and stopped at its end.

The fixture comes into reach by ``from tests.orthanc_server import orthanc_server`` in a conftest.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.studio_server import free_port

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD = "radiology", "phantom-fråmes"
START_SECONDS = 120
STOP_SECONDS = 30


@dataclass
class OrthancServer:
    """A running Orthanc; its user and password are None where everybody may read."""

    root: str
    user: str | None
    password: str | None = field(repr=False)
    log: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def dicomweb(self) -> str:
        """The address of its DICOMweb."""
        return f"{self.root}/dicom-web"

    def ask(self, path: str, data: bytes | None = None, method: str | None = None) -> bytes:
        """Call Orthanc's own interface."""
        request = urllib.request.Request(f"{self.root}{path}", data, method=method)
        if self.user is not None:
            signed = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            request.add_header("Authorization", f"Basic {signed}")
        with urllib.request.urlopen(request, timeout=60) as answer:
            body: bytes = answer.read()
            return body

    def store(self, *paths: Path) -> None:
        """Store DICOM files, whatever is wrong with their pixels."""
        for path in paths:
            self.ask("/instances", path.read_bytes())

    def stop(self) -> None:
        """End it; all that was stored stays in its folder."""
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def program() -> str | None:
    """The program to run; None where it or its plugin is not installed."""
    found = shutil.which("Orthanc", path=os.environ.get("PATH", "") + ":/usr/sbin")
    return found if PLUGIN.is_file() else None


def require_orthanc() -> str:
    """Return the program, or skip the test."""
    found = program()
    if found is None:
        pytest.skip("no Orthanc with DICOMweb: install the packages orthanc and orthanc-dicomweb")
    return found


@contextmanager
def running_orthanc(
    folder: Path, port: int | None = None, signed: bool = False, **options: object
) -> Iterator[OrthancServer]:
    """Run Orthanc on 127.0.0.1 with its data below ``folder`` until the block ends; on top of what is stored there.

    ``signed`` asks for user and password. Raises RuntimeError with the end of its log where it does not come up.
    """
    found = require_orthanc()
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": signed,
        "RegisteredUsers": {USER: PASSWORD},
        "Plugins": [str(PLUGIN)],
        "HttpThreadsCount": 4,
        **options,
    }
    configuration, log = folder / "orthanc.json", folder / "orthanc.log"
    configuration.write_text(json.dumps(settings))
    with log.open("ab") as output:
        process = subprocess.Popen(
            [found, str(configuration)], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    user, password = (USER, PASSWORD) if signed else (None, None)
    server = OrthancServer(f"http://127.0.0.1:{port}", user, password, log, process)
    try:
        _wait(server)
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def orthanc_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrthancServer]:
    """One Orthanc for this test session; skips the test if Orthanc is not installed."""
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as server:
        yield server


def _wait(server: OrthancServer) -> None:
    deadline = time.monotonic() + START_SECONDS
    while server.process.poll() is None and time.monotonic() < deadline:
        try:
            server.ask("/dicom-web/studies")
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"Orthanc did not come up:\n{server.log.read_text(errors='replace')[-3000:]}")
