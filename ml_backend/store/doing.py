"""Notes in Redis about what the sidecar is doing for a project, and about its last failure."""

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
"""A step without an update for so long counts as ended."""
TROUBLE_SECONDS = 3600
OFTEN_SECONDS = 0.5  # shorter than anybody can read


@dataclass(frozen=True)
class Step:
    """A stage of a long operation, and how far it is: ``done`` of ``total``."""

    stage: str
    done: int
    total: int

    @property
    def share(self) -> float | None:
        """The share that is done, in [0, 1]; None where it is unknown."""
        return min(self.done / self.total, 1.0) if self.total > 0 else None


class Doing:
    """The notes about one project. Without Redis nothing is noted, and the work continues.

    ``redis`` is called for each note. Use one instance per process: it drops updates that follow too quickly.
    """

    def __init__(self, redis: Callable[[], Redis], project: int) -> None:
        self._redis = redis
        self._step, self._trouble = f"tsal:{project}:doing", f"tsal:{project}:trouble"
        self._noted = float("-inf")
        self._stage = ""

    def note(self, stage: str, done: int, total: int) -> None:
        """Note the progress of a step; updates to the same step that follow too quickly are dropped."""
        now = time.monotonic()
        if stage == self._stage and now - self._noted < OFTEN_SECONDS:
            return
        self._stage, self._noted = stage, now
        with suppress(BackendError, RedisError):
            self._redis().set(self._step, json.dumps([stage, done, total]), ex=SECONDS)

    def end(self) -> None:
        """Note that the work has ended."""
        with suppress(BackendError, RedisError):
            self._redis().delete(self._step)

    def step(self) -> Step | None:
        """Return the current step, None if there is none."""
        found = self._redis().get(self._step)
        return Step(*json.loads(found)) if found else None

    def note_trouble(self, reason: str | None) -> None:
        """Note why the last look at the project failed; None clears the note."""
        with suppress(BackendError, RedisError):
            if reason:
                self._redis().set(self._trouble, reason, ex=TROUBLE_SECONDS)
            else:
                self._redis().delete(self._trouble)

    def trouble(self) -> str | None:
        """Return why the last look at the project failed, None if it succeeded."""
        found = self._redis().get(self._trouble)
        return str(found, "utf-8") if isinstance(found, bytes) else None
