"""Time calls."""

from __future__ import annotations

import timeit
from collections.abc import Callable
from typing import Any


def repeat(call: Callable[[], Any], times: int) -> list[float]:
    """The seconds of each of so many calls."""
    return timeit.repeat(call, number=1, repeat=times)
