"""Secrets that an installation generates and keeps in its data folder."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from ml_backend.errors import SettingsError
from ml_backend.settings import PREFIX
from ml_backend.store.files import aside
from ml_backend.store.format import mark, require_readable

BYTES = 32


def kept_secret(path: Path, if_damaged: str) -> bytes:
    """Return the secret (32 bytes) in a file that only its owner may read, generating it on first use.

    The file lies at the top of a data folder. If a group shares the folder, the group may read it too: see
    `store.files`. Raises SettingsError if the file cannot be made or read, and if it is damaged; ``if_damaged`` then
    says what to do. Raises DataTooNew if a newer release wrote the data folder.
    """
    try:
        require_readable(path.parent)
        if not path.exists():
            mark(path.parent)
            _make(path)
        secret = path.read_bytes()
    except OSError as error:
        or_else = ", or let the file's owner run `chmod g+r` on it" if isinstance(error, PermissionError) else ""
        raise SettingsError(f"{path}: {error.strerror}; check {PREFIX}DATA_DIR{or_else}") from error
    if len(secret) != BYTES:
        raise SettingsError(f"{path} is damaged: {if_damaged}")
    return secret


def _make(path: Path) -> None:
    place = aside(path)
    with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secrets.token_bytes(BYTES))
    folder = path.parent.stat()
    if folder.st_mode & stat.S_IWGRP:
        with contextlib.suppress(PermissionError):
            os.chown(place, -1, folder.st_gid)
            place.chmod(0o640)
    # Unlike a rename, a link does not replace a file that another process made first.
    with contextlib.suppress(FileExistsError):
        path.hardlink_to(place)
    place.unlink()
