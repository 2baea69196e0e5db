"""Plan an import: the clips with their patients, checked against what the project has already."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ml_backend.errors import InvalidRequest
from ml_backend.ingest.apart import Limits
from ml_backend.ingest.cut import WHOLE, Cut
from ml_backend.ingest.imported import Imported
from ml_backend.ingest.origins import Origin
from ml_backend.ingest.paths import ClipFile
from ml_backend.ingest.recognised import clip_elsewhere, shows
from ml_backend.ingest.words import counted
from ml_backend.progress import Progress


@dataclass(frozen=True)
class Plan:
    """The clips to import with their origins, the files that have none with the reason, and what is there already.

    ``unmatched`` are the rows of the table that fit no file. ``cut`` is what is taken of every picture.
    """

    clips: Mapping[ClipFile, Origin]
    failed: tuple[tuple[Path, str], ...]
    there: Imported
    image_key: str
    unmatched: tuple[str, ...] = ()
    cut: Cut = WHOLE

    def lines(self) -> Iterator[str]:
        """Yield a line for each patient, followed by one for each of their clips."""
        members: dict[tuple[str, str], list[str]] = defaultdict(list)
        for file, origin in self.clips.items():
            note = " (some frames are in the project)" if self.there.patients[origin.clip] else ""
            members[origin.patient, origin.known_by].append(f"  {file.name}{note}")
        for (patient, known_by), names in sorted(members.items()):
            yield f"patient {patient} (known by {known_by}): {counted(len(names), 'clip', 'clips')}"
            yield from names

    def joined(self) -> tuple[str, ...]:
        """The patients by folder or file name whom the project has, but none of their clips here: maybe others."""
        named = {origin.patient for origin in self.clips.values() if origin.known_by in ("folder", "file name")}
        met = {origin.patient for origin in self.clips.values() if self.there.patients[origin.clip]}
        return tuple(sorted((named - met) & self.there.everybody()))


def reconciled(
    origins: Mapping[ClipFile, Origin], there: Imported, keep: bool, cut: Cut = WHOLE, limits: Limits | None = None
) -> dict[ClipFile, Origin]:
    """Compare origins with the clips that the project has, and return them so that they agree.

    With ``keep``, those clips keep the patient that they have there, and new clips of the same patient follow them.
    Raises InvalidRequest if a clip has the name of another one in the project, or, without ``keep``, if a clip that is
    in the project would get another patient now.
    """
    if not there.holders:
        return dict(origins)
    with Progress("compare with the project", "file", len(origins)) as progress:
        found = _found(origins, there, cut, limits, progress)
    other = {file: clip for file, clip in found.items() if origins[file].patient not in there.patients[clip]}
    if other and not keep:
        raise InvalidRequest(_two_rules(origins, there, other))
    kept = {
        file: replace(origins[file], patient=min(there.patients[clip]), clip=clip, known_by="project")
        for file, clip in other.items()
    }
    of_patient: dict[str, set[str]] = defaultdict(set)
    for file in found:
        of_patient[origins[file].patient].add(kept.get(file, origins[file]).patient)
    return {
        file: kept.get(file) or (origin if file in found else _following(origin, of_patient[origin.patient]))
        for file, origin in origins.items()
    }


def _following(origin: Origin, there: set[str]) -> Origin:
    if len(there) != 1 or origin.patient in there:
        return origin
    return replace(origin, patient=next(iter(there)), known_by="project")


def _found(
    origins: Mapping[ClipFile, Origin], there: Imported, cut: Cut, limits: Limits | None, progress: Progress
) -> dict[ClipFile, str]:
    """The project's clip with a patient that each file shows, for the files that it has already."""
    by_name = {origin.clip: origin for origin in origins.values()}
    found: dict[ClipFile, str] = {}
    strangers: dict[str, ClipFile] = {}
    for file, origin in origins.items():
        pictures = there.names[origin.clip]
        if not pictures:
            clip = clip_elsewhere(file, origin, by_name, there, cut, limits)
            if clip is not None:
                found[file] = clip
        elif not shows(file.path, pictures, cut, limits):
            strangers[origin.clip] = file
        elif there.patients[origin.clip]:
            found[file] = origin.clip
        progress.advance()
    for file in found:
        strangers.pop(origins[file].clip, None)  # the other file is a copy, of which nothing is imported yet
    if strangers:
        clip, file = next(iter(strangers.items()))
        raise InvalidRequest(
            f"{counted(len(strangers), 'clip has', 'clips have')} the name of another clip in the project, such as "
            f"{file.path}: {clip} is there, and none of its pictures are from this file. Their patients could be "
            "different people under one name. Import the folder that holds all patients, or one patient's folder with "
            "--patient-level 0. If you have changed the file, --crop or --mask, delete the old tasks of its clip first"
        )
    return found


def _two_rules(origins: Mapping[ClipFile, Origin], there: Imported, other: Mapping[ClipFile, str]) -> str:
    file, clip = next(iter(other.items()))
    patient = min(there.patients[clip])
    level = ""
    if clip == origins[file].clip and patient in file.folders:
        level = f" (--patient-level {file.folders.index(patient) + 1} gives {patient})"
    elif clip != origins[file].clip:
        level = f" and import the same folder (the clip is {clip} there)"
    return (
        f"{counted(len(other), 'clip is', 'clips are')} in the project under another patient, such as {file.name}: "
        f"{patient} there, {origins[file].patient} now. With two rules in one project, frames of one patient could be "
        f"both trained on and tested on. Use the rule that was used before{level}, or add --keep-patients: clips that "
        "are there keep their patient, new clips of the same patient follow them, and the rule applies to the others"
    )
