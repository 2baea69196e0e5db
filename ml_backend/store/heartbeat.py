"""A sign of life that a long-running process leaves in Redis."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from redis import Redis
from redis.exceptions import RedisError

from ml_backend.errors import BackendError

SIDECAR = "sidecar"
SECONDS = 90
"""How long a sign of life counts: longer than a sidecar's longest step without one is likely to take."""


def beat(redis: Callable[[], Redis], process: str) -> None:
    """Leave a sign of life of ``process``; without Redis there is none, and the process goes on."""
    with suppress(BackendError, RedisError):
        redis().set(f"tsal:alive:{process}", 1, ex=SECONDS)


def alive(redis: Redis, process: str) -> bool:
    """Whether ``process`` left a sign of life within the last ``SECONDS``."""
    return bool(redis.exists(f"tsal:alive:{process}"))
