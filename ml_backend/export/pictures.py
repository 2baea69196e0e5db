"""The pictures of an export: copied without anything in the file but the picture, or only measured."""

from __future__ import annotations

import io
import struct
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from ml_backend.errors import FrameUnreadable
from ml_backend.export.rows import Row
from ml_backend.frames.frame import Fetcher
from ml_backend.msml.frames import opened, whole

FOLDER = "frames"
_SUFFIXES = {"PNG": ".png", "JPEG": ".jpg"}
# What a PNG file needs to show its picture. The other parts can hold texts, times and EXIF.
_OF_PICTURE = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD", b"pHYs"}
_OF_JPEG = {"APP0", "APP14"}  # JFIF, and how Adobe codes colours; the others hold EXIF, comments and the like


@dataclass(frozen=True)
class Picture:
    """A picture's file, with its usual suffix, and its size (width, height) in pixels."""

    content: bytes
    suffix: str
    size: tuple[int, int]


def bare(content: bytes) -> Picture:
    """Return an image file without texts, times, EXIF and comments, in which a patient could be named.

    A PNG or JPEG file that has none is left as it is. Any other becomes a PNG file with the same picture, upright, in
    8 bits. Raises FrameUnreadable with the reason.
    """
    with opened(content) as image:
        image.load()
        if image.format in _SUFFIXES and _holds_only_its_picture(image, content):
            return Picture(content, _SUFFIXES[image.format], image.size)
    picture, made = whole(content), io.BytesIO()
    picture.save(made, "PNG")
    return Picture(made.getvalue(), ".png", picture.size)


def with_pictures(
    rows: Sequence[Row], fetcher: Fetcher, workers: int, folder: Path | None
) -> Generator[tuple[Row, str], None, None]:
    """Read the pictures of rows, ``workers`` at once, and yield each row with its size and an empty reason.

    With a ``folder``, copies are written below it, and the rows say where. A picture that cannot be read costs only its
    row, which is yielded as it was, with the reason. Raises StudioUnavailable where Label Studio does not answer, and
    OSError where a copy cannot be written.
    """

    def read(row: Row) -> tuple[Row, str]:
        try:
            picture = bare(fetcher.fetch(row.image, row.task))
        except FrameUnreadable as error:
            return row, str(error)
        if folder is None:
            return replace(row, size=picture.size), ""
        place = f"{FOLDER}/{row.split}/{row.task:08}{picture.suffix}"
        (folder / place).write_bytes(picture.content)
        return replace(row, size=picture.size, image=place), ""

    if folder is not None:
        for part in {one.split for one in rows}:
            (folder / FOLDER / part).mkdir(parents=True)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="export")
    try:
        yield from pool.map(read, rows)
    finally:
        pool.shutdown(cancel_futures=True)


def _holds_only_its_picture(image: Image.Image, content: bytes) -> bool:
    if image.format == "PNG":
        return set(_chunks(content)) <= _OF_PICTURE
    return {name for name, _ in getattr(image, "applist", ())} <= _OF_JPEG and content.endswith(b"\xff\xd9")


def _chunks(content: bytes) -> Iterator[bytes]:
    """Yield the kinds of a PNG file's chunks; what follows the last one counts as one of no known kind."""
    place = 8
    while place < len(content):
        length, kind = struct.unpack(">I4s", content[place : place + 8].ljust(8, b"\0"))
        yield kind
        place += 12 + length
