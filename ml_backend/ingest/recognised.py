"""Recognise the clips that a project has already: by their pictures, since names depend on the folder imported."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fractions import Fraction
from pathlib import Path

from ml_backend.errors import FrameUnreadable
from ml_backend.ingest.apart import FramesApart, Limits
from ml_backend.ingest.cut import WHOLE, Cut
from ml_backend.ingest.imported import Imported
from ml_backend.ingest.origins import Origin
from ml_backend.ingest.paths import ClipFile
from ml_backend.ingest.storage import picture_name

_EVERY_FRAME = Fraction(0)
_ENOUGH = 3  # pictures in common: clips of different patients may begin with the same black or title picture


def shows(path: Path, pictures: Collection[str], cut: Cut = WHOLE, limits: Limits | None = None) -> bool:
    """Say whether a file shows the clip of which these pictures are in the project; True where it cannot be read."""
    found: set[str] = set()
    nothing = True
    try:
        for frame in FramesApart(path, _EVERY_FRAME, cut, limits=limits):
            nothing = False
            if (name := picture_name(frame.picture)) in pictures:
                found.add(name)
            if len(found) >= min(_ENOUGH, len(pictures)):
                return True
    except FrameUnreadable:
        return nothing or bool(found)
    return False


def clip_elsewhere(
    file: ClipFile,
    origin: Origin,
    origins: Mapping[str, Origin],
    there: Imported,
    cut: Cut,
    limits: Limits | None = None,
) -> str | None:
    """Return the project's clip that a file with a new name shows under another patient, if there is one.

    ``origins`` has the clips of this import by name: a copy of one of them is no other patient's clip.
    """
    first = _first_picture(file.path, cut, limits)
    held = there.holders.get(first) if first else None
    if held is None or held.patient in ("", origin.patient):
        return None
    also = origins.get(held.clip)
    if also is not None and also.patient == held.patient:
        return None
    return held.clip if shows(file.path, there.names[held.clip], cut, limits) else None


def _first_picture(path: Path, cut: Cut, limits: Limits | None) -> str | None:
    try:
        # However a clip is sampled, its first frame is among those chosen.
        return picture_name(next(iter(FramesApart(path, _EVERY_FRAME, cut, limits=limits))).picture)
    except FrameUnreadable:
        return None
