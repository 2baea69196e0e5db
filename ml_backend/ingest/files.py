"""Read files: videos, GIFs, stills and DICOM, as frames sampled by time.

Files come from anywhere, so none is trusted: only the containers that `videos` names are opened, never a playlist that
refers to other files, and sizes are checked before anything is decoded. Any fault of a file ends as one
`FrameUnreadable` with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

from PIL import Image, ImageOps

from ml_backend.errors import FrameUnreadable
from ml_backend.ingest.cut import WHOLE, Cut
from ml_backend.ingest.dicom import dicom_frames
from ml_backend.ingest.pictures import ClipFrame, check_size, one_line, plain, without_values, without_warnings
from ml_backend.ingest.videos import video_frames

Kind = Literal["video", "still", "dicom"]

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".avi", ".mov", ".mpeg", ".mpg", ".gif"})
STILL_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
DICOM_SUFFIXES = frozenset({".dcm", ".dicom"})


def kind_of(path: Path) -> Kind | None:
    """Tell what a file is, by its content first and by its suffix second; None for what this module does not read."""
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError as error:
        raise FrameUnreadable(error.strerror or str(error)) from error
    if start[128:] == b"DICM":
        return "dicom"
    if start.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")):
        return "still"
    suffix = path.suffix.lower()
    if start.startswith((b"GIF87a", b"GIF89a")) or suffix in VIDEO_SUFFIXES:
        return "video"
    if suffix in STILL_SUFFIXES:
        return "still"
    return "dicom" if suffix in DICOM_SUFFIXES else None


def checked_kind(path: Path) -> Kind:
    """Tell what a file is, or raise FrameUnreadable for one that is empty or of no kind that is read here."""
    kind = kind_of(path)
    if kind is None:
        raise FrameUnreadable("not a video, a picture or a DICOM file that can be read here")
    if path.stat().st_size == 0:
        raise FrameUnreadable("the file is empty")
    return kind


def frames_of(path: Path, every: Fraction, cut: Cut = WHOLE) -> Iterator[ClipFrame]:
    """Yield the frames of one file, the first at or after each multiple of ``every`` seconds (0: all of them).

    ``cut`` is what is taken of each picture. Only one frame is in memory at a time. A file that is damaged in the
    middle gives the frames up to there first. What comes from strangers is read by `FramesApart`.
    """
    yield from frames_of_kind(checked_kind(path), path, every, cut)


def frames_of_kind(kind: Kind, path: Path, every: Fraction, cut: Cut = WHOLE) -> Iterator[ClipFrame]:
    """Yield the frames of a file of which `checked_kind` was asked, as `frames_of` does."""
    read = {"video": video_frames, "still": _still, "dicom": dicom_frames}[kind]
    nothing = True
    try:
        for frame in read(path, every):
            nothing = False
            yield frame if cut == WHOLE else replace(frame, picture=plain(cut.applied(frame.picture)))
    except FrameUnreadable:
        raise
    except Exception as error:  # the decoders raise nearly any class for a malformed file
        raise FrameUnreadable(without_values(error) if kind == "dicom" else one_line(error)) from error
    if nothing:
        raise FrameUnreadable("it has no frames")


def _still(path: Path, every: Fraction) -> Iterator[ClipFrame]:
    del every
    with without_warnings():  # Pillow warns where this module refuses: the size is checked before a pixel is decoded
        picture = Image.open(path, formats=["JPEG", "PNG"])
    with picture:
        check_size(*picture.size)
        still = plain(ImageOps.exif_transpose(picture))
    yield ClipFrame(still, 0, 0.0)
