"""Keyed hashes in place of what a DICOM header says, and this installation's secret for them."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

from ml_backend.errors import SettingsError
from ml_backend.settings import PREFIX
from ml_backend.store.secret import BYTES, kept_secret

_FILE = "patient-salt"
_PSEUDONYM = re.compile(r"dicom-[0-9a-f]{12}")


def pseudonym(key: bytes, *identity: str) -> str:
    """Return a name that is always the same for the same identity and says nothing about it without ``key``."""
    return "dicom-" + hmac.new(key, "\0".join(identity).encode(), hashlib.sha256).hexdigest()[:12]


def patient_name(key: bytes, identity: Iterable[str]) -> str:
    """Return what a patient is called whom DICOM headers identify so, wherever the header comes from."""
    return pseudonym(key, "patient", *identity)


def clip_name(key: bytes, instance: str) -> str:
    """Return what the clip with this SOP Instance UID is called, wherever it comes from."""
    return pseudonym(key, "clip", instance)


def salt(data_dir: Path, patients: Iterable[str] = (), dry_run: bool = False) -> bytes:
    """Return this installation's secret for `pseudonym`, made on first use.

    ``patients`` are those of the project: if some have names made with a secret, that secret must be here. A dry run
    gets one that is not kept. Raises SettingsError where it cannot be kept, is damaged, or is needed and missing.
    """
    path = data_dir / _FILE
    if not path.exists():
        if any(map(_PSEUDONYM.fullmatch, patients)):
            raise SettingsError(
                f"{path} is missing, and the project has patients whose names were made with it (dicom-…): with "
                f"another one, the same people would become new patients. Set {PREFIX}DATA_DIR to the data folder "
                f"of the earlier imports, or bring the file {_FILE} back from a backup"
            )
        if dry_run:
            return secrets.token_bytes(BYTES)
    return kept_secret(path, "bring it back from a backup, or DICOM patients get new names")
