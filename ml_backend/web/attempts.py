"""How many wrong passwords came from each address."""

from __future__ import annotations

import time
from collections import deque
from threading import Lock

FAILURES = 10
"""After this many wrong passwords, an address has to wait."""
WAIT_SECONDS = 60.0
_ADDRESSES = 1000


class Attempts:
    """Count wrong passwords by address, to slow down guessing. Threads may share an instance."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._failed: dict[str, deque[float]] = {}

    def wait(self, address: str) -> float:
        """Return the seconds until this address may try again, 0 if it may try now."""
        with self._lock:
            failed = self._failed.get(address)
            if not failed or len(failed) < FAILURES:
                return 0.0
            return max(0.0, failed[0] + WAIT_SECONDS - time.monotonic())

    def fail(self, address: str) -> None:
        """Record a wrong password. If there are too many addresses, the oldest are forgotten."""
        with self._lock:
            failed = self._failed.pop(address, deque(maxlen=FAILURES))
            failed.append(time.monotonic())
            self._failed[address] = failed
            while len(self._failed) > _ADDRESSES:
                self._failed.pop(next(iter(self._failed)))
