"""Words of messages."""

from __future__ import annotations

from collections.abc import Sequence

_SHOWN = 3


def counted(number: int, one: str, many: str) -> str:
    """Return a number with the words that go with it: ``1 clip is``, ``2 clips are``."""
    return f"{number} {one if number == 1 else many}"


def some(names: Sequence[str]) -> str:
    """Return the first names of a list."""
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
