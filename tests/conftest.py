"""What the tests of every folder may ask for."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from ml_backend import logs
from tests.orthanc_server import orthanc_server
from tests.redis_server import redis_url, running_redis
from tests.studio_server import studio_server

__all__ = ["orthanc_server", "redis_url", "running_redis", "studio_server"]

settings.register_profile("untimed", deadline=None)  # no test may fail for being slow on a busy machine
settings.load_profile("untimed")

ROOT = Path(__file__).parent
# Folders and files whose tests are quick and need nothing but our own code, save those that ask for a server.
UNIT = (
    "ingest",
    "label_config",
    "phantom",
    "store",
    "tsal",
    "test_docs.py",
    "test_errors.py",
    "test_logs.py",
    "test_settings.py",
)
SLOW = ("test_features.py", "test_breathing.py")
SERVERS = {"orthanc_server", "redis_url", "running_redis", "studio_server"}
# The files that take minutes begin first, so that no worker is left alone with one of them at the end.
LONGEST = (
    "soak/test_faults.py",
    "soak/events/test_machine.py",
    "soak/crash/test_run.py",
    "launch/test_demo_again.py",
    "commands/test_sidecar.py",
    "loop/test_finish_killed.py",
    "browser/test_session.py",
    "setup/test_connect.py",
    "loop/test_score.py",
    "setup/test_doctor.py",
    "msml/test_network.py",
    "msml/test_maps.py",
    "test_one_round.py",
    "studies/test_study.py",
    "test_end_to_end.py",
)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out, where only unit tests are wanted, what holds none: importing torch would take longer than they do."""
    parts = collection_path.relative_to(ROOT).parts if collection_path.is_relative_to(ROOT) else ()
    return True if config.option.markexpr == "unit" and parts and parts[0] not in UNIT else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test one of the markers unit, integration and soak, and put the longest files first."""
    items.sort(key=_turn)
    for item in items:
        place = item.path.relative_to(ROOT).parts[0]
        servers = SERVERS & set(getattr(item, "fixturenames", ()))
        if place == "soak":
            item.add_marker("soak")
        elif (
            place in UNIT and item.path.name not in SLOW and not servers and not item.get_closest_marker("integration")
        ):
            item.add_marker("unit")
        else:
            item.add_marker("integration")


def _turn(item: pytest.Item) -> int:
    place = item.path.relative_to(ROOT).as_posix()
    return LONGEST.index(place) if place in LONGEST else len(LONGEST)


@pytest.fixture(autouse=True)
def nothing_logged_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test see the states that are logged only when they change."""
    monkeypatch.setattr(logs, "_states", {})


@pytest.fixture(autouse=True)
def log_handlers() -> Iterator[None]:
    """Take back what a test sets up of the process's logging: a command and the app do."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before[0], before[1]
