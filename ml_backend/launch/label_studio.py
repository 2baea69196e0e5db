"""A Label Studio for this machine only: the demo's, the soak test's and the benchmark's."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from ml_backend.errors import BackendError
from ml_backend.launch.label_studio_environment import program
from ml_backend.launch.processes import Child, Processes
from ml_backend.settings import Settings

EMAIL = "demo@example.com"
PASSWORD = "lung-ultrasound"  # noqa: S105  of a Label Studio that listens on this machine only
STUDIO_SECONDS = 480.0


def start_studio(
    processes: Processes, settings: Settings, folder: Path, environment: Mapping[str, str] | None = None
) -> Child:
    """Start the Label Studio that ``settings`` name, as `begin_studio`, and wait until it answers."""
    child = begin_studio(processes, settings, folder, environment)
    wait_for_studio(processes, settings)
    return child


def begin_studio(
    processes: Processes, settings: Settings, folder: Path, environment: Mapping[str, str] | None = None
) -> Child:
    """Start the Label Studio that ``settings`` name, with its data in ``folder``, and wait for nothing.

    ``environment`` adds to its variables, as for another database than its own SQLite.
    """
    (folder / "files").mkdir(exist_ok=True)
    port = settings.label_studio_url.rsplit(":", 1)[1]
    print("starting Label Studio: its first start makes a database and takes about half a minute", flush=True)
    command = program(lambda line: print(f"install  {line}", flush=True))
    return processes.start(
        "studio",
        [str(command), "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", port],
        {
            "LABEL_STUDIO_BASE_DATA_DIR": str(folder / "label-studio"),
            "LABEL_STUDIO_USERNAME": EMAIL,
            "LABEL_STUDIO_PASSWORD": PASSWORD,
            "LABEL_STUDIO_USER_TOKEN": settings.token(),
            "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
            "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
            "LATEST_VERSION_CHECK": "false",
            "COLLECT_ANALYTICS": "false",
            "SENTRY_DSN": "",
            "FRONTEND_SENTRY_DSN": "",
            # Label Studio refuses backends on private addresses unless it is told that this is meant.
            "USE_DEFAULT_BANNED_SUBNETS": "false",
            "SSRF_PROTECTION_ENABLED": "false",
            "ML_BLOCK_LOCAL_IP": "false",
            "LOCAL_FILES_SERVING_ENABLED": "true",
            "LOCAL_FILES_DOCUMENT_ROOT": str(folder / "files"),
            **(environment or {}),
        },
    )


def wait_for_studio(processes: Processes, settings: Settings) -> None:
    """Wait until the Label Studio that ``settings`` name answers."""
    wait_until(
        lambda: answers(f"{settings.label_studio_url}/health"),
        STUDIO_SECONDS,
        f"Label Studio does not answer at {settings.label_studio_url}",
        processes,
    )


def answers(url: str) -> bool:
    """Whether a server answers a request there with success."""
    try:
        return httpx.get(url, timeout=2).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def wait_until(done: Callable[[], bool], limit: float, otherwise: str, processes: Processes) -> None:
    deadline = time.monotonic() + limit
    while not done():
        ended = processes.ended()
        if ended:
            raise BackendError(f"{ended[0].name} ended with {ended[0].process.returncode}: see demo.log")
        if time.monotonic() > deadline:
            raise BackendError(f"{otherwise} within {limit:.0f} s: see demo.log")
        time.sleep(0.3)
