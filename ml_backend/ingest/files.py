"""Reading of files: videos, GIFs, stills and DICOM, as frames sampled by time.

Files come from anywhere, so none is trusted: only the containers named here are opened, never a play list that names
other files, and sizes are checked before anything is decoded. Whatever is wrong with a file ends as one
`FrameUnreadable` with the reason.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Literal

import av
import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydicom import encaps, pixels, uid

from ml_backend.errors import FrameUnreadable

Kind = Literal["video", "still", "dicom"]

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".avi", ".mov", ".mpeg", ".mpg", ".gif"})
STILL_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
DICOM_SUFFIXES = frozenset({".dcm", ".dicom"})

MAX_PIXELS = 40_000_000
MAX_FRAMES = 100_000
ASSUMED_RATE = Fraction(25)  # frames a second, where a file says nothing

_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,avi,mpeg,mpegts,mpegvideo,m4v,h264,hevc,gif"
_VIDEO_SYNTAXES = "1.2.840.10008.1.2.4.10"  # MPEG-2, H.264 and HEVC inside DICOM; no other syntax starts so


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
        """Say whether the frame at ``time`` (seconds, never falling from call to call) is chosen."""
        if time < self._due:
            return False
        if self._every:
            # Counted on the grid and not from the frame before, or uneven frame rates would make the steps drift.
            self._due = (time // self._every + 1) * self._every
        return True


def kind_of(path: Path) -> Kind | None:
    """Tell what a file is, by its content first and by its suffix second; None for what this module does not read.

    Raises:
        FrameUnreadable: where the file cannot be opened.
    """
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError as error:
        raise FrameUnreadable(error.strerror or str(error)) from error
    if start[128:] == b"DICM":
        return "dicom"
    if start.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")):
        return "still"
    suffix = path.suffix.lower()
    if start.startswith((b"GIF87a", b"GIF89a")) or suffix in VIDEO_SUFFIXES:
        return "video"
    if suffix in STILL_SUFFIXES:
        return "still"
    return "dicom" if suffix in DICOM_SUFFIXES else None


def frames_of(path: Path, every: Fraction) -> Iterator[ClipFrame]:
    """Yield the frames of one file, the first at or after each multiple of ``every`` seconds (0: all of them).

    Only one frame is in memory at a time. A file that is damaged in the middle gives the frames up to there first.

    Raises:
        FrameUnreadable: with the reason, for anything that is wrong with the file.
    """
    read = {"video": _video_file, "still": _still, "dicom": _dicom}.get(kind_of(path) or "")
    if read is None:
        raise FrameUnreadable("not a video, a picture or a DICOM file that can be read here")
    if path.stat().st_size == 0:
        raise FrameUnreadable("the file is empty")
    nothing = True
    try:
        for frame in read(path, every):
            nothing = False
            yield frame
    except FrameUnreadable:
        raise
    except Exception as error:  # the decoders raise nearly any class for a malformed file
        raise FrameUnreadable(_one_line(error)) from error
    if nothing:
        raise FrameUnreadable("it has no frames")


def dicom_header(path: Path) -> Any:
    """Read a DICOM file's header (a pydicom Dataset) and leave its pixels.

    Raises:
        FrameUnreadable: where it is not a DICOM file or cannot be read.
    """
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
        raise FrameUnreadable(_one_line(error)) from error


# Videos


def _video_file(path: Path, every: Fraction) -> Iterator[ClipFrame]:
    with path.open("rb") as file:
        if not _is_cut_gif(file):
            yield from _video(file, every)
            return
        # libav draws what there is of the last frame and finds no fault with it.
        last: ClipFrame | None = None
        for frame in _video(file, every):
            if last is not None:
                yield last
            last = frame
        raise FrameUnreadable("it ends early: the GIF has no end mark; its last frame was left out")


def _video(file: BinaryIO, every: Fraction) -> Iterator[ClipFrame]:
    """Yield the sampled frames of a video; an open file, not a name, so that no name is taken for an address."""
    with av.open(file, options={"format_whitelist": _CONTAINERS}) as container:
        stream = next(iter(container.streams.video), None)
        if stream is None:
            raise FrameUnreadable("it has no video in it")
        _check_size(stream.codec_context.width, stream.codec_context.height)
        sampler, clock = Sampler(every), _Clock(stream)
        for count, frame in enumerate(_sound_frames(container, stream)):
            _check_count(count + 1)
            time = clock.read(frame)
            if sampler.takes(time):
                _check_size(frame.width, frame.height)
                yield ClipFrame(_plain(_upright(frame)), count, float(time))


def _sound_frames(container: Any, stream: Any) -> Iterator[Any]:
    """Yield decoded frames up to the first damage, then raise.

    Damage before the first sound frame is passed over: a clip cut out of a longer one begins with frames that refer to
    what was cut off. After it, everything that follows may be drawn over broken pixels.
    """
    damage: str | None = None
    count = 0
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            frames, damage = [], _one_line(error)
        for frame in frames:
            if frame.is_corrupt:
                damage = "damaged frame"
                break
            count += 1
            yield frame
            damage = None
        if packet.is_corrupt:
            damage = damage or "incomplete data"
        if damage and count:
            raise FrameUnreadable(f"it is damaged after frame {count - 1} ({damage}); the frames before it were read")
    if damage:
        raise FrameUnreadable(f"no frame can be decoded ({damage})")


class _Clock:
    """Seconds since the first frame: exact where frames carry time stamps, counted by the frame rate elsewhere."""

    def __init__(self, stream: Any) -> None:
        self._step = 1 / (stream.average_rate or stream.guessed_rate or ASSUMED_RATE)
        self._last: Fraction | None = None
        self._shift = Fraction(0)

    def read(self, frame: Any) -> Fraction:
        after = Fraction(0) if self._last is None else self._last + self._step
        if frame.pts is None:
            self._last = after
            return after
        stamp = frame.pts * frame.time_base
        if self._last is None:
            self._shift = stamp
        elif stamp - self._shift <= self._last:
            # Clips joined together start their stamps anew.
            self._shift = stamp - after
        self._last = stamp - self._shift
        return self._last


def _upright(frame: Any) -> Image.Image:
    picture: Image.Image = frame.to_image() if frame.format.name not in ("bgra", "rgba") else _with_alpha(frame)
    return picture.rotate(frame.rotation, expand=True) if frame.rotation else picture


def _with_alpha(frame: Any) -> Image.Image:
    return Image.fromarray(frame.to_ndarray(format="rgba"))


def _is_cut_gif(file: BinaryIO) -> bool:
    if file.read(4) != b"GIF8":
        file.seek(0)
        return False
    file.seek(-1, io.SEEK_END)
    end = file.read(1)
    file.seek(0)
    return end not in (b";", b"\0")  # some writers pad the end


# Stills


def _still(path: Path, every: Fraction) -> Iterator[ClipFrame]:
    del every
    with warnings.catch_warnings():
        # Pillow warns where this module refuses: the size is checked before a pixel is decoded.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        picture = Image.open(path, formats=["JPEG", "PNG"])
    with picture:
        _check_size(*picture.size)
        still = _plain(ImageOps.exif_transpose(picture))
    yield ClipFrame(still, 0, 0.0)


# DICOM


def _dicom(path: Path, every: Fraction) -> Iterator[ClipFrame]:
    header = dicom_header(path)
    if "Rows" not in header or "Columns" not in header:
        raise FrameUnreadable("there is no picture in this DICOM file")
    _check_size(header.Columns, header.Rows)
    count = int(header.get("NumberOfFrames") or 1)
    _check_count(count)
    syntax = header.file_meta.TransferSyntaxUID
    if syntax.startswith(_VIDEO_SYNTAXES):
        yield from _video(io.BytesIO(_embedded_stream(path)), every)
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
            raise FrameUnreadable(f"frame {number} cannot be decoded ({_one_line(error)})") from error
        yield ClipFrame(_plain(Image.fromarray(values)), number, float(times[number]))


def _embedded_stream(path: Path) -> bytes:
    """Return the video stream of a DICOM file: one "frame" for the encapsulation, in one or more fragments."""
    pixel_data = pydicom.dcmread(path).PixelData
    return b"".join(encaps.generate_frames(pixel_data, number_of_frames=1))


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
        return _scaled(colours, 0, 2 ** (8 * colours.dtype.itemsize) - 1)
    if not interpretation.startswith("MONOCHROME"):
        return _scaled(values, 0, 2**bits - 1)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if header.PixelRepresentation else (0, 2**bits - 1)
    slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
    grey = _scaled(_windowed(values, header), low * slope + intercept, high * slope + intercept)
    return 255 - grey if interpretation == "MONOCHROME1" else grey


def _windowed(values: NDArray[Any], header: Any) -> NDArray[Any]:
    shown: NDArray[Any] = pixels.apply_voi_lut(pixels.apply_modality_lut(values, header), header)
    return shown


def _scaled(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    if values.dtype == np.uint8 and (low, high) == (0, 255):
        return values
    share = (values.astype(np.float64) - low) / (high - low)
    return (share.clip(0, 1) * 255 + 0.5).astype(np.uint8)


# What all of them need


def _plain(picture: Image.Image) -> Image.Image:
    """Return the bare pixels: grey if the picture is grey, else RGB, transparency on black, no metadata."""
    if picture.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
        picture = Image.fromarray(_scaled(np.asarray(picture), 0, 65535))
    if picture.has_transparency_data:
        shown = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", shown.size, "black"), shown)
    colours = np.asarray(picture.convert("RGB"))
    grey = bool((colours == colours[..., :1]).all())
    return Image.fromarray(np.ascontiguousarray(colours[..., 0]) if grey else colours)


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise FrameUnreadable(f"{width} x {height} is larger than the {MAX_PIXELS // 10**6} million pixels allowed")


def _check_count(count: int) -> None:
    if count > MAX_FRAMES:
        raise FrameUnreadable(f"it has more than the {MAX_FRAMES} frames allowed: cut it into shorter clips")


def _one_line(error: BaseException) -> str:
    # libav's errors quote a number and a name that say nothing.
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split()) or type(error).__name__
