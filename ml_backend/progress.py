"""Progress of a long command: a bar on a terminal; elsewhere a line for each tenth, or after a while."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
EVERY_SECONDS = 30.0


def track(items: Sequence[Item], what: str, unit: str) -> Iterator[Item]:
    """Yield the items and report on standard error how many are done; ``unit`` is a plural, such as "files"."""
    if sys.stderr.isatty():
        yield from tqdm(items, desc=what, unit=f" {unit}", leave=False)
        return
    start = told_at = time.monotonic()
    told = 0
    for done, item in enumerate(items, 1):
        yield item
        tenth, now = 10 * done // len(items), time.monotonic()
        if tenth > told or now - told_at >= EVERY_SECONDS:
            told, told_at = tenth, now
            print(f"{what}: {done} of {len(items)} {unit} ({now - start:.0f} s)", file=sys.stderr, flush=True)
