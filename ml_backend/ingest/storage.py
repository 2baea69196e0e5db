"""What keeps an import's pictures so that Label Studio can show them: `served.Folder` or `bucket.Bucket`."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import BinaryIO, Protocol

from PIL import Image

from ml_backend.studio.client import Studio


class Storage(Protocol):
    """Keeps pictures under their names (`picture_name`); `keep` is called from several threads."""

    @property
    def folder(self) -> Path | None:
        """The folder of this machine that holds pictures and no clips, if there is one."""

    def address(self, name: str) -> str:
        """Return what a task says of where its picture is."""

    def open(self, studio: Studio, project: int) -> None:
        """Prepare to keep pictures for a project."""

    def keep(self, name: str, picture: Image.Image) -> None:
        """Keep a picture, now or by the next `settle`, unless it is there already."""

    def settle(self) -> None:
        """Return when every picture is kept and Label Studio can show it."""


def picture_name(picture: Image.Image) -> str:
    """Return the file name of a picture: a hash of its pixels, so that no picture is stored twice."""
    pixels = f"{picture.mode} {picture.width} {picture.height} ".encode() + picture.tobytes()
    return hashlib.sha256(pixels).hexdigest()[:32] + ".png"


def is_picture_name(name: str) -> bool:
    """Say whether a file could have its name from `picture_name`."""
    return re.fullmatch(r"[0-9a-f]{32}\.png", name) is not None


def save_png(picture: Image.Image, file: BinaryIO) -> None:
    """Write a picture as PNG.

    PNG and not JPEG: the clips are compressed already, and a second lossy coding would change the speckle that people
    and network look at.
    """
    picture.save(file, format="PNG", compress_level=1)
