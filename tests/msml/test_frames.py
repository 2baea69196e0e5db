from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ml_backend.errors import FrameUnreadable
from ml_backend.msml.frames import SHAPE, augment, decode, views


def _encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    """A smooth picture, different in every corner and channel, 320x200."""
    y, x = np.mgrid[0:200, 0:320]
    return Image.fromarray(np.stack([x * 0.7, y * 1.2, (x + y) * 0.4], axis=2).astype(np.uint8))


@pytest.fixture(scope="module")
def plain(picture: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(picture.resize((224, 224), Image.Resampling.BILINEAR))


def test_an_rgb_image_is_resized_without_keeping_its_shape(picture: Image.Image, plain: NDArray[np.uint8]) -> None:
    frame = decode(_encoded(picture))
    assert frame.dtype == np.uint8
    assert frame.shape == SHAPE == (224, 224, 3)
    assert np.array_equal(frame, plain)
    assert frame.flags.writeable


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "GIF", "WEBP", "JPEG"])
def test_other_kinds_of_files(kind: str, picture: Image.Image, plain: NDArray[np.uint8]) -> None:
    assert np.abs(decode(_encoded(picture, kind)).astype(int) - plain).mean() < 6


@pytest.mark.parametrize("kind", ["JPEG2000", "PPM", "EPS", "PDF", "ICO", "TGA", "PCX", "SGI", "IM", "DDS"])
def test_what_no_browser_shows_is_not_decoded(kind: str, picture: Image.Image) -> None:
    with pytest.raises(FrameUnreadable, match="no image of a known kind"):
        decode(_encoded(picture, kind))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_a_jpeg_that_is_drawn_over_and_over_is_refused(kind: str, picture: Image.Image) -> None:
    jpeg = _encoded(picture, "JPEG", progressive=True)
    start, end = jpeg.rindex(b"\xff\xda"), jpeg.rindex(b"\xff\xd9")
    often = jpeg[:end] + jpeg[start:end] * 1000 + jpeg[end:]
    some = jpeg[:end] + jpeg[start:end] * 10 + jpeg[end:]
    if kind == "TIFF":
        often, some = (_in_tiff(content, picture.size) for content in (often, some))
    assert decode(some).shape == SHAPE
    with pytest.raises(FrameUnreadable, match="scans"):
        decode(often)


def _in_tiff(jpeg: bytes, size: tuple[int, int]) -> bytes:
    """Put a JPEG into the one strip of a TIFF."""
    # fmt: off
    tags = [
        (256, 4, 1, size[0]), (257, 4, 1, size[1]), (258, 3, 1, 8), (259, 3, 1, 7), (262, 3, 1, 6), (273, 4, 1, 0),
        (277, 3, 1, 3), (278, 4, 1, size[1]), (279, 4, 1, len(jpeg)), (530, 3, 2, 2 | 2 << 16),
    ]
    # fmt: on
    start = 8 + 2 + 12 * len(tags) + 4
    entries = [
        struct.pack("<HHII", tag, kind, count, start if tag == 273 else value) for tag, kind, count, value in tags
    ]
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + b"".join(entries) + b"\0\0\0\0" + jpeg


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK"])
def test_colour_modes_show_what_pillow_shows(mode: str, picture: Image.Image) -> None:
    converted = picture.convert(mode)
    kind = "TIFF" if mode == "CMYK" else "PNG"
    expected = np.asarray(converted.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR))
    assert np.array_equal(decode(_encoded(converted, kind)), expected)


def test_grey_becomes_three_equal_channels(picture: Image.Image) -> None:
    for kind in ("PNG", "JPEG"):
        frame = decode(_encoded(picture.convert("L"), kind))
        assert np.array_equal(frame[..., 0], frame[..., 1])
        assert np.array_equal(frame[..., 0], frame[..., 2])
        assert frame.std() > 20


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_cut_off(kind: str) -> None:
    deep = np.array([[0, 256 * 7 + 200], [256 * 100, 65535]], np.uint16).repeat(112, 0).repeat(112, 1)
    frame = decode(_encoded(Image.fromarray(deep), kind))
    assert [frame[10, 10, 0], frame[10, 200, 1], frame[200, 10, 2], frame[200, 200, 0]] == [0, 7, 100, 255]


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_deep_samples_are_scaled_by_their_own_depth(bits: int) -> None:
    deep = np.array([[0, 2 ** (bits - 1)], [2**bits - 1, 0]], np.uint16).repeat(112, 0).repeat(112, 1)
    frame = decode(_encoded(Image.fromarray(deep), "PNG"))
    assert [frame[10, 10, 0], frame[10, 200, 1], frame[200, 10, 2]] == [0, 128, 255]


def test_thirty_two_bits_are_refused() -> None:
    for dtype in (np.int32, np.float32):
        with pytest.raises(FrameUnreadable, match="8 or 16 bits"):
            decode(_encoded(Image.fromarray(np.ones((9, 9), dtype)), "TIFF"))


def test_what_is_transparent_is_black(picture: Image.Image, plain: NDArray[np.uint8]) -> None:
    half = picture.copy()
    half.putalpha(Image.fromarray(np.where(np.arange(320) < 160, 0, 255).astype(np.uint8)[None].repeat(200, 0)))
    frame = decode(_encoded(half))
    assert (frame[:, :110] == 0).all()
    assert np.array_equal(frame[:, 114:], plain[:, 114:])
    palette = Image.new("P", (50, 50), 1)
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.paste(0, (0, 0, 25, 50))
    frame = decode(_encoded(palette, transparency=0))
    assert frame[100, 50].tolist() == [0, 0, 0]
    assert frame[100, 180].tolist() == [200, 100, 50]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_exif_orientation_is_followed(orientation: int, kind: str, picture: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = _encoded(picture, kind, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    expected = np.asarray(upright.resize((224, 224), Image.Resampling.BILINEAR))
    assert np.array_equal(decode(content), expected)


def test_broken_exif_is_ignored(picture: Image.Image) -> None:
    assert np.array_equal(
        decode(_encoded(picture, "JPEG", exif=b"Exif\0\0not a TIFF")), decode(_encoded(picture, "JPEG"))
    )


def test_a_large_jpeg_read_at_a_fraction_looks_the_same(picture: Image.Image) -> None:
    large = picture.resize((2000, 1500), Image.Resampling.BICUBIC)
    exact = np.asarray(large.resize((224, 224), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(decode(_encoded(large, "JPEG", quality=95)) - exact).mean() < 1


def test_of_an_animation_the_first_picture_counts() -> None:
    first, second = Image.new("RGB", (40, 40), (255, 0, 0)), Image.new("RGB", (40, 40), (0, 0, 255))
    frame = decode(_encoded(first, "GIF", save_all=True, append_images=[second]))
    assert frame[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF"])
def test_a_truncated_file_is_unreadable(kind: str, picture: Image.Image) -> None:
    content = _encoded(picture, kind)
    with pytest.raises(FrameUnreadable, match=r"damaged|truncated"):
        decode(content[: len(content) // 2])


@pytest.mark.parametrize("content", [b"", b"<html>Please log in</html>"])
def test_a_file_that_is_not_an_image_is_unreadable(content: bytes) -> None:
    with pytest.raises(FrameUnreadable, match="no image of a known kind"):
        decode(content)


def test_postscript_is_refused(picture: Image.Image) -> None:
    """Pillow would hand it to Ghostscript, a program that a stranger's file could then command."""
    with pytest.raises(FrameUnreadable, match="no image of a known kind"):
        decode(_encoded(picture, "EPS"))


def _empty_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [7072, 11000, 60000])
def test_too_many_pixels_are_refused_before_they_are_decoded(side: int) -> None:
    with pytest.raises(FrameUnreadable, match="pixels"):
        decode(_empty_png(side, side))


def test_the_pixel_limit_is_what_the_caller_says(picture: Image.Image) -> None:
    assert decode(_encoded(picture), max_pixels=64_000).shape == SHAPE
    for kind in ("PNG", "JPEG"):
        with pytest.raises(FrameUnreadable, match="320x200 pixels, more than 63,999"):
            decode(_encoded(picture, kind), max_pixels=63_999)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_give_a_frame_or_frame_unreadable(data: st.DataObject, picture: Image.Image) -> None:
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"]))
    content = bytearray(_encoded(picture.resize((32, 20)), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        frame = decode(bytes(content))
    except FrameUnreadable:
        return
    assert frame.shape == SHAPE


def _blob(column: int, row: int) -> NDArray[np.uint8]:
    frame = np.zeros(SHAPE, np.uint8)
    frame[row - 6 : row + 6, column - 6 : column + 6] = 255
    return frame


def _place(frame: NDArray[np.uint8]) -> complex:
    weights = frame[..., 0].astype(float)
    rows, columns = np.mgrid[0:224, 0:224] - 111.5
    return complex((weights * columns).sum(), (weights * rows).sum()) / float(weights.sum())


def test_augmentation_rotates_up_to_ten_degrees_and_mirrors_every_other_time() -> None:
    """A blob right of the centre tells by how much it was turned and to which side it went."""
    rng = np.random.default_rng(0)
    places = np.array([_place(augment(_blob(182, 112), rng)) for _ in range(300)])
    mirrored = places.real < 0
    angles = np.degrees(np.arctan2(places.imag, np.abs(places.real)))
    assert 0.4 < mirrored.mean() < 0.6
    assert np.abs(angles).max() < 10.6
    assert angles.min() < -9
    assert angles.max() > 9
    assert np.abs(np.abs(places) - 70.5).max() < 1


def test_augmentation_fills_corners_black_and_keeps_the_rest() -> None:
    white = np.full(SHAPE, 255, np.uint8)
    rng = np.random.default_rng(3)
    frames = [augment(white, rng) for _ in range(20)]
    assert all((frame[60:164, 60:164] == 255).all() for frame in frames)
    assert sum((frame[0, 0] == 0).all() for frame in frames) > 10
    assert (white == 255).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**64 - 1), low=st.integers(0, 255), high=st.integers(0, 255))
def test_augmented_values_stay_within_those_of_the_frame_and_black(seed: int, low: int, high: int) -> None:
    rng = np.random.default_rng(seed)
    low, high = sorted((low, high))
    frame = rng.integers(low, high, SHAPE, dtype=np.uint8, endpoint=True)
    augmented = augment(frame, rng)
    assert augmented.shape == SHAPE
    assert augmented.dtype == np.uint8
    assert augmented.max() <= high


def test_augmentation_comes_from_the_generator() -> None:
    frame = _blob(150, 80)
    first, again, other = (augment(frame, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_views_are_the_frame_and_reproducible_variants() -> None:
    frame = _blob(150, 80)
    bank = views(frame, 5, b"seed of this frame")
    assert bank.shape == (5, 224, 224, 3)
    assert np.array_equal(bank[0], frame)
    assert len({view.tobytes() for view in bank}) == 5
    assert np.array_equal(views(frame, 3, b"seed of this frame"), bank[:3])
    assert not np.array_equal(views(frame, 2, b"another")[1], bank[1])
