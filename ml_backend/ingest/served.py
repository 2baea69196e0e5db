"""Pictures in the folder that Label Studio serves as local files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from PIL import Image

from ml_backend.errors import BackendError
from ml_backend.store.files import written_aside

_SERVED = "/data/local-files/"


def picture_name(picture: Image.Image) -> str:
    """Return the file name of a picture: a hash of its pixels, so that no picture is stored twice."""
    pixels = f"{picture.mode} {picture.width} {picture.height} ".encode() + picture.tobytes()
    return hashlib.sha256(pixels).hexdigest()[:32] + ".png"


def write_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture as PNG, or raise BackendError.

    PNG and not JPEG: the clips are compressed already, and a second lossy coding would change the speckle that people
    and network look at.
    """
    try:
        with written_aside(path, durable=False) as file:
            picture.save(file, format="PNG", compress_level=1)
    except OSError as error:
        raise BackendError(f"{path}: {error.strerror or error}; make room, or choose another --frames") from error


def served_address(place: str) -> str:
    """Return the address under which Label Studio serves a path below its document root."""
    return f"{_SERVED}?d={quote(place)}"


def served_path(value: object) -> str | None:
    """Return the path below the document root that an address of Label Studio's local files names."""
    if not isinstance(value, str):
        return None
    try:
        address = urlsplit(value)
    except ValueError:
        return None
    if address.path.rstrip("/") != _SERVED.rstrip("/"):
        return None
    place = parse_qs(address.query).get("d")
    return place[0].lstrip("/") if place else None
