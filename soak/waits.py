"""What annotators waited for, how often and how long, hour by hour."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Wait:
    """One wait: for ``what``, when it ended by the monotonic clock, how long, and whether anything came of it."""

    what: str
    ended: float
    seconds: float
    answered: bool = True


@dataclass(frozen=True)
class Spread:
    """The waits of one hour for one thing: ``count`` that were answered, their seconds, and ``failed`` ones."""

    hour: int
    count: int
    failed: int
    p50: float | None
    p99: float | None
    longest: float | None


class Waits:
    """Collects waits from any number of threads."""

    def __init__(self) -> None:
        self._waits: list[Wait] = []
        self._gate = threading.Lock()

    def add(self, what: str, seconds: float, answered: bool = True) -> None:
        """Note a wait that has just ended."""
        with self._gate:
            self._waits.append(Wait(what, time.monotonic(), seconds, answered))

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Note how long the block takes; one that ends in an exception was not answered."""
        began = time.monotonic()
        try:
            yield
        except BaseException:
            self.add(what, time.monotonic() - began, answered=False)
            raise
        self.add(what, time.monotonic() - began)

    def by_hour(self, began: float, hour: float = 3600.0) -> dict[str, list[Spread]]:
        """Summarise what was noted since ``began`` by the monotonic clock; ``hour``: its length in seconds."""
        with self._gate:
            return by_hour(self._waits, began, hour)


def by_hour(waits: Sequence[Wait], began: float, hour: float) -> dict[str, list[Spread]]:
    """Summarise waits by what they were for and the hour in which they ended; hours without any are left out."""
    groups: dict[str, dict[int, list[Wait]]] = {}
    for one in waits:
        groups.setdefault(one.what, {}).setdefault(int((one.ended - began) // hour), []).append(one)
    return {
        what: [_spread(number, of_hour) for number, of_hour in sorted(hours.items()) if number >= 0]
        for what, hours in sorted(groups.items())
    }


def _spread(hour: int, waits: Sequence[Wait]) -> Spread:
    seconds = sorted(one.seconds for one in waits if one.answered)
    failed = len(waits) - len(seconds)
    if not seconds:
        return Spread(hour, 0, failed, None, None, None)
    return Spread(hour, len(seconds), failed, _percentile(seconds, 50), _percentile(seconds, 99), round(seconds[-1], 3))


def _percentile(seconds: Sequence[float], percent: float) -> float:
    """The least wait that ``percent`` of all did not exceed."""
    return round(float(np.percentile(seconds, percent, method="inverted_cdf")), 3)
