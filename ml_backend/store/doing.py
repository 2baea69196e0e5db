"""What the sidecar is doing for a project, and what keeps it from doing so, left in Redis for people."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from redis import Redis
from redis.exceptions import RedisError

from ml_backend.errors import BackendError

SECONDS = 120
"""How long a step counts without news of it."""
TROUBLE_SECONDS = 3600
OFTEN_SECONDS = 0.5  # news that nobody could read any faster


@dataclass(frozen=True)
class Step:
    """A step of something long: ``done`` of ``total``."""

    stage: str
    done: int
    total: int

    @property
    def share(self) -> float | None:
        """How much of it is done, in [0, 1]; None where that is not known."""
        return min(self.done / self.total, 1.0) if self.total > 0 else None


class Doing:
    """The notes of one project. ``redis`` is asked for anew each time: without it nothing is noted, and work goes on.

    An object is one process's; it leaves out news that come too fast.
    """

    def __init__(self, redis: Callable[[], Redis], project: int) -> None:
        self._redis = redis
        self._step, self._trouble = f"tsal:{project}:doing", f"tsal:{project}:trouble"
        self._noted = float("-inf")
        self._stage = ""

    def note(self, stage: str, done: int, total: int) -> None:
        """Note how far a step is; news of the same step that come too soon after the last are left out."""
        now = time.monotonic()
        if stage == self._stage and now - self._noted < OFTEN_SECONDS:
            return
        self._stage, self._noted = stage, now
        with suppress(BackendError, RedisError):
            self._redis().set(self._step, json.dumps([stage, done, total]), ex=SECONDS)

    def end(self) -> None:
        """Note that nothing is being done any more."""
        with suppress(BackendError, RedisError):
            self._redis().delete(self._step)

    def step(self) -> Step | None:
        """What is being done; None for nothing."""
        found = self._redis().get(self._step)
        return Step(*json.loads(found)) if found else None

    def note_trouble(self, reason: str | None) -> None:
        """Note why a look at the project failed; None once it works again."""
        with suppress(BackendError, RedisError):
            if reason:
                self._redis().set(self._trouble, reason, ex=TROUBLE_SECONDS)
            else:
                self._redis().delete(self._trouble)

    def trouble(self) -> str | None:
        """Why the last look at the project failed; None where it did not."""
        found = self._redis().get(self._trouble)
        return str(found, "utf-8") if isinstance(found, bytes) else None
