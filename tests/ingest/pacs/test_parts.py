from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_backend.ingest.pacs.parts import BrokenOff, boundary_of, first_part

BOUNDARY = b"=-_b"
HEAD = b"\r\n--" + BOUNDARY + b"\r\nContent-Type: application/dicom\r\nContent-Length: 7\r\n\r\n"
END = b"\r\n--" + BOUNDARY + b"--\r\n"


def cut_up(message: bytes, places: list[int]) -> Iterator[bytes]:
    places = sorted({min(place, len(message)) for place in places})
    return (message[start:end] for start, end in itertools.pairwise([0, *places, len(message)]))


# Pieces of the boundary within the content are what a reader of blocks stumbles over.
content = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"--", b"=-_", b"\r\n--=-_", b"\r\n\r\n", b"a" * 9])).map(
    b"".join
)


@given(
    content.filter(lambda part: b"\r\n--" + BOUNDARY not in part and part), st.lists(st.integers(0, 300)), st.booleans()
)
def test_the_first_part_comes_whole_however_it_is_cut_up(part: bytes, places: list[int], more: bool) -> None:
    rest = END[:-4] + b"\r\n\r\nsecond" + END if more else END
    blocks = cut_up(HEAD + part + rest, places)
    assert b"".join(first_part(blocks, BOUNDARY)) == part
    assert next(blocks, None) is None  # so that the connection can be used again


@given(st.integers(0, len(HEAD) + 9 + len(END) - 5), st.lists(st.integers(0, 300)))
def test_a_message_without_its_end_is_broken_off(length: int, places: list[int]) -> None:
    message = (HEAD + b"a" * 9 + END)[:length]
    with pytest.raises(BrokenOff):
        list(first_part(cut_up(message, places), BOUNDARY))


def test_a_head_without_end_is_not_read_for_ever() -> None:
    with pytest.raises(BrokenOff):
        list(first_part(itertools.repeat(b"x" * 1000), BOUNDARY))


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ('multipart/related; type="application/dicom"; boundary=a-b', b"a-b"),
        ('Multipart/Related; boundary="a;b"; type="application/dicom"', b"a;b"),
        ("multipart/related", None),
        ("application/dicom; boundary=a", None),
        ("text/html", None),
        ("", None),
    ],
)
def test_boundaries(content_type: str, boundary: bytes | None) -> None:
    assert boundary_of(content_type) == boundary
