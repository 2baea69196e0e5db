"""A folder that is written as a whole for people: filled aside, and moved into place when nothing is missing."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ml_backend.errors import InvalidRequest, NotWritten
from ml_backend.store.files import folder_aside


@contextmanager
def replaced(folder: Path, is_ours: Callable[[Path], bool], what: str) -> Iterator[Path]:
    """Give an empty folder to fill, and put it in the place of ``folder`` at the end; after an error nothing is left.

    ``folder`` must not exist yet, be empty, or be an earlier one, which ``is_ours`` recognises; ``what`` names such a
    folder in errors, like "an export". What a killed process left at the same place is removed. Raises InvalidRequest
    for another folder, and NotWritten where the disk is full or cannot be written.
    """
    require_free(folder, is_ours, what)
    folder = folder.resolve()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _restore(folder)
        _remove_leftovers(folder)
        place = folder_aside(folder)
        with _held(place):
            try:
                yield place
                os.sync()
                _move(place, folder)
            except BaseException:
                shutil.rmtree(place, ignore_errors=True)
                raise
    except OSError as error:
        raise NotWritten(_explained(error, folder)) from error


def require_free(folder: Path, is_ours: Callable[[Path], bool], what: str) -> None:
    """Raise InvalidRequest unless this place may be taken: by nothing, an empty folder, or an earlier one of ours."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InvalidRequest(f"{folder} is a file; name a folder with --to")
    if folder.resolve().is_mount():
        raise InvalidRequest(
            f"{folder} is where a disk is mounted and cannot be moved; name a folder below it with --to"
        )
    if any(folder.iterdir()) and not is_ours(folder):
        raise InvalidRequest(f"{folder} holds something other than {what}; name a new or an empty folder with --to")


def _move(place: Path, folder: Path) -> None:
    """Put a filled folder into its place; what was there stays until then, under another name."""
    before = _away(place)
    with suppress(FileNotFoundError):
        folder.rename(before)
    try:
        place.rename(folder)
    except BaseException:
        with suppress(FileNotFoundError):
            before.rename(folder)
        raise
    shutil.rmtree(before, ignore_errors=True)


def _away(place: Path) -> Path:
    """Where the folder that is replaced lies for a moment."""
    return place.with_name(place.name.replace(".aside-", ".removed-", 1))


def _restore(folder: Path) -> None:
    """Bring the earlier folder back where a process was killed after it had moved it away."""
    for before in _leftovers(folder, "removed"):
        if not folder.exists():
            before.rename(folder)


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left behind. A folder that a running process fills is locked, and stays."""
    for place in [*_leftovers(folder, "aside"), *_leftovers(folder, "removed")]:
        with suppress(BlockingIOError), _held(place):
            shutil.rmtree(place)


def _leftovers(folder: Path, kind: str) -> list[Path]:
    named = re.compile(rf"\.{kind}-{re.escape(folder.name)}-[0-9a-f]{{32}}")
    return sorted(path for path in folder.parent.iterdir() if named.fullmatch(path.name))


@contextmanager
def _held(place: Path) -> Iterator[None]:
    """Hold a folder, so that no other process takes it for a leftover; raises BlockingIOError where one holds it."""
    handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _explained(error: OSError, folder: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{folder}: no room is left on the disk; make some, or name a folder on another disk with --to"
    return f"{folder} cannot be written ({error.strerror or error}); name another folder with --to"
