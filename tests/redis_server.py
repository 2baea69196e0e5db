"""A real Redis for the tests: the embedded one, on a unix socket.

The fixtures come into reach by ``from tests.redis_server import redis_url, running_redis`` in a conftest.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis

from ml_backend.errors import RedisUnavailable
from ml_backend.launch.processes import Processes, embedded_redis
from ml_backend.store.pending import connect

START_SECONDS = 20


class RedisServer:
    """A Redis that keeps its file in ``folder``, for tests to start and stop; ``url`` stays the same."""

    def __init__(self, folder: Path) -> None:
        self._command, self.url = embedded_redis(folder)
        self._processes = Processes(lambda name, line: None)

    def start(self) -> Redis:
        """Start it, wait until it answers, and connect."""
        self._processes.start("redis", self._command, {})
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return connect(self.url)
            except RedisUnavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def stop(self) -> None:
        """Stop it; stopping twice does no harm."""
        self._processes.stop()


@contextmanager
def stopped_redis(folder: Path) -> Iterator[RedisServer]:
    """A Redis that does not run yet, and does not after the block."""
    server = RedisServer(folder)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def running_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for this test session; ask for `redis_url` to have it empty."""
    with stopped_redis(tmp_path_factory.mktemp("redis")) as server:
        server.start().close()
        yield server


@pytest.fixture
def redis_url(running_redis: RedisServer) -> str:
    """Address of a Redis with nothing in it."""
    with connect(running_redis.url) as redis:
        redis.flushall()
    return running_redis.url
