"""Taking turns among the processes of one machine."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone(path: Path, wait: bool = True) -> Iterator[None]:
    """Wait until nobody else, in this process or another, holds the lock file ``path``, and keep the others waiting.

    Without ``wait``, raises BlockingIOError where somebody holds it.

    It ends with the process that holds it, however that ends. Whoever holds it must not ask for it again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
