"""Broken files: pictures, clips and DICOM made by this project, and damaged at random.

The same seed and number make the same file, so that its number is enough to make a file again.
"""

from __future__ import annotations

import io
import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import imagecodecs
import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom import encaps, uid

from ml_backend.ingest.files import frames_of
from ml_backend.phantom.clips import generate

NAME = "QUILLFEATHER^ARAMINTA"
NUMBER = "PATIENT-90210-X"
_SIZE = (96, 72)
_FRAMES = 6
_HEAD = 600  # bytes in which most of a file's headers lie
_EXTREME = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, 2**63, 2**64 - 1)
_PNG = b"\x89PNG\r\n\x1a\n"
_REAL = 300_000  # bytes: larger clips would only take longer


@dataclass(frozen=True)
class Seed:
    """An intact file: its suffix and its bytes."""

    suffix: str
    content: bytes


def seeds(folder: Path, real: Sequence[Path] = ()) -> list[Seed]:
    """Make a file of each kind; ``real`` are folders with clips, of which some are taken too."""
    generate(folder, 4, 1, 10, size=_SIZE, frames_per_second=25)
    clip = sorted((folder / "clips").iterdir())[0]
    grey = np.stack([np.asarray(frame.picture.convert("L")) for frame in islice(frames_of(clip, Fraction(0)), _FRAMES)])
    made = [Seed(clip.suffix, clip.read_bytes()), *_pictures(grey), *_videos(grey), *_dicom(grey)]
    for clips in real:
        small = [path for path in sorted(clips.iterdir()) if path.is_file() and path.stat().st_size < _REAL]
        made += [Seed(path.suffix, path.read_bytes()) for path in small[:: max(1, len(small) // 4)]]
    return made


def broken(made: Sequence[Seed], seed: int, number: int) -> tuple[str, bytes]:
    """Return the suffix and the bytes of one broken file."""
    rng = random.Random(f"{seed}/{number}")  # it makes test data
    one, other = rng.choice(made), rng.choice(made)
    content = one.content
    if one.suffix == ".dcm" and rng.random() < 0.5:
        content = _header(content, rng)
    for _ in range(rng.randint(1, 4)):
        content = rng.choice(_DAMAGES)(content, other.content, rng) or content
    if content.startswith(_PNG) and rng.random() < 0.7:
        content = _with_checksums(content)
    return (other if rng.random() < 0.05 else one).suffix, content


def _with_checksums(content: bytes) -> bytes:
    """Make the checksums of a PNG fit its chunks, or no decoder would read what they hold."""
    mended = bytearray(content)
    place = len(_PNG)
    while place + 12 <= len(mended):
        end = place + 8 + int.from_bytes(mended[place : place + 4], "big")
        if end + 4 > len(mended):
            break
        mended[end : end + 4] = zlib.crc32(mended[place + 4 : end]).to_bytes(4, "big")
        place = end + 4
    return bytes(mended)


def _pictures(grey: NDArray[np.uint8]) -> Iterator[Seed]:
    pictures = [Image.fromarray(frame) for frame in grey]
    colour = Image.merge("RGB", pictures[:3])
    deep = Image.fromarray(grey[0].astype(np.uint16) * 200)
    clear = Image.merge("LA", pictures[:2])
    forms: list[tuple[str, str, Image.Image, dict[str, Any]]] = [
        (".png", "PNG", pictures[0], {}),
        (".png", "PNG", colour, {"optimize": True}),
        (".png", "PNG", deep, {}),
        (".png", "PNG", clear, {}),
        (".png", "PNG", colour.quantize(16), {}),
        (".png", "PNG", pictures[0], {"save_all": True, "append_images": pictures[1:]}),
        (".jpg", "JPEG", pictures[0], {}),
        (".jpg", "JPEG", colour, {"progressive": True, "exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}),
        (".jpg", "JPEG", colour.convert("CMYK"), {}),
        (".gif", "GIF", pictures[0], {"save_all": True, "append_images": pictures[1:], "duration": 40}),
        (".webp", "WEBP", colour, {}),
        (".webp", "WEBP", pictures[0], {"save_all": True, "append_images": pictures[1:], "lossless": True}),
        (".bmp", "BMP", colour, {}),
        (".tiff", "TIFF", pictures[0], {}),
        *(
            (".tiff", "TIFF", colour, {"compression": each})
            for each in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits")
        ),
    ]
    for suffix, form, picture, options in forms:
        buffer = io.BytesIO()
        picture.save(buffer, form, **options)
        yield Seed(suffix, buffer.getvalue())


def _videos(grey: NDArray[np.uint8]) -> Iterator[Seed]:
    for suffix, container, codec in (
        (".mp4", "mp4", "libx264"),
        (".mp4", "mp4", "libx265"),
        (".m4v", "mp4", "mpeg4"),
        (".mov", "mov", "mjpeg"),
        (".avi", "avi", "mjpeg"),
        (".avi", "avi", "mpeg4"),
        (".avi", "avi", "rawvideo"),
        (".avi", "avi", "ffv1"),
        (".mpg", "mpeg", "mpeg1video"),
        (".mpg", "vob", "mpeg2video"),
        (".mpg", "mpegts", "libx264"),
    ):
        if codec in av.codecs_available:
            yield Seed(suffix, _video(grey, container, codec))


def _video(grey: NDArray[np.uint8], container: str, codec: str) -> bytes:
    buffer = io.BytesIO()
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    with av.open(buffer, "w", format=container) as file:
        stream = file.add_stream(codec, rate=25, options=options)
        stream.width, stream.height = _SIZE
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for frame in grey:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        file.mux(stream.encode())
    return buffer.getvalue()


def _dicom(grey: NDArray[np.uint8]) -> Iterator[Seed]:
    colour = np.stack([grey, grey // 2, 255 - grey], axis=-1)
    deep = grey.astype(np.uint16) * 16
    for syntax in (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian):
        yield Seed(".dcm", _file(grey, syntax, grey.tobytes()))
    yield Seed(".dcm", _file(deep, uid.ExplicitVRLittleEndian, deep.tobytes(), WindowCenter="2000", WindowWidth="900"))
    yield Seed(".dcm", _file(colour, uid.ExplicitVRLittleEndian, colour.tobytes()))
    run_lengths = pydicom.dcmread(io.BytesIO(_file(colour, uid.ExplicitVRLittleEndian, colour.tobytes())))
    run_lengths.compress(uid.RLELossless)
    yield Seed(".dcm", _saved(run_lengths))
    coders: list[tuple[str, NDArray[Any], Callable[[NDArray[Any]], bytes]]] = [
        (uid.JPEGBaseline8Bit, grey, lambda frame: bytes(imagecodecs.jpeg8_encode(frame))),
        (uid.JPEGBaseline8Bit, colour, lambda frame: bytes(imagecodecs.jpeg8_encode(frame))),
        (uid.JPEGExtended12Bit, deep, lambda frame: bytes(imagecodecs.jpeg_encode(frame, bitspersample=12))),
        (uid.JPEGLosslessSV1, grey, lambda frame: bytes(imagecodecs.ljpeg_encode(frame, bitspersample=8))),
        (uid.JPEGLSLossless, grey, lambda frame: bytes(imagecodecs.jpegls_encode(frame))),
        (uid.JPEG2000Lossless, grey, lambda frame: bytes(imagecodecs.jpeg2k_encode(frame, codecformat="j2k"))),
        (uid.JPEG2000, colour, lambda frame: bytes(imagecodecs.jpeg2k_encode(frame, codecformat="j2k", level=20))),
    ]
    for syntax, frames, coder in coders:
        pixels = encaps.encapsulate([coder(frame) for frame in frames])
        yield Seed(".dcm", _file(frames, syntax, pixels))
    for syntax, container, codec in (
        (uid.MPEG2MPML, "mpeg2video", "mpeg2video"),
        (uid.MPEG4HP41, "mp4", "libx264"),
        (uid.HEVCMP51, "hevc", "libx265"),
    ):
        if codec in av.codecs_available:
            video = _video(grey, container, codec)
            yield Seed(".dcm", _file(colour, syntax, encaps.encapsulate([video])))


def _file(values: NDArray[Any], syntax: str, pixels: bytes, **tags: object) -> bytes:
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = uid.UltrasoundMultiFrameImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    meta.TransferSyntaxUID = syntax
    data = pydicom.Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.PatientName, data.PatientID, data.FrameTime = NAME, NUMBER, "40"
    data.NumberOfFrames, data.Rows, data.Columns = values.shape[:3]
    data.SamplesPerPixel = 3 if values.ndim == 4 else 1
    data.PhotometricInterpretation = "RGB" if values.ndim == 4 else "MONOCHROME2"
    if values.ndim == 4:
        data.PlanarConfiguration = 0
    data.BitsAllocated = values.dtype.itemsize * 8
    data.BitsStored = 12 if values.dtype == np.uint16 else 8
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, 0
    inner = pydicom.Dataset()
    inner.PatientID, inner.PatientName = NUMBER, NAME
    data.OtherPatientIDsSequence = pydicom.Sequence([inner])
    data.PixelData = pixels
    data["PixelData"].VR = "OW" if values.dtype == np.uint16 else "OB"
    for name, value in tags.items():
        setattr(data, name, value)
    return _saved(data)


def _saved(data: pydicom.Dataset) -> bytes:
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


# Odd values for the elements of a header, by their kind.
_VALUES: tuple[tuple[str, tuple[object, ...]], ...] = (
    ("US", (0, 1, 2, 3, 7, 8, 9, 16, 32, 64, 255, 65535)),
    ("SS", (-32768, -1, 0, 32767)),
    ("UL", (0, 1, 2**31, 2**32 - 1)),
    ("SL", (-(2**31), -1, 0)),
    ("FD", (0.0, -1.0, 1e308, float("nan"), float("inf"))),
    ("DS", ("", "0", "-1", "1e30", "1E999", "1\\2\\3", "x")),
    ("IS", ("", "0", "-1", "2147483647", "99999999999", "x", "1\\2")),
    ("CS", ("", "MONOCHROME1", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "RGB", "x" * 40)),
    ("UI", ("", "1.2.840.10008.1.2.4.90", "x", "1." * 40)),
    ("PN", (NAME, "", "=" * 20, "\\" * 20)),
    ("LO", (NAME, "x" * 300, "\x1b[31m", "\0\n\r")),
    ("OB", (b"", b"\0", b"\xff" * 64, b"\xfe\xff\x00\xe0\xff\xff\xff\xff")),
)
_TAGS = (
    *("NumberOfFrames", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "FrameTime", "FrameTimeVector", "CineRate"),
    *("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "VOILUTFunction", "PatientName", "PatientID"),
    *("OtherPatientIDs", "SOPInstanceUID", "SpecificCharacterSet", "RedPaletteColorLookupTableDescriptor"),
    *("RedPaletteColorLookupTableData", "ModalityLUTSequence", "VOILUTSequence", "OtherPatientIDsSequence"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "BurnedInAnnotation", "PixelData"),
)


def _header(content: bytes, rng: random.Random) -> bytes:
    """Put odd values into a DICOM header, or take elements out; returns the same bytes where that cannot be written."""
    try:
        data = pydicom.dcmread(io.BytesIO(content))
        for _ in range(rng.randint(1, 3)):
            name = rng.choice(_TAGS)
            if name in data and rng.random() < 0.2:
                delattr(data, name)
                continue
            kind, values = rng.choice(_VALUES)
            data[name] = pydicom.DataElement(name, kind, rng.choice(values), validation_mode=0)
        if rng.random() < 0.1:
            data.file_meta.TransferSyntaxUID = rng.choice(uid.AllTransferSyntaxes)
        buffer = io.BytesIO()
        data.save_as(buffer)
        return buffer.getvalue()
    except Exception:  # pydicom refuses to write much of what it reads
        return content


Damage = Callable[[bytes, bytes, random.Random], bytes]


def _place(content: bytes, rng: random.Random) -> int:
    """A place in a file, half of the time among its headers."""
    return rng.randrange(max(1, min(len(content), _HEAD) if rng.random() < 0.5 else len(content)))


def _flip(content: bytes, _: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _number in range(rng.choice((1, 1, 2, 8, 64))):
        if changed:
            changed[_place(content, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(content: bytes, _: bytes, rng: random.Random) -> bytes:
    return content[: _place(content, rng)]


def _splice(content: bytes, other: bytes, rng: random.Random) -> bytes:
    return content[: _place(content, rng)] + other[_place(other, rng) :]


def _extreme(content: bytes, _: bytes, rng: random.Random) -> bytes:
    place, size = _place(content, rng), rng.choice((1, 2, 4, 8))
    value = rng.choice(_EXTREME) % (1 << 8 * size)
    return content[:place] + value.to_bytes(size, rng.choice(("little", "big"))) + content[place + size :]


def _repeat(content: bytes, _: bytes, rng: random.Random) -> bytes:
    place, size = _place(content, rng), rng.choice((1, 4, 16, 256, 4096))
    return content[:place] + content[place : place + size] * rng.choice((2, 3, 100)) + content[place + size :]


def _blank(content: bytes, _: bytes, rng: random.Random) -> bytes:
    place, size = _place(content, rng), rng.choice((1, 4, 16, 256, 4096))
    return content[:place] + rng.choice((b"\0", b"\xff")) * len(content[place : place + size]) + content[place + size :]


def _drop(content: bytes, _: bytes, rng: random.Random) -> bytes:
    place = _place(content, rng)
    return content[:place] + content[place + rng.choice((1, 2, 4, 16, 256)) :]


def _noise(content: bytes, _: bytes, rng: random.Random) -> bytes:
    place = _place(content, rng)
    return content[:place] + rng.randbytes(rng.choice((1, 4, 64))) + content[place:]


_DAMAGES: tuple[Damage, ...] = (_flip, _flip, _cut, _splice, _extreme, _extreme, _repeat, _blank, _drop, _noise)
