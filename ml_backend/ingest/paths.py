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


def find_files(paths: Sequence[Path], *, leave_out: Path | None = None) -> list[ClipFile]:
    """List the files to import, sorted by name, each once.

    A folder stands for every file below it that can be imported, except hidden ones and those below ``leave_out``. A
    file stands for itself, whatever its type.

    Raises:
        InvalidRequest: if a path does not exist or there is nothing to import.
    """
    for path in paths:
        if not path.exists():
            raise InvalidRequest(f"{path}: no such file or folder")
    singles = [path.absolute() for path in paths if not path.is_dir()]
    shared = Path(os.path.commonpath([path.parent for path in singles])) if singles else Path()
    found = [ClipFile(path, path.relative_to(shared).as_posix(), shared, single=True) for path in singles]
    for folder in (path.absolute() for path in paths if path.is_dir()):
        found += [ClipFile(path, path.relative_to(folder).as_posix(), folder) for path in _below(folder, leave_out)]
    once = {file.path.resolve(): file for file in reversed(found)}
    if not once:
        raise InvalidRequest(f"nothing to import in {', '.join(map(str, paths))}: no video, picture or DICOM file")
    return sorted(once.values(), key=lambda file: (file.name, file.path))


def _below(folder: Path, leave_out: Path | None) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or path.name == "DICOMDIR" or not path.is_file():
            continue
        if leave_out is not None and path.resolve().is_relative_to(leave_out.resolve()):
            continue
        if _may_be_read(path):
            yield path


def _may_be_read(path: Path) -> bool:
    try:
        return kind_of(path) is not None
    except FrameUnreadable:
        return True  # a file that cannot be opened is reported later, with its reason
