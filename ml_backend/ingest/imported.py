"""What a project has already."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ml_backend.ingest.places import place_of
from ml_backend.studio.keys import DataKeys


@dataclass(frozen=True)
class Holder:
    """The clip and the patient of a task, and the place of its picture (`place_of`).

    Without a clip it is a clip of its own; without a patient that is empty.
    """

    clip: str
    patient: str
    place: str | None


class Imported:
    """The pictures that a project has, with their clips and patients.

    ``holders`` has the task of each picture by its file name, which is a hash of the pixels and the same in every
    folder and bucket. ``patients`` and ``names`` have the patients and the file names of each clip.
    """

    def __init__(self, tasks: Iterable[Mapping[str, Any]], image_key: str, keys: DataKeys) -> None:
        self.holders: dict[str, Holder] = {}
        self.patients: dict[str, set[str]] = defaultdict(set)
        self.names: dict[str, set[str]] = defaultdict(set)
        for data in tasks:
            place = place_of(data.get(image_key))
            if place is None:
                continue
            name = PurePosixPath(place).name
            clip, patient = _text(data.get(keys.clip)) or name, _text(data.get(keys.patient))
            self.holders[name] = Holder(clip, patient, place)
            self.names[clip].add(name)
            if patient:
                self.patients[clip].add(patient)

    def everybody(self) -> set[str]:
        """Return the patients of all clips."""
        return set().union(*self.patients.values())


def _text(value: object) -> str:
    return "" if value is None else str(value)
