"""The releases of Label Studio that the tests ran against, and what to say about any other."""

from __future__ import annotations

import re

TESTED = ("1.20.0", "1.21.0", "1.22.0", "1.23.2")
"""Oldest first; `make studios` runs the tests against each, and docs/label-studio.md shows what came of it."""


def doubt(release: str) -> str | None:
    """Why a release of Label Studio may differ from those that were tested; None from the oldest to the newest."""
    if not re.match(r"\d+\.\d+", release):
        return f"its release is unknown; {TESTED[0]} to {TESTED[-1]} were tested"
    if _numbers(release) < _numbers(TESTED[0]):
        return f"it is older than {TESTED[0]}, the oldest release that was tested"
    if _numbers(release) > _numbers(TESTED[-1]):
        return f"it is newer than {TESTED[-1]}, the newest release that was tested"
    return None


def _numbers(release: str) -> tuple[int, ...]:
    """Major, minor and patch; ``1.14.0.post0`` and ``1.24.0dev1`` count as the release that they follow or lead to."""
    return tuple(int(number) for number in re.findall(r"\d+", release)[:3])
