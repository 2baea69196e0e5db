from __future__ import annotations

import io
import struct
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pydicom import encaps, uid

from ml_backend.errors import FrameUnreadable
from ml_backend.ingest import pictures
from ml_backend.ingest.files import frames_of, kind_of
from ml_backend.ingest.pictures import ClipFrame, Sampler
from ml_backend.ingest.videos import Clock, sound_frames

POCUS = Path(__file__).parents[3] / "shared" / "data" / "pocus" / "clips"
ALL = Fraction(0)
HALF = Fraction(1, 2)


def grey(level: int, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """A frame that tells its number by its grey."""
    return np.full((height, width, 3), level, np.uint8)


def write_video(
    path: Path,
    stamps: list[int],
    *,
    base: Fraction = Fraction(1, 25),
    codec: str = "mpeg4",
    container: str | None = None,
) -> Path:
    """Write frames of grey 10, 20, 30... with the given time stamps."""
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = base
        for number, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(grey(10 + number * 10 % 240))
            frame.pts, frame.time_base = stamp, base
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def write_dicom(
    path: Path, values: NDArray[np.generic], *, syntax: str = uid.ExplicitVRLittleEndian, **tags: object
) -> Path:
    """Write stored values of shape (frames, height, width[, 3]) as an ultrasound DICOM file."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = uid.UltrasoundMultiFrameImageStorage
    meta.MediaStorageSOPInstanceUID = uid.generate_uid(entropy_srcs=[path.name])
    meta.TransferSyntaxUID = syntax
    data = pydicom.Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.NumberOfFrames, data.Rows, data.Columns = values.shape[:3]
    data.SamplesPerPixel = 3 if values.ndim == 4 else 1
    data.PhotometricInterpretation = "RGB" if values.ndim == 4 else "MONOCHROME2"
    if values.ndim == 4:
        data.PlanarConfiguration = 0
    data.BitsAllocated = data.BitsStored = values.dtype.itemsize * 8
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, 0
    data.PixelData = values.tobytes()
    data["PixelData"].VR = "OB" if values.dtype.itemsize == 1 else "OW"
    for name, value in tags.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
    return path


def encapsulated(*frames: bytes) -> dict[str, object]:
    return {"PixelData": encaps.encapsulate(list(frames))}


def encoded(picture: NDArray[np.uint8], form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, form, **options)
    return buffer.getvalue()


def ramp(count: int = 4) -> NDArray[np.uint8]:
    """Stored values (count, 8, 12) of one byte: frame i is full of 40 i + 10."""
    return np.stack([np.full((8, 12), 40 * number + 10, np.uint8) for number in range(count)])


def read(path: Path, every: Fraction = ALL) -> list[ClipFrame]:
    return list(frames_of(path, every))


def read_up_to_the_error(path: Path) -> tuple[list[ClipFrame], str]:
    frames = []
    try:
        for frame in frames_of(path, ALL):
            frames.append(frame)
    except FrameUnreadable as error:
        return frames, str(error)
    raise AssertionError("no error")


def levels(frames: list[ClipFrame]) -> list[int]:
    return [round(float(np.asarray(frame.picture).mean())) for frame in frames]


# Sampling


@given(
    st.lists(st.fractions(0, 20, max_denominator=1000), min_size=1, max_size=60, unique=True).map(sorted),
    st.fractions(Fraction(1, 100), 5, max_denominator=100),
)
def test_the_first_frame_at_or_after_each_multiple_is_taken(times: list[Fraction], every: Fraction) -> None:
    sampler = Sampler(every)
    first_after: dict[int, Fraction] = {}
    for time in times:
        first_after.setdefault(time // every, time)
    assert [time for time in times if sampler.takes(time)] == list(first_after.values())


def test_zero_takes_every_frame(tmp_path: Path) -> None:
    frames = read(write_video(tmp_path / "clip.mp4", list(range(10))))
    assert [frame.frame for frame in frames] == list(range(10))
    assert [frame.time for frame in frames] == [number / 25 for number in range(10)]
    assert levels(frames) == pytest.approx([10 + 10 * number for number in range(10)], abs=5)


def test_sampling_does_not_drift_with_a_frame_rate_that_does_not_divide_the_step(tmp_path: Path) -> None:
    frames = read(write_video(tmp_path / "clip.mp4", list(range(60))), HALF)
    assert [frame.frame for frame in frames] == [0, 13, 25, 38, 50]
    assert [frame.time for frame in frames] == [0.0, 0.52, 1.0, 1.52, 2.0]


def test_uneven_time_stamps_are_kept(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mov", [0, 40, 800, 840, 2400], base=Fraction(1, 1000))
    assert [frame.time for frame in read(path)] == [0.0, 0.04, 0.8, 0.84, 2.4]
    assert [frame.frame for frame in read(path, HALF)] == [0, 2, 4]


# Videos


@pytest.mark.parametrize(
    ("name", "codec", "container"),
    [
        ("clip.mp4", "mpeg4", None),
        ("clip.mov", "mpeg4", None),
        ("clip.avi", "mpeg4", None),
        ("CLIP.MPEG", "mpeg2video", "vob"),
        ("clip.mpg", "mpeg1video", "mpeg"),
        ("clip.mpg", "mpeg1video", "mpeg1video"),
        ("clip.avi", "mpeg4", "mp4"),
    ],
)
def test_containers(tmp_path: Path, name: str, codec: str, container: str | None) -> None:
    path = write_video(tmp_path / name, list(range(20)), codec=codec, container=container)
    frames = read(path)
    assert kind_of(path) == "video"
    assert [frame.frame for frame in frames] == list(range(20))
    # libav guesses some stamps of MPEG streams, and may be a frame off.
    assert [frame.time for frame in frames] == pytest.approx([number / 25 for number in range(20)], abs=0.041)
    assert frames[0].time == 0.0
    assert levels(frames) == pytest.approx([10 + number * 10 for number in range(20)], abs=5)
    assert {frame.picture.size for frame in frames} == {(64, 48)}


def test_time_counts_from_the_first_frame(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", [100, 101, 102])
    assert [frame.time for frame in read(path)] == [0.0, 0.04, 0.08]


def test_time_goes_on_where_time_stamps_restart() -> None:
    clock = Clock(SimpleNamespace(average_rate=Fraction(10), guessed_rate=None))
    stamps = [50, 51, 53, 0, 2, None, 4]
    times = [clock.read(SimpleNamespace(pts=stamp, time_base=Fraction(1, 10))) for stamp in stamps]
    assert times == [Fraction(tenths, 10) for tenths in (0, 1, 3, 4, 6, 7, 8)]


def test_a_rotated_phone_video_is_turned_upright(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    corner = grey(0)
    corner[:16, :16] = 255
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        file.mux(stream.encode(av.VideoFrame.from_ndarray(corner)))
        file.mux(stream.encode())
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(content)

    picture = np.asarray(read(path)[0].picture)
    assert picture.shape == (64, 48)
    assert picture[5, -5] > 200
    assert picture[5, 5] < 50


def test_a_damaged_tail_gives_the_frames_before_it_and_the_reason(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.avi", list(range(50)))
    content = path.read_bytes()
    start = content.index(b"movi")
    for _ in range(30):
        start = content.index(b"00dc", start + 1)
    path.write_bytes(content[: start + 20])

    frames, reason = read_up_to_the_error(path)
    assert "damaged after frame" in reason
    assert 28 <= len(frames) <= 29
    assert levels(frames) == pytest.approx([10 + number * 10 % 240 for number in range(len(frames))], abs=5)


def test_damage_before_the_first_sound_frame_costs_only_itself() -> None:
    def packet(*corrupt: bool) -> SimpleNamespace:
        frames = [SimpleNamespace(is_corrupt=each) for each in corrupt]
        return SimpleNamespace(decode=lambda: frames, is_corrupt=False)

    packets = [packet(True), packet(False), packet(False)]
    container = SimpleNamespace(demux=lambda stream: packets)
    assert len(list(sound_frames(container, None))) == 2
    packets.append(packet(True))
    with pytest.raises(FrameUnreadable, match="damaged after frame 1"):
        list(sound_frames(container, None))


@pytest.mark.parametrize("content", [b"", b"no video at all" * 100, b"ffconcat version 1.0\nfile '/etc/hostname'\n"])
def test_a_file_that_is_not_a_video_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(FrameUnreadable):
        read(path)


def test_containers_that_are_not_named_are_not_opened(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", list(range(5)), container="matroska")
    with pytest.raises(FrameUnreadable):
        read(path)


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.mov"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), layout="mono")
        frame.sample_rate = 8000
        file.mux(stream.encode(frame))
    with pytest.raises(FrameUnreadable, match="no video"):
        read(path)


def test_a_video_without_frames_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        file.start_encoding()
    with pytest.raises(FrameUnreadable):
        read(path)


def test_too_many_or_too_large_frames_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "clip.mp4", list(range(10)))
    monkeypatch.setattr(pictures, "MAX_FRAMES", 5)
    with pytest.raises(FrameUnreadable, match="more than the 5 frames"):
        read(path)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(FrameUnreadable, match="64 x 48"):
        read(path)


# GIFs


def test_a_gif_with_uneven_durations_odd_size_and_transparency(tmp_path: Path) -> None:
    path = tmp_path / "clip.gif"
    pictures = []
    for number in range(4):
        picture = Image.new("RGBA", (33, 17), (255, 255, 255, 0))
        picture.paste((60 * number + 40,) * 3 + (255,), (5, 5, 20, 12))
        pictures.append(picture)
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], duration=[100, 1000, 200, 300], disposal=2, loop=0
    )

    frames = read(path)
    assert [frame.time for frame in frames] == [0.0, 0.1, 1.1, 1.3]
    assert [frame.frame for frame in read(path, HALF)] == [0, 2]
    for number, frame in enumerate(frames):
        assert frame.picture.size == (33, 17)
        assert frame.picture.convert("L").getpixel((0, 0)) == 0
        assert frame.picture.convert("L").getpixel((10, 8)) == pytest.approx(60 * number + 40, abs=6)


def test_a_gif_that_is_cut_off_says_so(tmp_path: Path) -> None:
    path = tmp_path / "clip.gif"
    noise = np.random.default_rng(0).integers(0, 255, (6, 40, 40), np.uint8)
    pictures = [Image.fromarray(picture) for picture in noise]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100)
    path.write_bytes(path.read_bytes()[:-2000])
    frames, reason = read_up_to_the_error(path)
    assert "ends early" in reason
    assert 1 <= len(frames) <= 5


# Stills


@pytest.mark.parametrize("name", ["still.jpg", "STILL.JPEG", "still.png"])
def test_a_still_is_one_frame_at_time_zero(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    Image.fromarray(grey(90)).save(path)
    (frame,) = read(path, HALF)
    assert (frame.frame, frame.time, frame.picture.mode) == (0, 0.0, "L")
    assert levels([frame]) == [90]


def test_a_stills_metadata_stays_behind_and_its_orientation_is_undone(tmp_path: Path) -> None:
    path = tmp_path / "still.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    exif[0x010E] = "JANE DOE"
    half = grey(0)
    half[:, :32] = 255
    Image.fromarray(half).save(path, exif=exif, icc_profile=b"JANE DOE", comment=b"JANE DOE", quality=95)
    (frame,) = read(path)
    assert frame.picture.size == (48, 64)
    assert frame.picture.convert("L").getpixel((24, 5)) in range(251, 256)
    assert frame.picture.info == {}
    assert not frame.picture.getexif()


def test_transparent_and_deep_stills(tmp_path: Path) -> None:
    clear = np.zeros((4, 4, 4), np.uint8)
    clear[..., :3] = 200
    clear[:, 2:, 3] = 255
    Image.fromarray(clear).save(tmp_path / "clear.png")
    assert np.asarray(read(tmp_path / "clear.png")[0].picture)[0].tolist() == [0, 0, 200, 200]

    Image.fromarray(np.array([[0, 32768, 65535]], np.uint16)).save(tmp_path / "deep.png")
    assert np.asarray(read(tmp_path / "deep.png")[0].picture).tolist() == [[0, 128, 255]]


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_deep_pictures_are_scaled_by_their_own_depth(tmp_path: Path, bits: int) -> None:
    brightest = 2**bits - 1
    values = np.array([[0, brightest // 2 + 1, brightest]], np.uint16)
    Image.fromarray(values).save(tmp_path / "still.png")
    write_dicom(tmp_path / "still.dcm", values[None], BitsStored=bits, HighBit=bits - 1)
    for name in ("still.png", "still.dcm"):
        assert np.asarray(read(tmp_path / name)[0].picture).tolist() == [[0, 128, 255]]


def test_colour_stays_colour(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (10, 20, 30)).save(tmp_path / "colour.png")
    (frame,) = read(tmp_path / "colour.png")
    assert frame.picture.getpixel((0, 0)) == (10, 20, 30)


def test_decompression_bombs_and_broken_stills_are_refused(tmp_path: Path) -> None:
    Image.new("1", (10_000, 9_500)).save(tmp_path / "bomb.png")
    with pytest.raises(FrameUnreadable, match="10000 x 9500"):
        read(tmp_path / "bomb.png")
    Image.new("1", (20_000, 10_000)).save(tmp_path / "larger.png")
    with pytest.raises(FrameUnreadable, match="decompression bomb"):
        read(tmp_path / "larger.png")
    sound = encoded(np.random.default_rng(0).integers(0, 255, (50, 50), np.uint8), "JPEG")
    (tmp_path / "cut.jpg").write_bytes(sound[: len(sound) // 2])
    with pytest.raises(FrameUnreadable, match="truncated"):
        read(tmp_path / "cut.jpg")
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(FrameUnreadable, match="cannot identify"):
        read(tmp_path / "text.png")


def test_files_that_are_absent_or_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FrameUnreadable, match="No such file"):
        read(tmp_path / "absent.mp4")
    (tmp_path / "notes.txt").write_text("notes")
    assert kind_of(tmp_path / "notes.txt") is None
    with pytest.raises(FrameUnreadable, match="not a video"):
        read(tmp_path / "notes.txt")


def test_content_counts_before_the_suffix(tmp_path: Path) -> None:
    Image.fromarray(grey(90)).save(tmp_path / "still.mp4", "PNG")
    assert kind_of(tmp_path / "still.mp4") == "still"
    write_dicom(tmp_path / "IM0001", ramp())
    assert kind_of(tmp_path / "IM0001") == "dicom"
    Image.fromarray(grey(90)).save(tmp_path / "clip.jpg", "GIF")
    assert kind_of(tmp_path / "clip.jpg") == "video"


# DICOM


@pytest.mark.parametrize(
    ("tags", "times"),
    [
        ({"FrameTime": "250"}, [0, 0.25, 0.5, 0.75]),
        ({"FrameTimeVector": ["0", "100", "500", "150.5"]}, [0, 0.1, 0.6, 0.7505]),
        ({"FrameTimeVector": ["0", "100", "0", "0"], "FrameTime": "100"}, [0, 0.1, 0.2, 0.3]),
        ({"CineRate": 10}, [0, 0.1, 0.2, 0.3]),
        ({"RecommendedDisplayFrameRate": 50}, [0, 0.02, 0.04, 0.06]),
        ({"FrameTime": "0", "CineRate": 20}, [0, 0.05, 0.1, 0.15]),
        ({}, [0, 0.04, 0.08, 0.12]),
    ],
)
def test_dicom_frame_times(tmp_path: Path, tags: dict[str, Any], times: list[float]) -> None:
    frames = read(write_dicom(tmp_path / "clip.dcm", ramp(), **tags))
    assert [frame.time for frame in frames] == times
    assert levels(frames) == [10, 50, 90, 130]


def write_text_in(path: Path, **tags: str) -> Path:
    """Write a DICOM file with texts in tags that should hold something else."""
    data = pydicom.dcmread(write_dicom(path, ramp()))
    for name, text in tags.items():
        data.add(pydicom.DataElement(name, "LO", text))
    data.save_as(path)
    return path


@pytest.mark.parametrize(
    "text", ["1E999999999", "-5", "0", "inf", "nan", "1E-7", "1E7", "DOE^JOHN", "1\\2", "1\\DOE^JOHN\\2\\3", ""]
)
def test_times_that_make_no_sense_count_as_absent(tmp_path: Path, text: str) -> None:
    times = {"FrameTimeVector": text, "FrameTime": text, "CineRate": text}
    path = write_text_in(tmp_path / "clip.dcm", **times, RecommendedDisplayFrameRate="10")
    assert [frame.time for frame in read(path)] == [0, 0.1, 0.2, 0.3]
    path = write_text_in(tmp_path / "none.dcm", **times, RecommendedDisplayFrameRate=text)
    assert [frame.time for frame in read(path)] == [0, 0.04, 0.08, 0.12]


@pytest.mark.parametrize(
    "tag",
    [
        *("NumberOfFrames", "Rows", "Columns", "BitsAllocated", "BitsStored", "SamplesPerPixel"),
        *("PixelRepresentation", "PhotometricInterpretation", "RescaleSlope", "RescaleIntercept", "WindowCenter"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True], ids=["native", "compressed"])
def test_a_reason_tells_nothing_of_the_header(tmp_path: Path, tag: str, compressed: bool) -> None:
    tags: dict[str, str] = {tag: "O'BRIEN^JOHN"}
    if tag == "WindowCenter":
        tags["WindowWidth"] = "O'BRIEN^JOHN"
    path = write_text_in(tmp_path / "clip.dcm", **tags)
    if compressed:
        data = pydicom.dcmread(path)
        data.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
        data.PixelData = encaps.encapsulate([encoded(frame, "JPEG") for frame in ramp()])
        data.save_as(path)
    with pytest.raises(FrameUnreadable) as caught:
        read(path)
    assert "BRIEN" not in str(caught.value)
    assert "JOHN" not in str(caught.value)
    if tag == "NumberOfFrames":
        assert str(caught.value) == "Number of Frames in its header is not a number"


def test_dicom_frames_are_sampled_by_time(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "clip.dcm", ramp(6), FrameTime="200")
    frames = read(path, HALF)
    assert [(frame.frame, frame.time) for frame in frames] == [(0, 0.0), (3, 0.6), (5, 1.0)]
    assert levels(frames) == [10, 130, 210]


def test_single_frame_dicom(tmp_path: Path) -> None:
    (frame,) = read(write_dicom(tmp_path / "still.dcm", ramp(1)), HALF)
    assert (frame.frame, frame.time, levels([frame])) == (0, 0.0, [10])


def test_dicom_shades(tmp_path: Path) -> None:
    dark = write_dicom(tmp_path / "inverted.dcm", ramp(), PhotometricInterpretation="MONOCHROME1")
    assert levels(read(dark)) == [245, 205, 165, 125]

    deep = np.full((1, 4, 4), 2048, np.uint16)
    assert levels(read(write_dicom(tmp_path / "deep.dcm", deep, BitsStored=12, HighBit=11))) == [128]
    window: dict[str, Any] = {"BitsStored": 12, "HighBit": 11, "WindowCenter": "2048", "WindowWidth": "10"}
    assert levels(read(write_dicom(tmp_path / "window.dcm", deep + 100, **window))) == [255]
    window["RescaleSlope"], window["RescaleIntercept"] = "1", "-200"
    assert levels(read(write_dicom(tmp_path / "rescaled.dcm", deep + 100, **window))) == [0]

    signed = np.array([[[-128, 0, 127]]], np.int8)
    (frame,) = read(write_dicom(tmp_path / "signed.dcm", signed, PixelRepresentation=1))
    assert np.asarray(frame.picture).tolist() == [[0, 128, 255]]


def test_dicom_colours(tmp_path: Path) -> None:
    colour = np.zeros((2, 8, 8, 3), np.uint8)
    colour[:] = (200, 100, 50)
    (frame, _) = read(write_dicom(tmp_path / "rgb.dcm", colour))
    assert frame.picture.getpixel((3, 3)) == (200, 100, 50)

    luma = np.asarray(Image.fromarray(colour[0]).convert("YCbCr"))[None]
    (frame,) = read(write_dicom(tmp_path / "ybr.dcm", luma, PhotometricInterpretation="YBR_FULL"))
    assert frame.picture.getpixel((3, 3)) == pytest.approx((200, 100, 50), abs=3)

    table: dict[str, Any] = {
        f"{name}PaletteColorLookupTable{part}": value
        for name, level in (("Red", 200), ("Green", 100), ("Blue", 50))
        for part, value in (("Descriptor", [256, 0, 16]), ("Data", np.full(256, level * 257, "<u2").tobytes()))
    }
    path = write_dicom(tmp_path / "palette.dcm", ramp(1), PhotometricInterpretation="PALETTE COLOR", **table)
    assert read(path)[0].picture.getpixel((3, 3)) == (200, 100, 50)


def test_unusable_dicom_is_refused_with_the_reason(tmp_path: Path) -> None:
    def reason(path: Path) -> str:
        with pytest.raises(FrameUnreadable) as caught:
            read(path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "not known" in reason(
        write_dicom(tmp_path / "odd.dcm", ramp(), syntax="1.2.840.10008.1.2.4.94", **encapsulated(b"\0\0"))
    )
    assert "deflated" in reason(write_dicom(tmp_path / "flat.dcm", ramp(), syntax=uid.DeflatedExplicitVRLittleEndian))
    assert "frame 1 cannot be decoded" in reason(write_dicom(tmp_path / "short.dcm", ramp(), PixelData=b"\0" * 100))
    assert "60000 x 60000" in reason(write_dicom(tmp_path / "bomb.dcm", ramp(), Rows=60000, Columns=60000))
    assert "frames allowed" in reason(write_dicom(tmp_path / "long.dcm", ramp(), NumberOfFrames=2_000_000_000))
    (tmp_path / "text.dcm").write_text("text" * 100)
    assert "not a DICOM file" in reason(tmp_path / "text.dcm")

    report = pydicom.dcmread(write_dicom(tmp_path / "report.dcm", ramp()))
    for name in ("Rows", "Columns", "PixelData"):
        delattr(report, name)
    report.save_as(tmp_path / "report.dcm")
    assert "no picture" in reason(tmp_path / "report.dcm")


# Real clips


@pytest.mark.skipif(not POCUS.is_dir(), reason=f"the clips of {POCUS} are not here")
@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mov", ".mpeg", ".gif", ".jpg", ".JPG", ".MP4", ".png"])
def test_real_clips(suffix: str) -> None:
    path = sorted(path for path in POCUS.iterdir() if path.suffix == suffix)[0]
    frames = read(path, HALF)
    assert frames[0].time == 0.0
    assert all(0.4 < later.time - earlier.time < 0.6 for earlier, later in pairwise(frames))
    assert len({frame.picture.size for frame in frames}) == 1
    assert float(np.asarray(frames[0].picture).std()) > 10
