"""The patient of a file by the folder that it lies in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ml_backend.errors import InvalidRequest
from ml_backend.ingest.paths import ClipFile
from ml_backend.ingest.words import counted, some


def patients_by_folder(files: Sequence[ClipFile], level: int | None) -> dict[Path, tuple[str, str]]:
    """Return the patient of each file and where the name comes from ("folder" or "file name"), by the file's path.

    ``level`` counts folders: 1 is the first one below the folder that is imported, 0 that folder itself. None stands
    for 1; but if no file lies in a folder below the imported one, each file is a patient of its own.

    Raises InvalidRequest if a file has no folder at that level, if files that were given one by one lie in different
    folders, or if two imported folders have a patient of the same name.
    """
    by_root: dict[Path, list[ClipFile]] = defaultdict(list)
    for file in files:
        by_root[file.root].append(file)
    found: dict[Path, tuple[str, str]] = {}
    roots: dict[str, Path] = {}
    for root, members in by_root.items():
        for path, (patient, known_by) in _below(root, members, level).items():
            found[path] = patient, known_by
            other = roots.setdefault(patient, root)
            if other != root:
                raise InvalidRequest(
                    f"{patient} would be a patient both in {other} and in {root}, and their frames would mix: import "
                    "the folder above them (with --patient-level), or name the patients in a table with --patients"
                )
    return found


def _below(root: Path, files: Sequence[ClipFile], level: int | None) -> dict[Path, tuple[str, str]]:
    if any(file.single and file.folders for file in files):
        raise InvalidRequest(
            f"the files given lie in different folders below {root}, and nothing says which folder is the patient: "
            f"import the folder {root} instead, or name the patients in a table with --patients"
        )
    if level is None and not any(file.folders for file in files):
        return {file.path: (file.path.stem, "file name") for file in files}
    level = 1 if level is None else level
    patients = {file.path: (patient, "folder") for file in files if (patient := folder_at(file, level)) is not None}
    if len(patients) < len(files):
        lacking = next(file for file in files if file.path not in patients)
        raise InvalidRequest(
            f"{counted(len(files) - len(patients), 'file', 'files')} of {len(files)} in {root} lie above level "
            f"{level}, such as {lacking.name}. Choose a level that every file has, move the files, or name "
            "their patients in a table with --patients. The levels give:\n" + "\n".join(_choices(files))
        )
    return patients


def folder_at(file: ClipFile, level: int) -> str | None:
    """Return the name of a file's folder at a level; None if the file lies above that level."""
    if level == 0:
        return file.root.name or None
    return file.folders[level - 1] if level <= len(file.folders) else None


def _choices(files: Sequence[ClipFile]) -> list[str]:
    lines = []
    for level in range(max(len(file.folders) for file in files) + 1):
        patients = sorted({patient for file in files if (patient := folder_at(file, level)) is not None})
        lacking = [file.name for file in files if folder_at(file, level) is None]
        without = f"; none for {counted(len(lacking), 'file', 'files')}, such as {lacking[0]}" if lacking else ""
        people = counted(len(patients), "patient", "patients")
        lines.append(f"  --patient-level {level}: {people} ({some(patients)}){without}")
    return lines
