"""The answer to a DICOMweb retrieval: a multipart message, of which the first part is the instance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from email.message import Message

_HEAD = 65_536  # bytes: no head of a part is longer
_HEAD_END = b"\r\n\r\n"


class BrokenOff(Exception):
    """A message that ends before it is complete; asking again may help."""


def boundary_of(content_type: str) -> bytes | None:
    """Return the boundary between the parts of a message with this content type, or None if it has no parts."""
    message = Message()
    message["content-type"] = content_type
    boundary = message.get_boundary()
    return boundary.encode() if message.get_content_maintype() == "multipart" and boundary else None


def first_part(blocks: Iterable[bytes], boundary: bytes) -> Iterator[bytes]:
    """Yield the content of the first part as it arrives, and read the message to its end. Raises BrokenOff."""
    blocks = iter(blocks)
    end = b"\r\n--" + boundary
    yield from _content(blocks, _after_head(blocks), end)
    for _ in blocks:  # a connection can be used again only if its answer was read to the end
        pass


def _after_head(blocks: Iterator[bytes]) -> bytes:
    """Read the head of the first part, and return the beginning of its content that arrived with it."""
    held = b""
    for block in blocks:
        held += block
        _, mark, rest = held.partition(_HEAD_END)
        if mark:
            return rest
        if len(held) > _HEAD:
            break
    raise BrokenOff


def _content(blocks: Iterator[bytes], held: bytes, end: bytes) -> Iterator[bytes]:
    while True:
        content, mark, _ = held.partition(end)
        if mark:
            yield content
            return
        keep = len(end) - 1  # the mark may lie across two blocks
        yield held[:-keep]
        block = next(blocks, None)
        if block is None:
            raise BrokenOff
        held = held[-keep:] + block
