"""Turn an image file into the 224x224 RGB frame that the network sees, and a frame into augmented views."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ml_backend.errors import FrameUnreadable

SIDE = 224
SHAPE = (SIDE, SIDE, 3)
ROTATION_DEGREES = 10.0
FLIP_PROBABILITY = 0.5

# Part of every cache key: change it whenever `decode` or `augment` gives other values for the same file.
PREPROCESSING = "rgb224-bilinear-2"
# What releases before this one had. Weights that were trained with it still fit: 1 made only 16-bit pictures darker.
EARLIER_PREPROCESSING = ("rgb224-bilinear-1",)

# What browsers and annotation tools show: each further format is one more decoder to attack.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP")
# A progressive JPEG comes in ten or so. Each costs as much time as the whole picture, and may be 75 bytes long.
_MAX_SCANS = 100
_SCAN = b"\xff\xda"


def decode(content: bytes, max_pixels: int = 50_000_000) -> NDArray[np.uint8]:
    """Return the frame (224, 224, 3) uint8 RGB of an image file's bytes.

    Turned upright by its EXIF orientation, resized to the square with bilinear filtering and without keeping the aspect
    ratio. Grey becomes three equal channels; deeper samples keep the 8 highest bits of their depth (`depth_of`);
    transparency shows black; of an animation the first picture counts. Raises FrameUnreadable with the reason.
    """
    rgb = _read(content, SIDE, max_pixels)
    return np.array(rgb.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def whole(content: bytes, max_pixels: int = 50_000_000) -> Image.Image:
    """Return an image file's picture in RGB as `decode` reads it, with all its pixels.

    Raises FrameUnreadable with the reason.
    """
    return _read(content, None, max_pixels)


def thumbnail(content: bytes, side: int, max_pixels: int = 50_000_000) -> Image.Image:
    """Return an image file's picture in RGB as `decode` reads it, but of its own shape, at most ``side`` pixels long.

    Raises FrameUnreadable with the reason.
    """
    rgb = _read(content, side, max_pixels)
    rgb.thumbnail((side, side), Image.Resampling.BILINEAR)
    return rgb


@contextmanager
def opened(content: bytes, max_pixels: int = 50_000_000) -> Iterator[Image.Image]:
    """Open an image file's bytes, for a ``with`` block that reads the picture.

    Raises FrameUnreadable with the reason, also where the bytes turn out in the block to be broken.
    """
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise FrameUnreadable(f"The image has {image.width}x{image.height} pixels, more than {max_pixels:,}.")
            if _is_jpeg(image) and content.count(_SCAN) > _MAX_SCANS:
                raise FrameUnreadable(f"The image is a JPEG with more than {_MAX_SCANS} scans.")
            yield image
    except FrameUnreadable:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise FrameUnreadable(f"The image has more than {max_pixels:,} pixels.") from error
    except UnidentifiedImageError as error:
        raise FrameUnreadable(f"This is no image of a known kind ({', '.join(_FORMATS)}).") from error
    except Exception as error:  # broken bytes make Pillow's decoders raise errors of a dozen kinds
        raise FrameUnreadable(f"The image is damaged or truncated: {error}.") from error


def _is_jpeg(image: Image.Image) -> bool:
    return image.format in ("JPEG", "MPO") or image.info.get("compression") == "jpeg"  # within a TIFF


def _read(content: bytes, side: int | None, max_pixels: int) -> Image.Image:
    """Read the picture in an image file, upright and in RGB, with both sides ``side`` long or longer where they are.

    Without ``side``, it has all its pixels.
    """
    with opened(content, max_pixels) as image:
        if side is not None:
            # A JPEG decodes at half, a quarter or an eighth of its size: the same picture in less than half the time.
            image.draft(None, (side, side))
        image.load()
        return _upright(_rgb(image), image)


def depth_of(values: NDArray[np.integer]) -> int:
    """Return the bit depth of a picture: the smallest of 8, 10, 12, 14 and 16 that holds its brightest sample.

    A 16-bit file often holds samples of a scanner that has 10 or 12 bits, and does not say so.
    """
    brightest = int(values.max(initial=0))
    return next((bits for bits in (8, 10, 12, 14) if brightest < 2**bits), 16)


def augment(frame: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the frame (h, w, 3) uint8 rotated by up to 10 degrees, mirrored every other time, corners black."""
    angle = rng.uniform(-ROTATION_DEGREES, ROTATION_DEGREES)
    mirrored = rng.random() < FLIP_PROBABILITY
    image = Image.fromarray(frame).rotate(angle, Image.Resampling.BILINEAR, fillcolor=(0, 0, 0))
    return np.array(ImageOps.mirror(image) if mirrored else image)


def views(frame: NDArray[np.uint8], count: int, seed: bytes) -> NDArray[np.uint8]:
    """Return `count` views (count, 224, 224, 3) uint8 of a frame: first itself, then augmented ones drawn from `seed`.

    The same frame and seed always give the same views; a larger `count` only adds views at the end.
    """
    rng = np.random.default_rng(int.from_bytes(seed, "big"))
    return np.stack([frame if view == 0 else augment(frame, rng) for view in range(count)])


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        values = np.asarray(image)
        return Image.fromarray((values >> (depth_of(values) - 8)).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise FrameUnreadable("The image has 32-bit samples, whose range nobody can know: save it with 8 or 16 bits.")
    if image.has_transparency_data:
        visible = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", visible.size, (0, 0, 0, 255)), visible).convert("RGB")
    return image.convert("RGB")


def _upright(rgb: Image.Image, source: Image.Image) -> Image.Image:
    try:
        orientation = source.getexif().get(_ORIENTATION)
    except Exception:  # as browsers do: show a picture with broken EXIF as it is stored
        return rgb
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return rgb if turn is None else rgb.transpose(turn)


_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
