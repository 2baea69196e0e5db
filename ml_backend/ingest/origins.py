"""Find the patient and the clip of each file, without what a DICOM header says about a person."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_backend.errors import FrameUnreadable, InvalidRequest, SettingsError
from ml_backend.ingest.dicom import dicom_header
from ml_backend.ingest.files import kind_of
from ml_backend.ingest.folders import patients_by_folder
from ml_backend.ingest.paths import ClipFile
from ml_backend.settings import PREFIX

_SALT_FILE = "patient-salt"
_SALT_BYTES = 32


@dataclass(frozen=True)
class Origin:
    """The patient and the clip of frames, in a form that a task may hold.

    ``known_by`` is the source of the patient: "table", "header", "folder", "file name", or "project" for a clip that
    keeps the patient it has in Label Studio.
    """

    patient: str
    clip: str
    source: str | None
    known_by: str


@dataclass(frozen=True)
class _Header:
    """What is needed of a DICOM header: who the patient is (the identifier first), and the clip's identifier."""

    identity: tuple[str, ...]
    instance: str


def origins_of(
    files: Sequence[ClipFile], table: Mapping[str, str], data_dir: Path, level: int | None
) -> tuple[dict[ClipFile, Origin], list[tuple[Path, str]]]:
    """Return the origin of each file, and the files that have none, with the reason.

    The patient is the table's, else the DICOM header's, else the folder's (see `patients_by_folder`). Of a DICOM file
    nothing gets out but keyed hashes, or the table's patient.

    Raises:
        InvalidRequest: if the folders or the table do not tell the patients apart, or two clips would have one name.
    """
    headers: dict[ClipFile, _Header | None] = {}
    failed: list[tuple[Path, str]] = []
    for file in files:
        try:
            headers[file] = _header(file) if kind_of(file.path) == "dicom" else None
        except FrameUnreadable as error:
            failed.append((file.path, str(error)))
    listed = _listed(list(headers), table)
    unknown = [file for file, header in headers.items() if file not in listed and not (header and header.identity)]
    by_folder = patients_by_folder(unknown, level)
    origins: dict[ClipFile, Origin] = {}
    for file, header in headers.items():
        name = f"{file.root.name}/{file.name}" if level == 0 and file.root.name else file.name
        if header is None:
            patient, known_by = (listed[file], "table") if file in listed else by_folder[file.path]
            origins[file] = Origin(patient, name, file.path.name, known_by)
        elif file in listed and _letters(listed[file]) in {_letters(value) for value in header.identity}:
            failed.append((file.path, "the table's patient is the one in the DICOM header: use a pseudonym instead"))
        else:
            origins[file] = _hidden(header, listed.get(file), by_folder.get(file.path), name, salt(data_dir))
    _check_names(origins)
    return origins, failed


def _header(file: ClipFile) -> _Header:
    header: Any = dicom_header(file.path)
    told = (str(header.get(tag) or "").strip() for tag in ("PatientID", "PatientName", "OtherPatientIDs"))
    return _Header(tuple(value for value in told if value), str(header.get("SOPInstanceUID") or ""))


def _hidden(header: _Header, listed: str | None, by_folder: tuple[str, str] | None, name: str, key: bytes) -> Origin:
    clip = pseudonym(key, "clip", header.instance or name)
    if listed is not None:
        return Origin(listed, clip, None, "table")
    if header.identity:
        return Origin(pseudonym(key, "patient", header.identity[0]), clip, None, "header")
    assert by_folder is not None
    patient, known_by = by_folder
    return Origin(pseudonym(key, known_by, patient), clip, None, known_by)


def _listed(files: Sequence[ClipFile], table: Mapping[str, str]) -> dict[ClipFile, str]:
    """The table's patient of each file that it lists, by the path below the imported folder or by the bare name."""
    listed = {file: table[file.name] for file in files if file.name in table}
    by_name = [file for file in files if file not in listed and file.path.name in table]
    for name, count in Counter(file.path.name for file in by_name).items():
        if count > 1:
            places = [file.name for file in by_name if file.path.name == name]
            raise InvalidRequest(
                f"the table lists {name}, and {count} files have that name, such as {places[0]} and {places[1]}: "
                "write the path below the imported folder in the column file"
            )
    return listed | {file: table[file.path.name] for file in by_name}


def _check_names(origins: Mapping[ClipFile, Origin]) -> None:
    """Refuse two files that would be one clip; of DICOM files, which are named by their content, those are copies."""
    named: dict[str, ClipFile] = {}
    for file, origin in origins.items():
        if origin.source is not None and named.setdefault(origin.clip, file) != file:
            raise InvalidRequest(
                f"{file.path} and {named[origin.clip].path} would both be the clip {origin.clip}: import the folder "
                "above them, or import them one after the other under different names"
            )


def salt(data_dir: Path) -> bytes:
    """Return this installation's secret for `pseudonym`, made on first use and readable by its owner only.

    Raises:
        SettingsError: where it cannot be kept or is damaged.
    """
    path = data_dir / _SALT_FILE
    try:
        if not path.exists():
            data_dir.mkdir(parents=True, exist_ok=True)
            _make_salt(path)
        secret = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}; check {PREFIX}DATA_DIR") from error
    if len(secret) != _SALT_BYTES:
        raise SettingsError(f"{path} is damaged: bring it back from a backup, or DICOM patients get new names")
    return secret


def _make_salt(path: Path) -> None:
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(secrets.token_bytes(_SALT_BYTES))
    # Unlike a rename, a link does not replace a file that another process made first.
    with contextlib.suppress(FileExistsError):
        path.hardlink_to(aside)
    aside.unlink()


def pseudonym(key: bytes, *identity: str) -> str:
    """Return a name that is always the same for the same identity and says nothing about it without ``key``."""
    return "dicom-" + hmac.new(key, "\0".join(identity).encode(), hashlib.sha256).hexdigest()[:12]


def _letters(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())
