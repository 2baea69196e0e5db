"""What is taken of every picture: a crop, and masks that are blacked out, because machines burn names into the picture.

A cut is kept with its project, so that the next import takes the same part of every picture without being told.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ml_backend.errors import FrameUnreadable, InvalidRequest, NotWritten, SettingsError
from ml_backend.settings import PREFIX
from ml_backend.store.files import read_json, write_aside
from ml_backend.store.format import IMPORTS

_FORMAT = 1
_BOX = re.compile(r"\d{1,6}(,\d{1,6}){3}")


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of the picture as it is shown upright, counted from its upper left corner."""

    left: int
    top: int
    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> Box:
        """Read LEFT,TOP,WIDTH,HEIGHT, or raise InvalidRequest."""
        written = text.replace(" ", "")
        if not _BOX.fullmatch(written):
            raise InvalidRequest(f"{text!r} is not LEFT,TOP,WIDTH,HEIGHT in pixels, such as 0,40,800,560")
        box = cls(*map(int, written.split(",")))
        if not box.width or not box.height:
            raise InvalidRequest(f"{text!r} has no pixels: width and height must be 1 or more")
        return box

    def __str__(self) -> str:
        return f"{self.left},{self.top},{self.width},{self.height}"

    def within(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """The part that lies in a picture of this size, as left, top, right and bottom."""
        return self.left, self.top, min(self.left + self.width, size[0]), min(self.top + self.height, size[1])


@dataclass(frozen=True)
class Cut:
    """What is taken of every picture: ``crop`` (None: all of it), with ``masks`` black."""

    crop: Box | None = None
    masks: tuple[Box, ...] = ()

    def __str__(self) -> str:
        crop = [f"crop {self.crop}"] if self.crop else []
        return ", ".join([*crop, *(f"mask {mask}" for mask in self.masks)]) or "whole pictures"

    def told(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {"crop": str(self.crop) if self.crop else None, "masks": [str(mask) for mask in self.masks]}

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Cut:
        """Read what `told` returned; errors of nearly any kind for anything else."""
        return cls(Box.parse(told["crop"]) if told["crop"] else None, tuple(map(Box.parse, told["masks"])))

    def applied(self, picture: Image.Image) -> Image.Image:
        """Return what is taken of a picture with mode L or RGB; FrameUnreadable if crop or mask lie outside it.

        Of a mask only a part needs to lie in the picture, so that one for a line of text fits pictures of any width.
        """
        size = f"the picture, which has {picture.width} x {picture.height} pixels"
        if self.masks:
            picture = picture.copy()
        for mask in self.masks:
            left, top, right, bottom = mask.within(picture.size)
            if left >= right or top >= bottom:
                raise FrameUnreadable(f"the mask {mask} lies outside {size}: what it is to hide could be elsewhere")
            picture.paste(0 if picture.mode == "L" else (0, 0, 0), (left, top, right, bottom))
        if self.crop is None:
            return picture
        area = self.crop.within(picture.size)
        if (area[2] - area[0], area[3] - area[1]) != (self.crop.width, self.crop.height):
            raise FrameUnreadable(f"the crop {self.crop} does not lie within {size}")
        return picture.crop(area)


WHOLE = Cut()


def cut_in_use(data_dir: Path, project: int, asked: Cut | None, has_frames: bool, change: bool) -> Cut:
    """Return the cut for an import: the one asked for, else the one that the project has.

    Raises InvalidRequest if another one than the project's is asked for while it has frames, unless ``change``, and
    SettingsError if the kept one cannot be read.
    """
    kept = _read(_file(data_dir, project))
    if asked is None or asked == kept:
        return kept
    if has_frames and not change:
        raise InvalidRequest(
            f"project {project} has frames with {kept}, and {asked} is asked for: networks and annotators would see "
            "two kinds of pictures. Leave out --crop and --mask to go on as before, import into a new project, or add "
            "--change-crop: new clips are then imported with the new one, and those that are there stay as they are"
        )
    return asked


def keep_cut(data_dir: Path, project: int, cut: Cut) -> None:
    """Keep a project's cut; NotWritten where that fails."""
    path = _file(data_dir, project)
    if _read(path) == cut:
        return
    try:
        write_aside(path, json.dumps({"format": _FORMAT, **cut.told()}) + "\n")
    except OSError as error:
        raise NotWritten(f"{path}: {error.strerror or error}; check {PREFIX}DATA_DIR") from error


def _file(data_dir: Path, project: int) -> Path:
    return data_dir / IMPORTS / f"{project}.json"


def _read(path: Path) -> Cut:
    try:
        told = read_json(path) if path.exists() else {"format": _FORMAT, "crop": None, "masks": []}
        if told is None:
            raise ValueError
        if told["format"] != _FORMAT:
            raise SettingsError(f"{path} is of another release of this package: use that one, or a newer one")
        return Cut.read(told)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or error}; check {PREFIX}DATA_DIR") from error
    except (ValueError, KeyError, TypeError, AttributeError, InvalidRequest) as error:
        raise SettingsError(
            f"{path} is damaged: bring it back from a backup, or delete it and give --crop and --mask again"
        ) from error
