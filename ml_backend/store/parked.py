"""A fine-tune that cannot succeed, kept with the project until something changes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ml_backend.store.files import write_aside


class Parked(BaseModel):
    """Why a fine-tune is not tried again, and what it was tried with.

    ``tried`` has the pending annotations with the time of their last change, empty if that is not known;
    ``configuration`` and ``settings`` are digests.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    parent: str | None
    active: str | None
    reason: str
    at: str
    tried: dict[int, str]
    configuration: str = ""
    settings: str

    def with_changes(self, now: Mapping[int, str], configuration: str) -> Parked | None:
        """What is still parked, given the pending annotations of ``now``; None if something else than them changed.

        A changed annotation counts as new, one that was deleted ends it: both may be the remedy.
        """
        if self.tried.keys() - now.keys() or self.configuration not in ("", configuration):
            return None
        tried = {one: now[one] for one, changed in self.tried.items() if changed in ("", now[one])}
        return self.model_copy(update={"tried": tried, "configuration": configuration})

    def new(self, annotations: Mapping[int, int]) -> set[int]:
        """The frames of {annotation: task} that have an annotation which was not tried."""
        return {task for annotation, task in annotations.items() if annotation not in self.tried}


class ParkedStore:
    """The parked fine-tune of a project, in a file, so that it outlives Redis."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "parked.json"

    def get(self, parent: str | None, active: str | None) -> Parked | None:
        """What is parked for a newest and an active version; None if nothing is, or if it cannot be read."""
        try:
            parked = Parked.model_validate_json(self._path.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        return parked if (parked.parent, parked.active) == (parent, active) else None

    def put(self, parked: Parked) -> None:
        """Park a fine-tune in the place of any other."""
        write_aside(self._path, parked.model_dump_json(indent=1))

    def clear(self) -> None:
        """Let the next fine-tune that is due be tried."""
        self._path.unlink(missing_ok=True)

    def clear_unless(self, settings: str) -> bool:
        """Clear what was parked under other settings; returns whether there was anything."""
        try:
            parked = Parked.model_validate_json(self._path.read_bytes())
        except (FileNotFoundError, ValidationError):
            return False
        if parked.settings == settings:
            return False
        self.clear()
        return True
