"""The result of a check: one line that says that all is well, or what to change."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from queue import Empty, Queue
from typing import Any, Literal

from redis.exceptions import RedisError

from ml_backend.errors import BackendError

State = Literal["ok", "note", "change"]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor: ``subject`` names what was checked, ``text`` is for people.

    ``note`` is worth knowing and needs no change. ``mend`` makes the change that ``text`` names, if code can make it.
    """

    subject: str
    state: State
    text: str
    mend: Callable[[], Any] | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.state:8} {self.text}"


Check = Callable[[], Iterable[Finding]]


def run(subject: str, check: Check, seconds: float) -> Iterator[Finding]:
    """Run a check in a thread of its own, so that one that hangs costs ``seconds`` at most; errors become findings."""
    found: Queue[Finding | None] = Queue()

    def work() -> None:
        try:
            for finding in check():
                found.put(finding)
        except (BackendError, OSError, RedisError) as error:
            found.put(Finding(subject, "change", str(error)))
        except Exception as error:
            found.put(Finding(subject, "change", f"{subject}: the check failed ({type(error).__name__}: {error})"))
        finally:
            found.put(None)

    threading.Thread(target=work, name=f"check {subject}", daemon=True).start()
    try:
        while (finding := found.get(timeout=seconds)) is not None:
            yield finding
    except Empty:
        yield Finding(subject, "change", f"{subject}: no answer within {seconds:.0f} s")
