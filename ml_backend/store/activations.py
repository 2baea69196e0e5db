"""Which version serves, and the history of activations, which a rollback walks back like an undo list."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timezone
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ml_backend.store.files import write_aside


class Activation(BaseModel):
    """When a version was activated, and by whom: a job, or a person with a command; ``undo`` if by a rollback."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: str
    by: str
    at: str
    undo: bool = False


_HISTORY: TypeAdapter[list[Activation]] = TypeAdapter(list[Activation])


class Activations:
    """The active pointer and the history of one project; whoever writes holds the lock of its versions."""

    def __init__(self, folder: Path) -> None:
        self._pointer = folder / "active"
        self._history = folder / "activations.json"

    def active(self) -> str | None:
        """Name of the version that serves, or None before the first."""
        try:
            return self._pointer.read_text().strip() or None
        except FileNotFoundError:
            return None

    def history(self) -> list[Activation]:
        """Every activation, oldest first.

        A crash can leave a last entry whose version is not active yet. A damaged history counts as empty.
        """
        try:
            return _HISTORY.validate_json(self._history.read_bytes())
        except (FileNotFoundError, ValidationError):
            return []

    def note(self, version: str, by: str, undo: bool = False) -> None:
        """Add an entry to the history; `point` completes the activation."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        entries = [*self.history(), Activation(version=version, by=by, at=now, undo=undo)]
        write_aside(self._history, _HISTORY.dump_json(entries, indent=1).decode())

    def point(self, version: str | None) -> None:
        """Let the pointer name a version, or none."""
        if version is None:
            self._pointer.unlink(missing_ok=True)
        else:
            write_aside(self._pointer, version + "\n")

    def served(self, here: Collection[str]) -> list[str]:
        """The versions that served, without what rollbacks undid; the active one comes last if it is ``here``.

        An activation adds a version at the end, a rollback removes versions from the end until the one that it went
        back to. Versions that are no longer ``here`` are left out.
        """
        entries = self.history()
        if entries and entries[-1].version != self.active():
            entries.pop()  # a crash left it incomplete
        served: list[str] = []
        for one in entries:
            while one.undo and served and served[-1] != one.version:
                served.pop()
            if served[-1:] != [one.version]:
                served.append(one.version)
        there = [version for version in served if version in here]
        return [version for place, version in enumerate(there) if place == 0 or version != there[place - 1]]
