"""The keys of a task's data that say which patient, which clip and what time a frame is of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from typing import Any

from ml_backend.settings import Settings


@dataclass(frozen=True)
class DataKeys:
    """Names of the keys; the defaults are those that the import writes."""

    patient: str = "patient"
    clip: str = "clip"
    time: str = "time"

    @classmethod
    def of(cls, settings: Settings) -> DataKeys:
        """The keys that the settings name."""
        return cls(settings.patient_key, settings.clip_key, settings.time_key)


def found_keys(data: Iterable[Mapping[str, Any]], keys: DataKeys) -> dict[str, int]:
    """Count the tasks that have a value under each key: {key: tasks}, from the ``data`` of each task.

    0 counts as a value, since a clip begins at time 0; None and an empty text do not.
    """
    found = dict.fromkeys(astuple(keys), 0)
    for one in data:
        for key in found:
            found[key] += one.get(key) not in (None, "")
    return found
