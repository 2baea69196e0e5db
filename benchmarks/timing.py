"""Time calls."""

from __future__ import annotations

import timeit
from collections.abc import Callable
from typing import Any


def repeat(call: Callable[[], Any], times: int) -> list[float]:
    """The seconds that each of ``times`` calls takes."""
    return timeit.repeat(call, number=1, repeat=times)
