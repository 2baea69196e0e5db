"""Plan an import: the clips with their patients, checked against what the project has already."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ml_backend.errors import InvalidRequest
from ml_backend.ingest.origins import Origin
from ml_backend.ingest.paths import ClipFile
from ml_backend.ingest.served import served_path
from ml_backend.studio.keys import DataKeys


class Imported:
    """What a project has already: the patient of each picture, by its served path, and the patients of each clip."""

    def __init__(self, tasks: Iterable[Mapping[str, Any]], image_key: str, keys: DataKeys) -> None:
        self.pictures: dict[str, object] = {}
        self._clips: dict[object, set[str]] = defaultdict(set)
        for data in tasks:
            place, patient = served_path(data.get(image_key)), data.get(keys.patient)
            if place is not None:
                self.pictures[place] = patient
                if patient not in (None, ""):
                    self._clips[data.get(keys.clip)].add(str(patient))

    def patients(self, clip: str) -> set[str]:
        """The patients that frames of a clip have in the project; none for a clip that is new."""
        return self._clips.get(clip, set())


@dataclass(frozen=True)
class Plan:
    """The clips to import with their origins, the files that have none with the reason, and what is there already."""

    clips: Mapping[ClipFile, Origin]
    failed: tuple[tuple[Path, str], ...]
    there: Imported
    image_key: str

    def lines(self) -> Iterator[str]:
        """Yield a line for each patient, followed by one for each of their clips."""
        members: dict[tuple[str, str], list[str]] = defaultdict(list)
        for file, origin in self.clips.items():
            note = " (some frames are in the project)" if self.there.patients(origin.clip) else ""
            members[origin.patient, origin.known_by].append(f"  {file.name}{note}")
        for (patient, known_by), names in sorted(members.items()):
            yield f"patient {patient} (known by {known_by}): {len(names)} {'clip' if len(names) == 1 else 'clips'}"
            yield from names


def reconciled(origins: Mapping[ClipFile, Origin], there: Imported, keep: bool) -> dict[ClipFile, Origin]:
    """Return origins that agree with the project: ``keep`` gives clips that are there the patient they have there.

    Raises:
        InvalidRequest: without ``keep``, if a clip that is in the project would get another patient now.
    """
    other = {
        file: sorted(patients)[0]
        for file, origin in origins.items()
        if (patients := there.patients(origin.clip)) and origin.patient not in patients
    }
    if other and not keep:
        file, patient = next(iter(other.items()))
        level = (
            f" (--patient-level {file.folders.index(patient) + 1} gives {patient})" if patient in file.folders else ""
        )
        raise InvalidRequest(
            f"{len(other)} clips are in the project under another patient, such as {file.name}: {patient} there, "
            f"{origins[file].patient} now. With two rules in one project, frames of one patient could be both trained "
            f"on and tested on. Use the rule that was used before{level}, or add --keep-patients: clips that are there "
            "keep their patient, and the rule applies to new ones"
        )
    return {
        file: replace(origin, patient=other[file], known_by="project") if file in other else origin
        for file, origin in origins.items()
    }
