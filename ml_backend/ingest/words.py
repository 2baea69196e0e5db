"""Words of messages."""

from __future__ import annotations


def counted(number: int, one: str, many: str) -> str:
    """Return a number with the words that go with it: ``1 clip is``, ``2 clips are``."""
    return f"{number} {one if number == 1 else many}"
