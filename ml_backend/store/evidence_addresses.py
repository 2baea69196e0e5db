"""Signed addresses of evidence pictures. Anyone who knows an address may see its picture; none can be guessed.

An address contains the project and a digest of the frame's own address. It is signed with a key that only this
installation has. A picture that is written as a file is named after its signature alone.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from functools import cached_property
from urllib.parse import quote

from ml_backend.settings import Settings
from ml_backend.store.secret import kept_secret

FILE = "evidence-key"
FOLDER = "tsal-evidence"
"""The folder for pictures, below Label Studio's document root."""
SUFFIX = ".svg"
_PROJECT = re.compile(r"[0-9]{1,18}")
_NAME = re.compile(r"[0-9a-f]{32}")
_SIGNATURE = re.compile(r"[0-9a-f]{40}")


def name_of(url: str) -> str:
    """Return a frame's name, 32 hexadecimal digits derived from its address in the task's data."""
    return hashlib.sha256(url.encode(errors="replace")).hexdigest()[:32]


class EvidenceAddresses:
    """Creates and checks the addresses of one installation."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def key(self) -> str:
        """The key of a task's data that holds the address."""
        return self._settings.evidence_key

    def of(self, project: int, url: str) -> str:
        """Return the address of the picture for the frame at ``url``, to be stored in the task's data."""
        if self._settings.evidence_files:
            return f"/data/local-files/?d={quote(self.file(project, url))}"
        name = name_of(url)
        base = self._settings.public_url or self._settings.backend_url
        return f"{base}/evidence/{project}/{name}/{self._signature(project, name)}{SUFFIX}"

    def file(self, project: int, url: str) -> str:
        """Return the path of the frame's picture below Label Studio's document root, used if pictures are files."""
        return f"{FOLDER}/{project}/{self._signature(project, name_of(url))}{SUFFIX}"

    def is_signed(self, project: str, name: str, signature: str) -> bool:
        """Return whether a requested address was signed by this installation for this project and frame."""
        if not _PROJECT.fullmatch(project) or not _NAME.fullmatch(name) or not _SIGNATURE.fullmatch(signature):
            return False
        return hmac.compare_digest(self._signature(project, name), signature)

    def _signature(self, project: int | str, name: str) -> str:
        return hmac.new(self._secret, f"evidence {project} {name}".encode(), hashlib.sha256).hexdigest()[:40]

    @cached_property
    def _secret(self) -> bytes:
        or_else = "restore it from a backup, or remove it and run `tsal evidence` for each project"
        return kept_secret(self._settings.data_dir / FILE, or_else)
