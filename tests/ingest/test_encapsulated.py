"""Compressed DICOM: every codec against the phantom picture it was made from, damage, and memory."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import Any

import av
import imagecodecs
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import encaps, pixels, uid

from ml_backend.errors import FrameUnreadable
from ml_backend.ingest import encapsulated as module
from ml_backend.ingest import pictures
from ml_backend.ingest.dicom import dicom_frames
from ml_backend.phantom import echoes
from ml_backend.phantom.clips import HEALTHY
from tests.ingest.test_files import HALF, encapsulated, encoded, levels, ramp, read, read_up_to_the_error, write_dicom

Coder = Callable[[NDArray[Any]], bytes]
COUNT = 3
SIZE = (96, 128)


@cache
def _phantoms() -> NDArray[np.uint8]:
    return np.stack([echoes.frame(HEALTHY, seed, SIZE) for seed in range(COUNT)])


def grey_clip(bits: int = 8) -> NDArray[Any]:
    """Phantom frames (COUNT, 96, 128), in 12 bits with their own fine grain."""
    frames = _phantoms()
    if bits == 8:
        return frames
    grain = np.random.default_rng(0).integers(0, 1 << (bits - 8), frames.shape, np.uint16)
    grained: NDArray[np.uint16] = (frames.astype(np.uint16) << (bits - 8)) + grain
    return grained


def colour_clip() -> NDArray[np.uint8]:
    """Phantom frames (COUNT, 96, 128, 3) with a patch of red and blue, as of a Doppler picture."""
    frames = np.repeat(grey_clip()[..., None], 3, axis=-1)
    flow = np.sin(np.linspace(0, 6, 64))[None, :, None] * np.array([100, 0, -100]) + np.array([120, 60, 120])
    frames[:, 20:70, 32:96] = np.broadcast_to(flow, (50, 64, 3))
    return frames


def jpeg(frame: NDArray[Any]) -> bytes:
    return encoded(frame, "JPEG", quality=95)


def jpeg_rgb(frame: NDArray[Any]) -> bytes:
    return encoded(frame, "JPEG", quality=95, keep_rgb=True)


def jpeg_adobe(frame: NDArray[Any]) -> bytes:
    """JPEG that says by Adobe's mark, and not by JFIF's, that it is in YCbCr."""
    coded = jpeg(frame)
    return coded[:2] + b"\xff\xee\x00\x0eAdobe\x00\x64\0\0\0\0\x01" + coded[20:]


def jpeg_lossless(frame: NDArray[Any], predictor: int = 1) -> bytes:
    bits = 8 if frame.dtype == np.uint8 else 12
    return bytes(imagecodecs.jpeg8_encode(frame, lossless=True, predictor=predictor, bitspersample=bits))


def jpeg_lossless_ybr(frame: NDArray[Any]) -> bytes:
    space = "UNKNOWN"  # no mark that says RGB
    return bytes(
        imagecodecs.jpeg8_encode(
            frame, lossless=True, predictor=1, subsampling="444", colorspace=space, outcolorspace=space
        )
    )


def jpeg_12(frame: NDArray[Any]) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(frame, level=95, bitspersample=12))


def jpeg_ls(frame: NDArray[Any], near: int = 0) -> bytes:
    return bytes(imagecodecs.jpegls_encode(frame, level=near))


def jpeg_2000(frame: NDArray[Any], **options: object) -> bytes:
    return encoded(frame, "JPEG2000", no_jp2=True, **options)


def jpeg_2000_lossy(frame: NDArray[Any]) -> bytes:
    return jpeg_2000(frame, irreversible=True, quality_mode="rates", quality_layers=[8], mct=1)


def ybr(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack([np.asarray(Image.fromarray(frame).convert("YCbCr")) for frame in frames])


def write(
    path: Path, values: NDArray[Any], syntax: str, coded: list[bytes], table: bool = True, **tags: object
) -> Path:
    if values.dtype == np.uint16:
        tags = {"BitsStored": 12, "HighBit": 11, **tags}
    return write_dicom(path, values, syntax=syntax, PixelData=encaps.encapsulate(coded, has_bot=table), **tags)


def differences(path: Path, expected: NDArray[np.uint8]) -> list[float]:
    """Return the mean difference of each frame that is read from what it should be."""
    frames = read(path)
    assert [frame.frame for frame in frames] == list(range(len(expected)))
    return [
        float(np.abs(np.asarray(frame.picture.convert("RGB" if expected.ndim == 4 else "L")).astype(int) - want).mean())
        for frame, want in zip(frames, expected, strict=True)
    ]


LOSSLESS: dict[str, tuple[str, Coder]] = {
    "JPEG lossless": (uid.JPEGLosslessSV1, jpeg_lossless),
    **{
        f"JPEG lossless, process 14, predictor {one}": (uid.JPEGLossless, partial(jpeg_lossless, predictor=one))
        for one in (2, 4, 7)
    },
    "JPEG-LS": (uid.JPEGLSLossless, jpeg_ls),
    "JPEG-LS, near-lossless syntax": (uid.JPEGLSNearLossless, jpeg_ls),
    "JPEG 2000": (uid.JPEG2000Lossless, jpeg_2000),
    "JPEG 2000, lossy syntax": (uid.JPEG2000, jpeg_2000),
}


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("table", [True, False], ids=["offsets", "no offsets"])
def test_lossless_grey(tmp_path: Path, name: str, table: bool) -> None:
    syntax, coder = LOSSLESS[name]
    frames = grey_clip()
    path = write(tmp_path / "clip.dcm", frames, syntax, [coder(frame) for frame in frames], table)
    assert differences(path, frames) == [0, 0, 0]
    inverted = write(
        tmp_path / "inverted.dcm",
        frames,
        syntax,
        [coder(frame) for frame in frames],
        PhotometricInterpretation="MONOCHROME1",
    )
    assert differences(inverted, 255 - frames) == [0, 0, 0]


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_colour(tmp_path: Path, name: str) -> None:
    syntax, coder = LOSSLESS[name]
    frames = colour_clip()
    if coder is jpeg_2000:
        path = write(
            tmp_path / "rct.dcm",
            frames,
            syntax,
            [jpeg_2000(frame, mct=1) for frame in frames],
            PhotometricInterpretation="YBR_RCT",
        )
        assert differences(path, frames) == [0, 0, 0]
        coder = lambda frame: jpeg_2000(frame, mct=0)  # noqa: E731
    path = write(tmp_path / "rgb.dcm", frames, syntax, [coder(frame) for frame in frames])
    assert differences(path, frames) == [0, 0, 0]
    if syntax in (uid.JPEGLossless, uid.JPEGLosslessSV1):
        coder = jpeg_lossless_ybr
    luma = [coder(frame) for frame in ybr(frames)]
    path = write(tmp_path / "ybr.dcm", frames, syntax, luma, PhotometricInterpretation="YBR_FULL")
    assert max(differences(path, frames)) < 1  # YCbCr itself rounds


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_grey_of_12_bits(tmp_path: Path, name: str) -> None:
    syntax, coder = LOSSLESS[name]
    frames = grey_clip(12)
    path = write(tmp_path / "clip.dcm", frames, syntax, [coder(frame) for frame in frames])
    expected = (frames / 4095 * 255 + 0.5).astype(np.uint8)
    assert differences(path, expected) == [0, 0, 0]


LOSSY: dict[str, tuple[str, str, Coder, float]] = {
    "JPEG baseline": (uid.JPEGBaseline8Bit, "YBR_FULL_422", jpeg, 2),
    "JPEG baseline, header wrongly RGB": (uid.JPEGBaseline8Bit, "RGB", jpeg, 2),
    "JPEG baseline, Adobe's mark": (uid.JPEGBaseline8Bit, "YBR_FULL_422", jpeg_adobe, 2),
    "JPEG baseline, Adobe's mark, header wrongly RGB": (uid.JPEGBaseline8Bit, "RGB", jpeg_adobe, 2),
    "JPEG baseline, RGB": (uid.JPEGBaseline8Bit, "RGB", jpeg_rgb, 1),
    "JPEG extended, 8 bits": (uid.JPEGExtended12Bit, "YBR_FULL_422", jpeg, 2),
    "JPEG-LS near-lossless": (uid.JPEGLSNearLossless, "RGB", lambda frame: jpeg_ls(frame, 2), 2),
    "JPEG 2000 lossy": (uid.JPEG2000, "YBR_ICT", jpeg_2000_lossy, 2),
}


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_colour(tmp_path: Path, name: str) -> None:
    syntax, interpretation, coder, allowed = LOSSY[name]
    frames = colour_clip()
    coded = [coder(frame) for frame in frames]
    path = write(tmp_path / "clip.dcm", frames, syntax, coded, PhotometricInterpretation=interpretation)
    assert 0 < max(differences(path, frames)) < allowed


@pytest.mark.parametrize(
    ("syntax", "bits"), [(uid.JPEGBaseline8Bit, 8), (uid.JPEGExtended12Bit, 8), (uid.JPEGExtended12Bit, 12)]
)
def test_jpeg_grey(tmp_path: Path, syntax: str, bits: int) -> None:
    frames = grey_clip(bits)
    coded = [jpeg(frame) if bits == 8 else jpeg_12(frame) for frame in frames]
    expected = frames if bits == 8 else (frames / 4095 * 255 + 0.5).astype(np.uint8)
    assert max(differences(write(tmp_path / "clip.dcm", frames, syntax, coded), expected)) < 2


@pytest.mark.parametrize("compressed", [False, True], ids=["native", "rle"])
@pytest.mark.parametrize("kind", ["grey", "12 bits", "rgb", "planes", "ybr"])
def test_uncompressed_and_run_lengths(tmp_path: Path, kind: str, compressed: bool) -> None:
    frames = grey_clip(12 if kind == "12 bits" else 8) if kind in ("grey", "12 bits") else colour_clip()
    expected = (frames / 4095 * 255 + 0.5).astype(np.uint8) if kind == "12 bits" else frames
    tags: dict[str, Any] = {}
    stored = frames
    if kind == "12 bits":
        tags = {"BitsStored": 12, "HighBit": 11}
    elif kind == "planes":
        planes = np.moveaxis(frames, -1, 1).tobytes()
        tags = {"PlanarConfiguration": 1, "PixelData": frames.tobytes() if compressed else planes}
    elif kind == "ybr":
        stored, tags = ybr(frames), {"PhotometricInterpretation": "YBR_FULL"}
    path = write_dicom(tmp_path / "clip.dcm", stored, **tags)
    if compressed:
        data = pydicom.dcmread(path)
        data.PlanarConfiguration = 0  # for the encoder, which reads it wrongly
        data.compress(uid.RLELossless, generate_instance_uid=False)
        data.PlanarConfiguration = tags.get("PlanarConfiguration", 0)
        data.save_as(path)
    assert max(differences(path, expected)) <= (1 if kind == "ybr" else 0)


def test_uncompressed_with_half_the_colours(tmp_path: Path) -> None:
    frames = colour_clip()
    luma = ybr(frames)
    pairs = np.stack([luma[:, :, ::2, 0], luma[:, :, 1::2, 0], luma[:, :, ::2, 1], luma[:, :, ::2, 2]], axis=-1)
    path = write_dicom(
        tmp_path / "clip.dcm", frames, PhotometricInterpretation="YBR_FULL_422", PixelData=pairs.tobytes()
    )
    assert max(differences(path, frames)) < 2


def test_a_compressed_palette(tmp_path: Path) -> None:
    frames = grey_clip()
    shades = np.arange(256)
    tables = {"Red": shades, "Green": shades[::-1], "Blue": shades // 2}
    tags: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, table in tables.items():
        tags[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        tags[f"{name}PaletteColorLookupTableData"] = (table * 257).astype("<u2").tobytes()
    path = write(tmp_path / "clip.dcm", frames, uid.JPEGLSLossless, [jpeg_ls(frame) for frame in frames], **tags)
    assert differences(path, np.stack(list(tables.values()), axis=-1)[frames].astype(np.uint8)) == [0, 0, 0]


def test_frames_in_several_fragments(tmp_path: Path) -> None:
    frames = grey_clip()
    coded = [jpeg_lossless(frame) for frame in frames]
    for table in (True, False):
        pieces = encaps.encapsulate(coded, fragments_per_frame=3, has_bot=table)
        path = write_dicom(tmp_path / "clip.dcm", frames, syntax=uid.JPEGLosslessSV1, PixelData=pieces)
        assert differences(path, frames) == [0, 0, 0]
    pieces, offsets, lengths = encaps.encapsulate_extended(coded)
    tags = {"ExtendedOffsetTable": offsets, "ExtendedOffsetTableLengths": lengths, "PixelData": pieces}
    path = write_dicom(tmp_path / "extended.dcm", frames, syntax=uid.JPEGLosslessSV1, **tags)
    assert differences(path, frames) == [0, 0, 0]


def test_compressed_frames_are_sampled_by_their_times(tmp_path: Path) -> None:
    coded = [jpeg_ls(frame) for frame in ramp(6)]
    path = write(tmp_path / "clip.dcm", ramp(6), uid.JPEGLSLossless, coded, FrameTime="200")
    frames = read(path, HALF)
    assert [(frame.frame, frame.time) for frame in frames] == [(0, 0.0), (3, 0.6), (5, 1.0)]
    assert levels(frames) == [10, 130, 210]


# Damage


@pytest.mark.parametrize("table", [True, False], ids=["offsets", "no offsets"])
@pytest.mark.parametrize(
    ("syntax", "coder"),
    [
        (uid.JPEGBaseline8Bit, jpeg),
        (uid.JPEGLosslessSV1, jpeg_lossless),
        (uid.JPEGLSLossless, jpeg_ls),
        (uid.JPEG2000Lossless, jpeg_2000),
    ],
)
def test_a_damaged_frame_costs_only_itself(tmp_path: Path, syntax: str, coder: Coder, table: bool) -> None:
    frames = np.stack([*grey_clip(), grey_clip()[0]])
    coded = [coder(frame) for frame in frames]
    coded[1] = coded[1][: len(coded[1]) // 2]
    coded[2] = coded[2][:2] + bytes(len(coded[2]) - 4) + coded[2][-2:]
    read_before, reason = read_up_to_the_error(write(tmp_path / "clip.dcm", frames, syntax, coded, table))
    assert [frame.frame for frame in read_before] == [0, 3]
    assert reason.startswith("2 of 4 frames cannot be read; frame 1 ")


@pytest.mark.parametrize("table", [True, False], ids=["offsets", "no offsets"])
@pytest.mark.parametrize("run_lengths", [False, True], ids=["jpeg-ls", "rle"])
def test_a_file_that_was_cut_off_gives_the_frames_before(tmp_path: Path, table: bool, run_lengths: bool) -> None:
    frames = grey_clip()
    encoder = pixels.get_encoder(uid.RLELossless)
    data = pydicom.dcmread(write_dicom(tmp_path / "native.dcm", frames))
    coded = [encoder.encode(data, index=number) if run_lengths else jpeg_ls(frames[number]) for number in range(COUNT)]
    syntax = uid.RLELossless if run_lengths else uid.JPEGLSLossless
    path = write(tmp_path / "clip.dcm", frames, syntax, coded, table)
    path.write_bytes(path.read_bytes()[: -len(coded[2]) - 200])
    before, reason = read_up_to_the_error(path)
    assert [frame.frame for frame in before] == [0]
    assert "frame 1 cannot be decoded" in reason


def test_a_frame_of_another_size_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []
    monkeypatch.setattr("ml_backend.ingest.encapsulated.pixels.get_decoder", _spy(decoded))
    for syntax, coder in ((uid.JPEGBaseline8Bit, jpeg), (uid.JPEGLSLossless, jpeg_ls), (uid.JPEG2000, jpeg_2000)):
        large = coder(np.zeros((200, 300), np.uint8))
        path = write(tmp_path / "clip.dcm", ramp(1), syntax, [large])
        with pytest.raises(FrameUnreadable, match="300 x 200, and not 12 x 8"):
            read(path)
    assert decoded == []


def _spy(seen: list[bytes]) -> Callable[[str], Any]:
    real = pixels.get_decoder

    def get(syntax: str) -> Any:
        decoder = real(syntax)

        class Watched:
            available_plugins = decoder.available_plugins

            def as_array(self, source: bytes, **options: Any) -> Any:
                seen.append(source)
                return decoder.as_array(source, **options)

        return Watched()

    return get


def test_a_missing_plugin_is_named_with_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PLUGINS", ("pillow", "pydicom"))
    for syntax, package in (
        (uid.JPEGLosslessSV1, "libjpeg"),
        (uid.JPEGLSLossless, "libjpeg"),
        (uid.HTJ2KLossless, "openjpeg"),
    ):
        path = write(tmp_path / "clip.dcm", ramp(1), syntax, [jpeg_ls(ramp(1)[0])])
        with pytest.raises(FrameUnreadable, match=f"`pip install pylibjpeg pylibjpeg-{package}`"):
            read(path)
    path = write(tmp_path / "deep.dcm", grey_clip(12), uid.JPEGExtended12Bit, [jpeg_12(f) for f in grey_clip(12)])
    with pytest.raises(FrameUnreadable, match="pylibjpeg-libjpeg"):
        read(path)
    path = write(tmp_path / "baseline.dcm", ramp(1), uid.JPEGBaseline8Bit, [jpeg(ramp(1)[0])])
    assert len(read(path)) == 1


def test_a_header_without_pixels_behind_it(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.dcm", ramp(1), uid.JPEGLSLossless, [jpeg_ls(ramp(1)[0])])
    path.write_bytes(path.read_bytes().split(b"\xe0\x7f\x10\x00")[0])
    with pytest.raises(FrameUnreadable, match="no compressed pixels"):
        read(path)


# Memory


def peak(path: Path) -> int:
    tracemalloc.start()
    try:
        for _ in dicom_frames(path, Fraction(0)):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("table", [True, False], ids=["offsets", "no offsets"])
def test_memory_does_not_grow_with_the_frames(tmp_path: Path, table: bool) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200), np.uint8)
    coded = jpeg(noise)
    paths = []
    for count in (10, 100):
        frames = np.broadcast_to(noise, (count, 200, 200))
        paths.append(write(tmp_path / f"{count}.dcm", frames, uid.JPEGBaseline8Bit, [coded] * count, table))
    peak(paths[0])  # what is loaded once
    few, many = map(peak, paths)
    assert many - few < 2 * len(coded)  # of the 90 frames more


# Videos


VIDEOS = {
    "MPEG-2": ("mpeg2video", "mpeg2video", uid.MPEG2MPML),
    "MPEG-2 in a transport stream": ("mpeg2video", "mpegts", uid.MPEG2MPHL),
    "H.264": ("libx264", "h264", uid.MPEG4HP41),
    "H.264 in MP4": ("libx264", "mp4", uid.MPEG4HP41BD),
    "H.264 in a transport stream": ("libx264", "mpegts", uid.MPEG4HP42STEREO),
    "HEVC": ("libx265", "hevc", uid.HEVCMP51),
    "HEVC in MP4": ("libx265", "mp4", uid.HEVCM10P51),
}


def video(frames: NDArray[np.uint8], codec: str, container: str) -> bytes:
    """Encode frames, 20 a second."""
    buffer = io.BytesIO()
    quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    with av.open(buffer, "w", format=container) as file:
        stream = file.add_stream(codec, rate=20, options=quiet)
        stream.height, stream.width, stream.pix_fmt, stream.bit_rate = *frames.shape[1:3], "yuv420p", 2_000_000
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        file.mux(stream.encode())
    return buffer.getvalue()


@pytest.mark.parametrize("name", VIDEOS)
def test_videos(tmp_path: Path, name: str) -> None:
    codec, container, syntax = VIDEOS[name]
    clip = np.repeat(colour_clip(), 7, axis=0)
    pieces = encaps.encapsulate([video(clip, codec, container)], fragments_per_frame=3)
    tags = {"PhotometricInterpretation": "YBR_PARTIAL_420", "PixelData": pieces, "FrameTime": "50"}
    path = write_dicom(tmp_path / "clip.dcm", clip, syntax=syntax, **tags)
    frames = read(path, HALF)
    assert [(frame.frame, round(frame.time, 3)) for frame in frames] == [(0, 0.0), (10, 0.5), (20, 1.0)]
    for frame, number in zip(frames, (0, 10, 20), strict=True):
        assert np.abs(np.asarray(frame.picture.convert("RGB")).astype(int) - clip[number]).mean() < 6


@pytest.mark.parametrize(("tags", "last"), [({"FrameTime": "100"}, 0.2), ({"CineRate": 5}, 0.4), ({}, 0.08)])
def test_the_header_times_a_bare_video(tmp_path: Path, tags: dict[str, Any], last: float) -> None:
    coded = encapsulated(video(colour_clip(), "libx264", "h264"))
    path = write_dicom(tmp_path / "clip.dcm", colour_clip(), syntax=uid.MPEG4HP41, **coded, **tags)
    assert read(path)[-1].time == pytest.approx(last)


def test_mpeg_2_keeps_its_own_times(tmp_path: Path) -> None:
    coded = encapsulated(video(colour_clip(), "mpeg2video", "mpeg2video"))
    path = write_dicom(tmp_path / "clip.dcm", colour_clip(), syntax=uid.MPEG2MPML, FrameTime="100", **coded)
    assert read(path)[-1].time == pytest.approx(0.1)


def test_a_video_that_is_cut_off_gives_what_is_before(tmp_path: Path) -> None:
    clip = np.repeat(colour_clip(), 20, axis=0)
    path = write_dicom(
        tmp_path / "clip.dcm", clip, syntax=uid.MPEG2MPML, **encapsulated(video(clip, "mpeg2video", "mpegts"))
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    before, _ = read_up_to_the_error(path)
    assert 10 < len(before) < 60


def test_a_video_has_its_own_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coded = encapsulated(video(colour_clip(), "libx264", "mp4"))
    path = write_dicom(tmp_path / "clip.dcm", ramp(1), syntax=uid.MPEG4HP41, **coded)  # the header says 12 x 8, 1 frame
    with monkeypatch.context() as patch:
        patch.setattr(pictures, "MAX_FRAMES", 2)
        before, reason = read_up_to_the_error(path)
        assert len(before) == 2
        assert "frames allowed" in reason
    monkeypatch.setattr(pictures, "MAX_PIXELS", 1000)
    with pytest.raises(FrameUnreadable, match="128 x 96"):
        read(path)


def test_the_fragments_of_a_video_are_not_read_into_memory(tmp_path: Path) -> None:
    stream = np.random.default_rng(0).bytes(3_000_000)
    path = write_dicom(tmp_path / "clip.dcm", ramp(), syntax=uid.MPEG4HP41, PixelData=encaps.encapsulate([stream], 7))
    with path.open("rb") as file:
        tracemalloc.start()
        fragments = io.BufferedReader(module.Fragments(file))
        fragments.seek(-1000, io.SEEK_END)
        assert fragments.read() == stream[-1000:]
        fragments.seek(400_000)
        assert fragments.read(100_000) == stream[400_000:500_000]
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
        tracemalloc.stop()
        fragments.seek(0)
        assert fragments.read() == stream


@pytest.mark.parametrize(
    ("syntax", "coder", "plugin"), [(uid.JPEGBaseline8Bit, jpeg, "pillow"), (uid.JPEGLSLossless, jpeg_ls, "pylibjpeg")]
)
def test_the_extra_changes_no_pixels_of_what_is_read_without_it(
    tmp_path: Path, syntax: str, coder: Coder, plugin: str
) -> None:
    path = write(tmp_path / "clip.dcm", ramp(1), syntax, [coder(ramp(1)[0])])
    assert module.plugin_for(pydicom.dcmread(path)) == plugin
