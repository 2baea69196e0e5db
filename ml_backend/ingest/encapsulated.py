"""Compressed DICOM: find the coded frames in the file one by one, check them, and decode them with pydicom."""

from __future__ import annotations

import io
import re
import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from numpy.typing import NDArray
from pydicom import encaps, pixels, uid

from ml_backend.errors import FrameUnreadable
from ml_backend.ingest.pictures import without_values, without_warnings

# pydicom's plugins, in the order in which they are tried. Installing the extra must not change the pixels of a file
# that can be read without it, because the file would then be imported twice. gdcm and pyjpegls are never tried: on
# damaged data, gdcm ends the whole process and pyjpegls hangs.
_PLUGINS = ("pillow", "pydicom", "pylibjpeg")
_MAX_FRAGMENTS = 1_000_000
_JPEG_START, _JPEG_END, _JPEG2000_START = b"\xff\xd8", b"\xff\xd9", b"\xff\x4f\xff\x51"
_JPEG_SIZES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # the markers of segments that hold the picture's size
_ADOBE_YBR = re.compile(rb"\xff\xee\x00\x0eAdobe.{6}\x01", re.DOTALL)


def plugin_for(header: Any) -> str:
    """Return the name of the pydicom plugin that decodes this file's frames, or raise FrameUnreadable."""
    syntax = header.file_meta.TransferSyntaxUID
    try:
        there = pixels.get_decoder(syntax).available_plugins
    except NotImplementedError:
        raise FrameUnreadable(f"its compression ({syntax.name}) is not known; save it uncompressed") from None
    if header.BitsStored > 8 and (syntax == uid.JPEGExtended12Bit or header.SamplesPerPixel > 1):
        there = tuple(name for name in there if name != "pillow")  # which would give 8 bits
    for name in _PLUGINS:
        if name in there:
            return name
    package = "openjpeg" if syntax in uid.JPEG2000TransferSyntaxes else "libjpeg"
    raise FrameUnreadable(
        f"no decoder for its compression ({syntax.name}) is installed: "
        f"`pip install pylibjpeg pylibjpeg-{package}`, or save it uncompressed"
    )


def frame_count(header: Any) -> int:
    """Return the number of frames that the header gives, or raise FrameUnreadable if that is no number."""
    try:
        return int(header.get("NumberOfFrames") or 1)
    except (TypeError, ValueError, OverflowError):
        raise FrameUnreadable("Number of Frames in its header is not a number") from None


def encapsulated_frames(path: Path, header: Any, chosen: Sequence[int]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield number and stored values of the chosen frames, colours as RGB; only one frame is in memory at a time.

    Frames that cannot be decoded are left out, and FrameUnreadable is raised after the last frame.
    """
    plugin = plugin_for(header)
    lost = dict.fromkeys(chosen, "the file ends before it")
    with path.open("rb") as file:
        for number, coded in enumerate(_coded_frames(file, header)):
            if number not in lost:
                continue
            try:
                values = _decoded(coded, header, plugin)
            except Exception as error:  # the decoders raise nearly any class
                lost[number] = without_values(error)
                continue
            del lost[number]
            yield number, values
    if lost:
        number, reason = next(iter(lost.items()))
        which = "" if len(lost) == 1 else f"{len(lost)} of {len(chosen)} frames cannot be read; "
        raise FrameUnreadable(f"{which}frame {number} cannot be decoded ({reason})")


class Fragments(io.RawIOBase):
    """The fragments of a DICOM file joined into one stream, such as a video, without reading them into memory."""

    def __init__(self, file: BinaryIO) -> None:
        _seek_frames(file)
        encaps.parse_basic_offsets(file)
        self._file = file
        self._places = _fragments(file)
        self._ends = list(accumulate(length for _, length in self._places))
        self._at = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to a place in the stream."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._ends[-1] if self._ends else 0}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        """Fill the buffer from the fragment at the present place."""
        number = bisect_right(self._ends, self._at)
        if number == len(self._ends):
            return 0
        place, length = self._places[number]
        left = self._ends[number] - self._at
        self._file.seek(place + length - left)
        data = self._file.read(min(left, len(memoryview(buffer))))
        memoryview(buffer)[: len(data)] = data
        self._at += len(data)
        return len(data)


def _seek_frames(file: BinaryIO) -> None:
    """Move to the basic offset table, with which encapsulated pixel data begins."""
    file.seek(0)
    pydicom.dcmread(file, stop_before_pixels=True)
    start = file.read(12)
    if start[:4] != b"\xe0\x7f\x10\x00" or start[8:] != b"\xff\xff\xff\xff":
        raise FrameUnreadable("it has no compressed pixels, although its header says so")


def _fragments(file: BinaryIO) -> list[tuple[int, int]]:
    """Return place and length of each fragment from here to the end, or to the first damage."""
    found: list[tuple[int, int]] = []
    while len(start := file.read(8)) == 8:
        tag, length = start[:4], struct.unpack("<L", start[4:])[0]
        if tag != b"\xfe\xff\x00\xe0" or length == 0xFFFFFFFF:
            break
        if len(found) == _MAX_FRAGMENTS:
            raise FrameUnreadable(f"its pixels are in more than the {_MAX_FRAGMENTS} pieces allowed")
        found.append((file.tell(), length))
        file.seek(length, io.SEEK_CUR)
    return found


def _coded_frames(file: BinaryIO, header: Any) -> Iterator[bytes]:
    count = frame_count(header)
    _seek_frames(file)
    start = file.tell()
    extended = header.get("ExtendedOffsetTable"), header.get("ExtendedOffsetTableLengths")
    if not all(extended) and not encaps.parse_basic_offsets(file):
        places = _fragments(file)
        # pydicom reads no frame of a file that was cut off and has too few fragments.
        if 1 < count >= len(places):
            for place, length in places:
                file.seek(place)
                yield file.read(length)
            return
    file.seek(start)
    yield from encaps.generate_frames(
        file, number_of_frames=count, extended_offsets=extended if all(extended) else None
    )


def _decoded(coded: bytes, header: Any, plugin: str) -> NDArray[Any]:
    syntax = header.file_meta.TransferSyntaxUID
    options = pixels.as_pixel_options(header, number_of_frames=1, pixel_keyword="PixelData")
    options.pop("extended_offsets", None)
    if syntax != uid.RLELossless:
        _check_coded(coded, (int(header.Columns), int(header.Rows)))
    if _ADOBE_YBR.search(coded, 0, 4096):
        # Pillow would convert these to RGB, and pydicom then once more.
        coded = coded.replace(b"\xff\xee\x00\x0eAdobe", b"\xff\xee\x00\x0eAd---", 1)
        options["photometric_interpretation"] = "YBR_FULL_422"
    with without_warnings():  # pydicom warns where it corrects the header's colours
        values: NDArray[Any]
        values, _ = pixels.get_decoder(syntax).as_array(
            encaps.encapsulate([coded], has_bot=False), index=0, decoding_plugin=plugin, **options
        )
    return values


def _check_coded(coded: bytes, size: tuple[int, int]) -> None:
    """Refuse a frame that is cut off, which not every decoder notices, or larger or smaller than the header says."""
    if coded.startswith(_JPEG_START) and not coded.rstrip(b"\0").endswith(_JPEG_END):
        raise FrameUnreadable("its end is missing")
    own = _size(coded)
    if own != size:
        raise FrameUnreadable(f"it is {own[0]} x {own[1]}, and not {size[0]} x {size[1]} as in the header")


def _size(coded: bytes) -> tuple[int, int]:
    """Return width and height of a JPEG, JPEG-LS or JPEG 2000 picture."""
    at = coded.find(_JPEG2000_START)
    if at >= 0 and not coded.startswith(_JPEG_START):
        right, bottom, left, top = struct.unpack_from(">4L", coded, at + 8)
        return right - left, bottom - top
    at = len(_JPEG_START)
    while coded.startswith(_JPEG_START) and coded[at : at + 1] == b"\xff":
        marker, length = struct.unpack_from(">xBH", coded, at)
        if marker in _JPEG_SIZES:
            height, width = struct.unpack_from(">HH", coded, at + 5)
            return width, height
        at += 1 if marker == 0xFF else 2 + length
    raise FrameUnreadable("it is not a JPEG picture")
