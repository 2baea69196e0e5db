"""The format of the data folder: which number this release writes, and which it can read.

The folder as a whole has one number, in `format.json` at its top, and each version has one in its manifest, because
versions are copied singly from one installation to another. All other files are only ever moved with the folder. Raise
`PRESENT` when an older release could misread what this one writes; a field with a default needs no new number.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ml_backend import __version__
from ml_backend.errors import DataTooNew, SettingsError
from ml_backend.store.files import write_aside

FILE = "format.json"
PROJECTS = "projects"
"""Folder with a folder for each connected project."""
IMPORTS = "imports"
"""Folder with what imports keep of each project, connected or not."""
FIRST = 1
"""The format of release 0.1.0, which wrote no number."""
PRESENT = 2
"""The format that this release writes; it reads this one and all before it."""


class Stamp(BaseModel):
    """The format of a file or a folder, and the release that wrote it, empty if unknown."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: int = FIRST
    written_by: str = ""


NOW = Stamp(format=PRESENT, written_by=__version__)


def refuse_newer(stamp: Stamp, what: str) -> None:
    """Raise DataTooNew if this release cannot read the format; ``what`` names the file or folder."""
    if stamp.format > PRESENT:
        writer = stamp.written_by or "a newer release"
        raise DataTooNew(
            f"{what} has format {stamp.format}, written by lung-ultrasound-annotator {writer}; this is {__version__}, "
            f"which reads formats up to {PRESENT}: install {stamp.written_by or 'that release'} or a newer one"
        )


def require_readable(data_dir: Path) -> Stamp:
    """Return the format of a data folder, that of 0.1.0 if it has no number.

    Raises:
        DataTooNew: if a newer release wrote it in a format that this one cannot read.
        SettingsError: if the file with the number is damaged.
    """
    path = data_dir / FILE
    try:
        state = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return Stamp()
    stamp = _read(path, state.st_mtime_ns, state.st_size)
    refuse_newer(stamp, f"the data folder {data_dir}")
    return stamp


def mark(data_dir: Path) -> None:
    """Write the present number into a data folder that is new or has an older one; whoever calls is about to write."""
    if require_readable(data_dir).format < PRESENT:
        write_aside(data_dir / FILE, NOW.model_dump_json() + "\n")


@lru_cache(maxsize=16)
def _read(path: Path, written_ns: int, size: int) -> Stamp:
    """Each opening of a store asks for it, so the file is parsed once."""
    try:
        return Stamp.model_validate_json(path.read_bytes())
    except ValidationError:
        raise SettingsError(
            f"{path} is damaged: bring it back from a backup, or remove it if only this release and older ones have "
            "used the folder"
        ) from None
