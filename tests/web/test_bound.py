"""A real gunicorn that a container or a person bound to every address, while TSAL_HOST says loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ml_backend.web.server import command
from tests.installation import XML, environment_of, settings_in
from tests.studio_server import free_port

ROOT = Path(__file__).resolve().parents[2]
PREDICT = {"tasks": [], "project": "7", "label_config": XML}


def outer_address() -> str:
    """An address of this machine that is not loopback; skips where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only asks which address would be used
            address: str = probe.getsockname()[0]
        except OSError:
            pytest.skip("this machine has no address but loopback")
    return address


def wait_for_answer(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        try:
            httpx.get(f"{url}/health", timeout=10)
            break
        except httpx.TransportError:
            time.sleep(0.2)


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    port = free_port()
    gunicorn = str(Path(sys.executable).with_name("gunicorn"))
    process = subprocess.Popen(
        [gunicorn, "--bind", f"0.0.0.0:{port}", "--no-control-socket", "ml_backend.web.app:create_app()"],
        cwd=ROOT,
        env=os.environ | environment_of(settings_in(tmp_path)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for_answer(process, f"http://127.0.0.1:{port}")
        yield port
    finally:
        process.terminate()
        process.wait(30)


def test_a_backend_bound_to_every_address_serves_only_this_machine(port: int) -> None:
    inside, outside = f"http://127.0.0.1:{port}", f"http://{outer_address()}:{port}"
    assert httpx.post(f"{inside}/predict", json=PREDICT, timeout=60).json() == {"results": []}
    assert httpx.get(f"{outside}/health", timeout=60).status_code == 200
    for path in ("predict", "setup", "webhook?project=7"):
        refused = httpx.post(f"{outside}/{path}", json=PREDICT, timeout=60)
        assert refused.status_code == 401
        assert "TSAL_WEBHOOK_SECRET" in refused.json()["error"]
    assert httpx.get(f"{outside}/versions", timeout=60).status_code == 401
    # Another name for the same machine does not help, and a proxy gives itself away.
    for headers in ({"Host": "localhost"}, {"X-Forwarded-For": "127.0.0.1"}):
        assert httpx.post(f"{outside}/predict", json=PREDICT, headers=headers, timeout=60).status_code == 401
    forwarded = httpx.post(f"{inside}/predict", json=PREDICT, headers={"X-Forwarded-For": "192.0.2.9"}, timeout=60)
    assert forwarded.status_code == 401


def test_a_backend_on_the_loopback_address_of_ipv6_answers_there(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, host="::1", port=free_port())
    process = subprocess.Popen(
        command(settings),
        cwd=ROOT,
        env=os.environ | environment_of(settings),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for_answer(process, f"http://[::1]:{settings.port}")
        assert httpx.get(f"http://[::1]:{settings.port}/versions", timeout=60).status_code == 200
    finally:
        process.terminate()
        process.wait(30)
