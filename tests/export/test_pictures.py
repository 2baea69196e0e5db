"""The pictures of an export hold nothing but the picture."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ml_backend.errors import FrameUnreadable
from ml_backend.export.pictures import bare

NAME = "Muster"
GREY = np.random.default_rng(0).integers(0, 256, (12, 20), dtype=np.uint8)


def file(kind: str, picture: Image.Image | None = None, **options: Any) -> bytes:
    made = io.BytesIO()
    (picture or Image.fromarray(GREY)).save(made, kind, **options)
    return made.getvalue()


def read(content: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(content)))


def texts() -> PngInfo:
    info = PngInfo()
    info.add_text("Patient", NAME)
    return info


def exif(**tags: Any) -> Image.Exif:
    found = Image.Exif()
    found[0x010E] = NAME  # ImageDescription
    for tag, value in tags.items():
        found[int(tag, 16)] = value
    return found


@pytest.mark.parametrize(("content", "suffix"), [(file("PNG"), ".png"), (file("JPEG"), ".jpg")])
def test_a_file_that_holds_only_its_picture_stays_as_it_is(content: bytes, suffix: str) -> None:
    picture = bare(content)
    assert (picture.content, picture.suffix, picture.size) == (content, suffix, (20, 12))


@pytest.mark.parametrize(
    "content",
    [
        file("PNG", pnginfo=texts()),
        file("PNG", exif=exif()),
        file("PNG") + NAME.encode(),
        file("JPEG", exif=exif()),
        file("JPEG", comment=NAME),
        file("JPEG") + NAME.encode(),
        file("TIFF", description=NAME),
        file("WEBP", lossless=True, exif=exif()),
        file("GIF", comment=NAME),
    ],
    ids=["text", "exif", "behind", "jpeg-exif", "jpeg-comment", "jpeg-behind", "tiff", "webp", "gif"],
)
def test_what_else_a_file_holds_is_left_behind(content: bytes) -> None:
    assert NAME.encode() in content
    picture = bare(content)
    assert NAME.encode() not in picture.content
    assert picture.suffix == ".png"
    assert picture.size == (20, 12)
    before = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert (read(picture.content) == before).all()


def test_a_picture_that_lies_on_its_side_is_turned() -> None:
    picture = bare(file("PNG", exif=exif(**{"0x0112": 6})))
    assert picture.size == (12, 20)
    assert (read(picture.content)[..., 0] == np.rot90(GREY, -1)).all()


def test_of_an_animation_the_first_picture_is_left() -> None:
    first, second = (Image.fromarray(values) for values in (GREY, GREY[::-1]))
    content = file("PNG", first, save_all=True, append_images=[second])
    assert (read(bare(content).content)[..., 0] == GREY).all()


@pytest.mark.parametrize("content", [b"", b"text", file("PNG")[:60]])
def test_what_is_no_picture_is_refused(content: bytes) -> None:
    with pytest.raises(FrameUnreadable):
        bare(content)
