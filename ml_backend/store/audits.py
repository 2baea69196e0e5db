"""Audit draws: which frames were drawn uniformly from the pool, recorded before anybody answers."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter

from ml_backend.store.files import write_aside
from ml_backend.store.locks import alone


class Draw(BaseModel):
    """One uniform draw without replacement.

    ``tasks`` were drawn from the ``pool`` frames that had no confirmed annotation and were in no earlier draw;
    ``order`` names the order that put them into the queue, ``version`` the version whose ticks they carry (None before
    the first).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    order: str
    version: str | None
    drawn_at: str
    seed: int
    pool: int
    tasks: tuple[int, ...]


class AuditStore:
    """The audit draws of one project below ``folder``, oldest first."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "audits.json"
        self._lock = folder / ".audits.lock"

    def draws(self) -> list[Draw]:
        """Every draw so far.

        Raises:
            ValidationError: where the file is damaged; an audit must not be forgotten silently.
        """
        try:
            return _DRAWS.validate_json(self._file.read_bytes())
        except FileNotFoundError:
            return []

    def add(self, draw: Draw) -> None:
        """Record a draw; it must be on the disk before its frames are pushed."""
        with alone(self._lock):
            write_aside(self._file, _DRAWS.dump_json([*self.draws(), draw], indent=1).decode())

    def tasks(self) -> set[int]:
        """The tasks of all draws."""
        return {task for draw in self.draws() for task in draw.tasks}


_DRAWS: TypeAdapter[list[Draw]] = TypeAdapter(list[Draw])
