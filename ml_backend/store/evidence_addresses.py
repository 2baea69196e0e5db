"""Addresses of the pictures that say why a frame is ticked as it is: who knows one may see it, and nobody can guess it.

An address names its project and a digest of the frame's own address, and is signed with a key that only this
installation has. The name of a file is the signature alone.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from ml_backend.errors import SettingsError
from ml_backend.settings import PREFIX, Settings
from ml_backend.store.secret import BYTES, kept_secret

FILE = "evidence-key"
FOLDER = "tsal-evidence"
"""The folder below Label Studio's document root in which pictures are written."""
SUFFIX = ".svg"
_PROJECT = re.compile(r"[0-9]{1,18}")
_NAME = re.compile(r"[0-9a-f]{32}")
_SIGNATURE = re.compile(r"[0-9a-f]{40}")


def name_of(url: str) -> str:
    """Name a frame, by its address in the task's data: 32 hexadecimal digits."""
    return hashlib.sha256(url.encode(errors="replace")).hexdigest()[:32]


class EvidenceAddresses:
    """Makes and checks the addresses of one installation."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def key(self) -> str:
        """The key of a task's data that the address belongs to."""
        return self._settings.evidence_key

    def of(self, project: int, url: str) -> str:
        """The address that belongs into the task's data of the frame at ``url``."""
        if self._settings.evidence_files:
            return f"/data/local-files/?d={quote(self.file(project, url))}"
        name = name_of(url)
        base = self._settings.public_url or self._settings.backend_url
        return f"{base}/evidence/{project}/{name}/{self._signature(project, name)}{SUFFIX}"

    def file(self, project: int, url: str) -> str:
        """Where the frame's picture lies below Label Studio's document root, if pictures are written there."""
        return f"{FOLDER}/{project}/{self._signature(project, name_of(url))}{SUFFIX}"

    def is_signed(self, project: str, name: str, signature: str) -> bool:
        """Whether an address, as it was asked for, was made here for this project and this frame."""
        if not _PROJECT.fullmatch(project) or not _NAME.fullmatch(name) or not _SIGNATURE.fullmatch(signature):
            return False
        return hmac.compare_digest(self._signature(project, name), signature)

    def _signature(self, project: int | str, name: str) -> str:
        return hmac.new(self._secret, f"evidence {project} {name}".encode(), hashlib.sha256).hexdigest()[:40]

    @cached_property
    def _secret(self) -> bytes:
        path: Path = self._settings.data_dir / FILE
        try:
            key = kept_secret(path)
        except OSError as error:
            raise SettingsError(f"{path}: {error.strerror}; check {PREFIX}DATA_DIR") from error
        if len(key) != BYTES:
            raise SettingsError(
                f"{path} is damaged: bring it back from a backup, or remove it and run `tsal evidence` for each project"
            )
        return key
