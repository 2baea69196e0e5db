"""What the tests of every folder may ask for."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from ml_backend import logs
from tests.redis_server import redis_url, running_redis
from tests.studio_server import studio_server

__all__ = ["redis_url", "running_redis", "studio_server"]


@pytest.fixture(autouse=True)
def nothing_logged_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test see the states that are logged only when they change."""
    monkeypatch.setattr(logs, "_states", {})


@pytest.fixture
def log_handlers() -> Iterator[None]:
    """Making the app sets logging up for its process; take that back."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before[0], before[1]
