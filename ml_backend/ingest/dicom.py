"""DICOM files: their headers, and their frames as grey or RGB pictures with 8 bits."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom import pixels, uid
from pydicom.multival import MultiValue

from ml_backend.errors import FrameUnreadable
from ml_backend.ingest.encapsulated import Fragments, encapsulated_frames, frame_count
from ml_backend.ingest.pictures import ClipFrame, Sampler, check_count, check_size, plain, scaled, without_values
from ml_backend.ingest.videos import ASSUMED_RATE, video_stream

_VIDEO_SYNTAXES = "1.2.840.10008.1.2.4.10"  # MPEG-2, H.264 and HEVC inside DICOM; no other syntax starts like this
_LONGEST_HEADER = 16 * 2**20
_LONGEST_ELEMENT = 2**20  # longer ones, in which machines keep data of their own, are passed over
_NATIVE = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian)


class _Limited:
    """A file that can be read only up to the length of a header: nothing limits memory where headers are read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = _LONGEST_HEADER
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, size: int = -1) -> bytes:
        """Read like a file; raises FrameUnreadable once the total is too long."""
        data = self._file.read(self._left + 1 if size < 0 else min(size, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise FrameUnreadable(f"its header is longer than the {_LONGEST_HEADER // 2**20} MB allowed")
        return data


def dicom_header(path: Path) -> Any:
    """Read a DICOM file's header (a pydicom Dataset) without its pixels, or raise FrameUnreadable."""
    try:
        with path.open("rb") as opened:
            file = _Limited(opened)
            pydicom.filereader.read_preamble(file, False)
            meta = pydicom.filereader._read_file_meta_info(file)  # the public function would read a file of any size
            if meta.get("TransferSyntaxUID") == uid.DeflatedExplicitVRLittleEndian:
                # The whole file would be inflated before any size can be checked.
                raise FrameUnreadable("it is a deflated DICOM file; save it uncompressed")
            file.seek(0)
            return pydicom.dcmread(file, stop_before_pixels=True, defer_size=_LONGEST_ELEMENT)
    except FrameUnreadable:
        raise
    except pydicom.errors.InvalidDicomError as error:
        raise FrameUnreadable("it is not a DICOM file: the mark DICM is missing") from error
    except Exception as error:
        raise FrameUnreadable(without_values(error)) from error


def dicom_frames(path: Path, every: Fraction) -> Iterator[ClipFrame]:
    """Yield the sampled frames of a DICOM file."""
    header = dicom_header(path)
    if "Rows" not in header or "Columns" not in header:
        raise FrameUnreadable("there is no picture in this DICOM file")
    check_size(header.Columns, header.Rows)
    count = frame_count(header)
    check_count(count)
    syntax = header.file_meta.TransferSyntaxUID
    if syntax.startswith(_VIDEO_SYNTAXES):
        step = _step(header)
        with path.open("rb") as file:
            yield from video_stream(io.BufferedReader(Fragments(file)), every, 1 / step if step else None)
        return
    times = _dicom_times(header, count)
    sampler = Sampler(every)
    chosen = [number for number, time in enumerate(times) if sampler.takes(time)]
    read = _native_frames if syntax in _NATIVE else encapsulated_frames
    for number, values in read(path, header, chosen):
        yield ClipFrame(plain(Image.fromarray(_to_8_bits(values, header))), number, float(times[number]))


def _native_frames(path: Path, header: Any, chosen: Sequence[int]) -> Iterator[tuple[int, NDArray[Any]]]:
    # With halved colours, pydicom finds only the first frame that it is asked for.
    halved = header.PhotometricInterpretation == "YBR_FULL_422"
    asked: list[Sequence[int]] = [[number] for number in chosen] if halved else [chosen]
    decoded = chain.from_iterable(_values(path, numbers) for numbers in asked)
    for number in chosen:
        try:
            values = next(decoded)
        except Exception as error:
            raise FrameUnreadable(f"frame {number} cannot be decoded ({without_values(error)})") from error
        yield number, values


def _values(path: Path, numbers: Sequence[int]) -> Iterator[NDArray[Any]]:
    with path.open("rb") as file:  # not the path: pydicom would look for a name, and some files have none
        yield from pixels.iter_pixels(file, indices=numbers)


def _dicom_times(header: Any, count: int) -> Sequence[Fraction]:
    """Return the time of each frame, in seconds from the first.

    They come from the first of these that is there: Frame Time Vector, Frame Time (both in milliseconds), Cine Rate,
    Recommended Display Frame Rate (frames a second).
    """
    vector = header.get("FrameTimeVector")
    if isinstance(vector, MultiValue) and len(vector) == count:
        steps = [step for value in vector[1:] if (step := _sensible(value))]
        if len(steps) == count - 1:
            return [time / 1000 for time in accumulate(steps, initial=Fraction(0))]
    step = _step(header) or 1 / ASSUMED_RATE
    return [number * step for number in range(count)]


def _step(header: Any) -> Fraction | None:
    """Return the seconds from frame to frame, or None if the header does not say."""
    if step := _sensible(header.get("FrameTime")):
        return step / 1000
    rate = _sensible(header.get("CineRate")) or _sensible(header.get("RecommendedDisplayFrameRate"))
    return 1 / rate if rate else None


def _sensible(value: Any) -> Fraction | None:
    """Return a duration or a rate of a header; None for anything that cannot be one, as if the tag were absent."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    # The bounds also keep fractions small: computing with that of 1E999999999 would never end.
    return Fraction(str(number)) if 1e-6 < number < 1e6 else None


def _to_8_bits(values: NDArray[Any], header: Any) -> NDArray[np.uint8]:
    """Turn one frame's stored values into grey (height, width) or RGB (height, width, 3) values as they are shown."""
    interpretation = str(header.PhotometricInterpretation)
    bits = int(header.BitsStored)
    if interpretation == "PALETTE COLOR":
        colours = pixels.apply_color_lut(values, header)
        return scaled(colours, 0, 2 ** (8 * colours.dtype.itemsize) - 1)
    if not interpretation.startswith("MONOCHROME"):
        return scaled(values, 0, 2**bits - 1)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if header.PixelRepresentation else (0, 2**bits - 1)
    slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
    windowed = pixels.apply_voi_lut(pixels.apply_modality_lut(values, header), header)
    grey = scaled(windowed, low * slope + intercept, high * slope + intercept)
    return 255 - grey if interpretation == "MONOCHROME1" else grey
