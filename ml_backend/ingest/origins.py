"""Find the patient and the clip of each file, without what a DICOM header says about a person."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ml_backend.errors import FrameUnreadable, InvalidRequest
from ml_backend.ingest.files import kind_of
from ml_backend.ingest.folders import folder_at, patients_by_folder
from ml_backend.ingest.identity import Identity, identity_of
from ml_backend.ingest.listed import listed_patients
from ml_backend.ingest.paths import ClipFile
from ml_backend.ingest.salt import clip_name, patient_name, pseudonym
from ml_backend.ingest.words import counted


@dataclass(frozen=True)
class Origin:
    """The patient and the clip of frames, in a form that a task may hold.

    ``known_by`` is the source of the patient: "table", "header", "folder", "file name", "study", or "project" for a
    clip that keeps the patient it has in Label Studio. ``burnt_in`` is what a DICOM header says of names in the picture
    (see `Identity`); None for other files.
    """

    patient: str
    clip: str
    source: str | None
    known_by: str
    burnt_in: str | None = None


@dataclass(frozen=True)
class Rule:
    """How patients are found.

    ``table`` has the patient of files by name or path. ``level`` says which folder is the patient (see
    `patients_by_folder`); if it is given, folders also name the patients of DICOM files, unless ``trust_headers``.
    With that, one patient of the headers may also lie in several folders.
    """

    table: Mapping[str, str] = field(default_factory=dict)
    level: int | None = None
    trust_headers: bool = False


def origins_of(
    files: Sequence[ClipFile], rule: Rule, secret: Callable[[], bytes]
) -> tuple[dict[ClipFile, Origin], list[tuple[Path, str]]]:
    """Return the origin of each file, and the files that have none, with the reason.

    The patient is the table's, else the DICOM header's, else the folder's. Of a DICOM file nothing gets out but hashes
    keyed by ``secret``, or the table's patient. Where a folder names the patient of DICOM files, its other files get
    the same hash. Raises InvalidRequest if folders, headers or the table do not tell the patients apart, or two clips
    would have one name.
    """
    headers: dict[ClipFile, Identity | None] = {}
    failed: list[tuple[Path, str]] = []
    for file in files:
        try:
            headers[file] = identity_of(file.path) if kind_of(file.path) == "dicom" else None
        except FrameUnreadable as error:
            failed.append((file.path, str(error)))
    listed = listed_patients(list(headers), rule.table)
    told: dict[ClipFile, tuple[str, ...]] = {}
    if rule.level is None or rule.trust_headers:
        told = {file: header.key for file, header in headers.items() if header and header.key and file not in listed}
    if not rule.trust_headers:
        _check_spread(told)
    by_folder = patients_by_folder([file for file in headers if file not in listed and file not in told], rule.level)
    sources = {
        file: "table" if file in listed else "header" if file in told else by_folder[file.path][1] for file in headers
    }
    _check_sources(sources, 1 if rule.level is None else rule.level)
    key = secret() if any(headers.values()) else b""
    hidden = {by_folder[file.path] for file, header in headers.items() if header and file.path in by_folder}
    origins: dict[ClipFile, Origin] = {}
    for file, header in headers.items():
        name = f"{file.root.name}/{file.name}" if rule.level == 0 and file.root.name else file.name
        if file in listed:
            patient = listed[file]
        elif file in told:
            patient = patient_name(key, told[file])
        else:
            patient, known_by = by_folder[file.path]
            if (patient, known_by) in hidden:
                patient = pseudonym(key, known_by, patient)
        if header is None:
            origins[file] = Origin(patient, name, file.path.name, sources[file])
        elif file in listed and header.is_told_by(patient):
            failed.append((file.path, "the table's patient is the one in the DICOM header: use a pseudonym instead"))
        else:
            clip = clip_name(key, header.instance or name)
            origins[file] = Origin(patient, clip, None, sources[file], header.burnt_in)
    _check_names(origins)
    return origins, failed


def _check_spread(told: Mapping[ClipFile, tuple[str, ...]]) -> None:
    """Refuse one patient of the headers in several folders: a number that is the same for all is a placeholder."""
    spread: dict[tuple[str, ...], dict[Path, ClipFile]] = defaultdict(dict)
    for file, key in told.items():
        spread[key].setdefault(file.root.joinpath(*file.folders[:1]), file)
    several = []
    for places in spread.values():
        # Files that lie loose in the imported folder are in no patient's folder.
        inner = [file for place, file in places.items() if not any(place in other.parents for other in places)]
        if len(inner) > 1:
            several.append(inner)
    if several:
        one, other = several[0][:2]
        raise InvalidRequest(
            f"{counted(len(several), 'patient of the DICOM headers has', 'patients of the DICOM headers have')} files "
            f"in several folders, such as {one.path} and {other.path}. If the headers are right, add --trust-headers. "
            "If the number in them is not the patient's own, and each folder is a patient, use --patient-level 1; or "
            "name the patients in a table with --patients"
        )


def _check_sources(sources: Mapping[ClipFile, str], level: int) -> None:
    """Refuse a folder that names the patient of some of its files only."""
    folders: dict[tuple[Path, str | None], dict[str, ClipFile]] = defaultdict(dict)
    for file, source in sources.items():
        folders[file.root, folder_at(file, level)].setdefault(source, file)
    for (root, name), found in folders.items():
        by_folder = found.get("folder") or (found.get("file name") if "header" in found else None)
        other = found.get("header") or found.get("table")
        if by_folder is None or other is None:
            continue
        choice = f"use --patient-level {0 if name is None else level} if the folder is one patient, or name"
        raise InvalidRequest(
            f"one person could become two patients in {root if name is None or level == 0 else root / name}: the "
            f"patient of {by_folder.path.name} comes from its name or folder, that of {other.path.name} from "
            f"{'its DICOM header' if 'header' in found else 'the table'}. "
            f"{f'Either {choice}' if 'header' in found else 'Name'} all its files in a table with --patients"
        )


def _check_names(origins: Mapping[ClipFile, Origin]) -> None:
    """Refuse two files that would be one clip; of DICOM files, which are named by their content, those are copies."""
    named: dict[str, ClipFile] = {}
    for file, origin in origins.items():
        if origin.source is not None and named.setdefault(origin.clip, file) != file:
            raise InvalidRequest(
                f"{file.path} and {named[origin.clip].path} would both be the clip {origin.clip}: import the folder "
                "above them, or import them one after the other under different names"
            )
