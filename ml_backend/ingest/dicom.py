"""DICOM files: their headers, and their frames as grey or RGB pictures with 8 bits."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom import encaps, pixels, uid

from ml_backend.errors import FrameUnreadable
from ml_backend.ingest.pictures import ClipFrame, Sampler, check_count, check_size, one_line, plain, scaled
from ml_backend.ingest.videos import ASSUMED_RATE, video_stream

_VIDEO_SYNTAXES = "1.2.840.10008.1.2.4.10"  # MPEG-2, H.264 and HEVC inside DICOM; no other syntax starts so


def dicom_header(path: Path) -> Any:
    """Read a DICOM file's header (a pydicom Dataset) without its pixels, or raise FrameUnreadable."""
    try:
        meta = pydicom.filereader.read_file_meta_info(path)
        if meta.get("TransferSyntaxUID") == uid.DeflatedExplicitVRLittleEndian:
            # Inflating happens as a whole and before any size can be checked.
            raise FrameUnreadable("it is a deflated DICOM file; save it uncompressed")
        return pydicom.dcmread(path, stop_before_pixels=True)
    except FrameUnreadable:
        raise
    except pydicom.errors.InvalidDicomError as error:
        raise FrameUnreadable("it is not a DICOM file: the mark DICM is missing") from error
    except Exception as error:
        raise FrameUnreadable(one_line(error)) from error


def dicom_frames(path: Path, every: Fraction) -> Iterator[ClipFrame]:
    """Yield the sampled frames of a DICOM file."""
    header = dicom_header(path)
    if "Rows" not in header or "Columns" not in header:
        raise FrameUnreadable("there is no picture in this DICOM file")
    check_size(header.Columns, header.Rows)
    count = int(header.get("NumberOfFrames") or 1)
    check_count(count)
    syntax = header.file_meta.TransferSyntaxUID
    if syntax.startswith(_VIDEO_SYNTAXES):
        # The whole stream is one "frame" for the encapsulation, in one or more fragments.
        stream = b"".join(encaps.generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1))
        yield from video_stream(io.BytesIO(stream), every)
        return
    _check_syntax(syntax)
    times = _dicom_times(header, count)
    sampler = Sampler(every)
    chosen = [number for number, time in enumerate(times) if sampler.takes(time)]
    decoded = pixels.iter_pixels(path, indices=chosen)
    for number in chosen:
        try:
            values = _to_8_bits(next(decoded), header)
        except Exception as error:
            raise FrameUnreadable(f"frame {number} cannot be decoded ({one_line(error)})") from error
        yield ClipFrame(plain(Image.fromarray(values)), number, float(times[number]))


def _check_syntax(syntax: Any) -> None:
    try:
        decoder = pixels.get_decoder(syntax)
    except NotImplementedError:
        raise FrameUnreadable(f"its compression ({syntax.name}) is not known; save it uncompressed") from None
    if not decoder.is_available:
        raise FrameUnreadable(
            f"no decoder for its compression ({syntax.name}) is installed: save it uncompressed, or "
            f"`pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg` (licences of their own)"
        )


def _dicom_times(header: Any, count: int) -> Sequence[Fraction]:
    """Return the time of each frame, in seconds from the first.

    From the first of these that is there: Frame Time Vector, Frame Time (both in milliseconds), Cine Rate,
    Recommended Display Frame Rate (frames a second).
    """
    vector = header.get("FrameTimeVector")
    if vector is not None and count > 1 and len(vector) == count:
        steps = [Fraction(str(step)) / 1000 for step in vector]
        if all(step > 0 for step in steps[1:]):
            times = [Fraction(0)]
            for step in steps[1:]:
                times.append(times[-1] + step)
            return times
    step = Fraction(str(header.get("FrameTime") or 0)) / 1000
    rate = Fraction(str(header.get("CineRate") or header.get("RecommendedDisplayFrameRate") or ASSUMED_RATE))
    step = step if step > 0 else 1 / (rate if rate > 0 else ASSUMED_RATE)
    return [number * step for number in range(count)]


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
