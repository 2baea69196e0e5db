"""Since when a project's configuration has each symptom; an older annotation says nothing about it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from pydantic import TypeAdapter

from ml_backend.store.files import write_aside
from ml_backend.store.locks import alone

Periods = dict[str, list[tuple[datetime | None, datetime | None]]]
"""Of each symptom the periods in which the configuration had it; None: always, or still."""


class SymptomStore:
    """The symptoms of one project below ``folder``, by name: one that was renamed is a new one."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "symptoms.json"
        self.lock = folder / ".symptoms.lock"

    def read(self) -> Periods:
        """Return every symptom seen so far with its periods."""
        try:
            return _PERIODS.validate_json(self._file.read_bytes())
        except FileNotFoundError:
            return {}

    def note(self, names: Sequence[str], first: Sequence[str], now: datetime | None = None) -> Periods:
        """Note the symptoms that the configuration has now, and return all periods.

        Where nothing was noted yet, those among ``first`` count as always there.
        """
        now = now or datetime.now(timezone.utc)
        with alone(self.lock):
            before = self.read()
            periods = before or {name: [(None, None)] for name in first}
            changed: Periods = {}
            for name in dict.fromkeys([*periods, *names]):
                past = list(periods.get(name, []))
                there = bool(past) and past[-1][1] is None
                if name in names and not there:
                    past.append((now, None))
                elif there and name not in names:
                    past[-1] = (past[-1][0], now)
                changed[name] = past
            if changed != before:
                write_aside(self._file, _PERIODS.dump_json(changed, indent=1).decode())
        return changed


def known_at(periods: Periods, name: str, updated_at: str) -> bool:
    """Whether the configuration had a symptom when an annotation was last changed.

    ``updated_at`` is ISO 8601; a time that cannot be read is known only where the symptom was always there.
    """
    past = periods.get(name, [])
    if past == [(None, None)]:
        return True
    try:
        time = datetime.fromisoformat(updated_at.replace("Z", "+00:00"))
    except ValueError:
        return False
    time = time if time.tzinfo else time.replace(tzinfo=timezone.utc)
    return any((start is None or start <= time) and (end is None or time < end) for start, end in past)


_PERIODS: TypeAdapter[Periods] = TypeAdapter(Periods)
