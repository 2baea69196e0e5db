"""What a project has already."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ml_backend.ingest.served import served_path
from ml_backend.studio.keys import DataKeys


@dataclass(frozen=True)
class Holder:
    """The clip and the patient of a task. Without a clip it is a clip of its own; without a patient that is empty."""

    clip: str
    patient: str


class Imported:
    """The pictures that a project has, with their clips and patients.

    ``pictures`` has the patient of each picture by its served path; ``holders`` its clip and patient by its file name,
    which is a hash of the pixels and the same in every folder. ``patients`` and ``names`` have the patients and the
    file names of each clip.
    """

    def __init__(self, tasks: Iterable[Mapping[str, Any]], image_key: str, keys: DataKeys) -> None:
        self.pictures: dict[str, str] = {}
        self.holders: dict[str, Holder] = {}
        self.patients: dict[str, set[str]] = defaultdict(set)
        self.names: dict[str, set[str]] = defaultdict(set)
        for data in tasks:
            place = served_path(data.get(image_key))
            if place is None:
                continue
            name = PurePosixPath(place).name
            clip, patient = _text(data.get(keys.clip)) or name, _text(data.get(keys.patient))
            self.pictures[place] = patient
            self.holders[name] = Holder(clip, patient)
            self.names[clip].add(name)
            if patient:
                self.patients[clip].add(patient)


def _text(value: object) -> str:
    return "" if value is None else str(value)
