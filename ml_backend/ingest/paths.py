"""Which files an import reads: those named, and those below the folders named."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ml_backend.errors import FrameUnreadable, InvalidRequest
from ml_backend.ingest.files import kind_of


@dataclass(frozen=True)
class ClipFile:
    """A file to import.

    ``name`` is its path below ``root``, with slashes. ``root`` is the folder that was given, or for files that were
    given one by one (``single``) the folder that they share.
    """

    path: Path
    name: str
    root: Path
    single: bool = False

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders between ``root`` and the file, the uppermost first."""
        return Path(self.name).parent.parts


def find_files(
    paths: Sequence[Path], *, leave_out: Path | None = None
) -> tuple[list[ClipFile], list[tuple[Path, str]]]:
    """List the files to import, sorted by name, each once, and what cannot be read below the folders, with the reason.

    A folder stands for every file below it that can be imported, except hidden ones and those below ``leave_out``. A
    file stands for itself, whatever its type. Links to folders are not followed. Raises InvalidRequest for a path that
    does not exist, and if there is nothing to import.
    """
    for path in paths:
        if not path.exists():
            raise InvalidRequest(f"{path}: no such file or folder")
    singles = [_absolute(path) for path in paths if not path.is_dir()]
    shared = Path(os.path.commonpath([path.parent for path in singles])) if singles else Path()
    found = [ClipFile(path, path.relative_to(shared).as_posix(), shared, single=True) for path in singles]
    failed: dict[Path, str] = {}
    for folder in (_absolute(path) for path in paths if path.is_dir()):
        below = _below(folder, leave_out.resolve() if leave_out else None, failed)
        found += [ClipFile(path, path.relative_to(folder).as_posix(), folder) for path in below]
    once = {file.path.resolve(): file for file in reversed(found)}
    if not once and not failed:
        raise InvalidRequest(f"nothing to import in {', '.join(map(str, paths))}: no video, picture or DICOM file")
    return sorted(once.values(), key=lambda file: (file.name, file.path)), sorted(failed.items())


def _absolute(path: Path) -> Path:
    whole = path.absolute()
    # A folder's name may be a patient's, and “..” is no name.
    return whole.resolve() if ".." in whole.parts else whole


def _below(top: Path, leave_out: Path | None, failed: dict[Path, str]) -> Iterator[Path]:
    def unreadable(error: OSError) -> None:
        failed[Path(error.filename)] = f"the folder cannot be read ({error.strerror})"

    for parent, folders, names in os.walk(top, onerror=unreadable):
        inner = [Path(parent, name) for name in folders if not _left_out(Path(parent, name), leave_out)]
        folders[:] = [path.name for path in inner]
        for path in inner:
            # What a link within the tree leads to is found in its own place.
            if path.is_symlink() and not path.resolve().is_relative_to(top.resolve()):
                failed[path] = "it is a link to a folder, and those are not followed: import the folder itself"
        for path in (Path(parent, name) for name in names if name != "DICOMDIR"):
            if not _left_out(path, leave_out) and _may_be_read(path, failed):
                yield path


def _left_out(path: Path, leave_out: Path | None) -> bool:
    return path.name.startswith(".") or (leave_out is not None and path.resolve().is_relative_to(leave_out))


def _may_be_read(path: Path, failed: dict[Path, str]) -> bool:
    try:
        if path.is_symlink() and not path.exists():
            failed[path] = "it is a link that leads nowhere"
        return path.is_file() and kind_of(path) is not None
    except OSError as error:
        failed[path] = error.strerror or str(error)
        return False
    except FrameUnreadable:
        return True  # a file that cannot be opened is reported later, with its reason
