"""Single frames: what a reader yields, sampling by time, limits of size, and pixels with 8 bits."""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml_backend.errors import FrameUnreadable
from ml_backend.msml.frames import depth_of

MAX_PIXELS = 40_000_000
MAX_FRAMES = 100_000
_QUOTED = re.compile(r"['\"].*['\"]")


@dataclass(frozen=True)
class ClipFrame:
    """One frame of a file.

    ``picture`` has mode L or RGB, 8 bits, and carries no metadata; ``frame`` counts the file's frames from 0; ``time``
    is in seconds from the first frame, 0 for a still.
    """

    picture: Image.Image
    frame: int
    time: float


class Sampler:
    """Choose the first frame at or after each multiple of ``every`` seconds; 0 chooses every frame."""

    def __init__(self, every: Fraction) -> None:
        self._every = every
        self._due = Fraction(0)

    def takes(self, time: Fraction) -> bool:
        """Say whether the frame at ``time`` is chosen (seconds; from call to call it must not fall)."""
        if time < self._due:
            return False
        if self._every:
            # Counted on the grid and not from the frame before, or uneven frame rates would make the steps drift.
            self._due = (time // self._every + 1) * self._every
        return True


def scaled(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Return values with 8 bits: ``low`` and less as 0, ``high`` and more as 255."""
    if values.dtype == np.uint8 and (low, high) == (0, 255):
        return values
    share = (values.astype(np.float64) - low) / (high - low)
    return (share.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def plain(picture: Image.Image) -> Image.Image:
    """Return the bare pixels: grey if the picture is grey, else RGB, transparency on black, no metadata."""
    if picture.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
        values = np.asarray(picture)
        picture = Image.fromarray(scaled(values, 0, 2 ** depth_of(values) - 1))
    if picture.has_transparency_data:
        shown = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", shown.size, "black"), shown)
    colours = np.asarray(picture.convert("RGB"))
    red, green, blue = np.moveaxis(colours, -1, 0)
    grey = np.array_equal(red, green) and np.array_equal(red, blue)
    return Image.fromarray(np.ascontiguousarray(red) if grey else colours)


def check_size(width: int, height: int) -> None:
    """Raise FrameUnreadable for a picture with too many pixels."""
    if width * height > MAX_PIXELS:
        raise FrameUnreadable(f"{width} x {height} is larger than the {MAX_PIXELS // 10**6} million pixels allowed")


def check_count(count: int) -> None:
    """Raise FrameUnreadable for a clip with too many frames."""
    if count > MAX_FRAMES:
        raise FrameUnreadable(f"it has more than the {MAX_FRAMES} frames allowed: cut it into shorter clips")


class _Silence:
    """Hides warnings while at least one thread asks for it.

    Python's list of filters is one for all threads: the first thread replaces it, and the last one puts it back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asking = 0
        self._filters = ExitStack()

    def begin(self) -> None:
        with self._lock:
            if not self._asking:
                self._filters.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
            self._asking += 1

    def end(self) -> None:
        with self._lock:
            self._asking -= 1
            if not self._asking:
                self._filters.close()


_SILENCE = _Silence()


@contextmanager
def without_warnings() -> Iterator[None]:
    """Hide what libraries warn of; meanwhile other threads see no warnings either."""
    _SILENCE.begin()
    try:
        yield
    finally:
        _SILENCE.end()


def one_line(error: BaseException) -> str:
    """Return the reason that an error gives, in one line."""
    # libav's errors quote a number and a name that say nothing.
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split()) or type(error).__name__


def without_values(error: BaseException) -> str:
    """Return the reason that an error gives, without what it quotes: of a DICOM header that may be a name."""
    text = _QUOTED.sub("…", one_line(error))
    return type(error).__name__ if text == "…" else text
