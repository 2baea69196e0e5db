"""Where frames come from: the patient and the clip of a file, without telling what a DICOM header says of a person."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_backend.errors import FrameUnreadable, InvalidRequest, SettingsError
from ml_backend.ingest.files import dicom_header, kind_of
from ml_backend.settings import PREFIX

_SALT_FILE = "patient-salt"
_SALT_BYTES = 32


@dataclass(frozen=True)
class ClipFile:
    """A file to import and its name among the others: the path below the folder that was given, with slashes."""

    path: Path
    name: str


@dataclass(frozen=True)
class Origin:
    """Where frames come from, as it may stand in a task; ``known_by`` is "table", "header", "folder" or "file name"."""

    patient: str
    clip: str
    source: str | None
    known_by: str


def read_patients(path: Path) -> dict[str, str]:
    """Read a table with the columns ``file`` and ``patient``: file name, or path below the imported folder, to patient.

    Raises:
        InvalidRequest: where the table cannot be read, lacks a column or gives a file two patients.
    """
    patients: dict[str, str] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            if missing := {"file", "patient"} - set(table.fieldnames or ()):
                raise InvalidRequest(f"{path}: the column {' and the column '.join(sorted(missing))} is missing")
            for row in table:
                name, patient = (row["file"] or "").strip(), (row["patient"] or "").strip()
                if name and patient and patients.setdefault(name, patient) != patient:
                    raise InvalidRequest(f"{path}: {name} has two patients, {patients[name]} and {patient}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidRequest(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    return patients


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
    # Unlike a rename, a link leaves the one that another process made first.
    with contextlib.suppress(FileExistsError):
        path.hardlink_to(aside)
    aside.unlink()


def pseudonym(key: bytes, *identity: str) -> str:
    """Return a name that is always the same for the same identity and says nothing about it without ``key``."""
    return "dicom-" + hmac.new(key, "\0".join(identity).encode(), hashlib.sha256).hexdigest()[:12]


def origin_of(file: ClipFile, patients: Mapping[str, str], data_dir: Path) -> Origin:
    """Say which patient and clip a file is of.

    The patient is the table's, else the DICOM header's, else the folder's below the one imported, else the file's name
    without suffix. Of a DICOM file nothing but keyed hashes is told, or the table's patient.

    Raises:
        FrameUnreadable: where a DICOM header cannot be read, or the table's patient is that header's own.
    """
    listed = patients.get(file.name) or patients.get(file.path.name)
    folder = Path(file.name).parent.name
    if kind_of(file.path) != "dicom":
        known_by = "table" if listed else "folder" if folder else "file name"
        return Origin(listed or folder or file.path.stem, file.name, file.path.name, known_by)
    key, header = salt(data_dir), dicom_header(file.path)
    clip = pseudonym(key, "clip", str(header.get("SOPInstanceUID") or file.name))
    identity = _identity(header)
    if listed:
        if _letters(listed) in {_letters(value) for value in identity}:
            raise FrameUnreadable("the table's patient is the one in the DICOM header: give a pseudonym in the table")
        return Origin(listed, clip, None, "table")
    if identity:
        return Origin(pseudonym(key, "patient", identity[0]), clip, None, "header")
    known_by = "folder" if folder else "file name"
    return Origin(pseudonym(key, known_by, folder or file.path.stem), clip, None, known_by)


def _identity(header: Any) -> list[str]:
    """Return what the header says of who the patient is, the identifier first, without what is empty."""
    told = (str(header.get(tag) or "").strip() for tag in ("PatientID", "PatientName", "OtherPatientIDs"))
    return [value for value in told if value]


def _letters(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())
