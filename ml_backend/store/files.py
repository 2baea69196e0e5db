"""Files that matter: written aside and moved into place, so that a reader never sees half of one.

Files and folders get the permissions that the umask and the folder above them give, so that several users of a group
can share a data folder (``umask 002`` and a folder with the setgid bit). Those of Python's `tempfile` are for one user.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

LEFTOVER_SECONDS = 86_400.0  # no write takes a day: what is older was left by a process that was killed
_LEFTOVER = re.compile(r"\.(aside|removed)-|\..+-[a-z0-9_]{8}$")  # the latter as release 0.1.0 named them


def aside(path: Path) -> Path:
    """A free name beside ``path``, hidden, and recognised by `remove_leftovers`."""
    return path.parent / f".aside-{path.name}-{uuid4().hex}"


@contextmanager
def written_aside(path: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """Give a file to write to and move it to ``path`` at the end; after an error nothing of it is left.

    ``durable`` waits until the content is on the disk; without it a power cut may leave an empty or a broken file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    place = aside(path)
    try:
        with place.open("xb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        place.replace(path)
    except BaseException:
        place.unlink(missing_ok=True)
        raise


def write_aside(path: Path, text: str) -> None:
    """Write a text file beside its place, flush it and move it there: a reader sees the old text or the new, whole."""
    with written_aside(path) as file:
        file.write(text.encode())


def folder_aside(path: Path) -> Path:
    """Make a folder beside ``path``, to be filled and renamed to it."""
    place = aside(path)
    place.mkdir(parents=True)
    return place


def remove_leftovers(folder: Path, deep: bool = True) -> int:
    """Remove what killed writers left in ``folder`` and, if ``deep``, anywhere below it; returns how much that was."""
    removed = 0
    oldest = time.time() - LEFTOVER_SECONDS
    for parent, folders, files in os.walk(folder):
        for name in [name for name in (*folders, *files) if _LEFTOVER.match(name)]:
            path = Path(parent, name)
            with suppress(OSError):  # gone meanwhile, or another user's
                if path.lstat().st_mtime >= oldest:
                    continue
                if name in folders:
                    folders.remove(name)
                    shutil.rmtree(path)
                else:
                    path.unlink()
                removed += 1
        if not deep:
            break
    return removed


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object that may not be there yet."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return value if isinstance(value, dict) else None


def flush(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_room(folder: Path, size: int) -> None:
    """Write ``size`` bytes in ``folder`` and remove them, so that an OSError comes before long work, not after it."""
    folder.mkdir(parents=True, exist_ok=True)
    trial = aside(folder / "room")
    try:
        trial.write_bytes(bytes(size))
    finally:
        trial.unlink(missing_ok=True)
