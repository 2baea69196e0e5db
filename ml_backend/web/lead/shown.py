"""Format figures for the page."""

from __future__ import annotations

from datetime import datetime

from ml_backend.store.census import Entry, Source
from ml_backend.store.overviews import Measure
from ml_backend.studio.payloads import sureness

NOTHING = "–"
_OTHERWISE: dict[Source, str] = {
    "person": "by a person",
    "accepted unseen": "accepted unseen",
    "imported": "imported",
    "not yet": "not labelled yet",
    "after the answer": "hidden until it is answered",
    "unreadable": "cannot be read",
    "not counted": "answered, but the answers do not count",
}


def share(value: float | None) -> str:
    """Format a share in [0, 1] as a percentage."""
    return NOTHING if value is None else f"{100 * value:.0f}%"


def fine_share(value: float | None) -> str:
    """Format a small share, such as an error of 2.5%."""
    return NOTHING if value is None else f"{100 * value:.3g}%"


def interval(one: Measure | None) -> str:
    """Format the interval of a share; a dash where it is unknown."""
    if one is None or (one.low, one.high) == (0.0, 1.0):
        return NOTHING
    return f"{100 * one.low:.0f} to {100 * one.high:.0f}%"


def number(value: float | None) -> str:
    """Format a whole number, with a separator for thousands."""
    return NOTHING if value is None else f"{value:,.0f}"


def figure(value: float | None) -> str:
    """Format a number with two decimals."""
    return NOTHING if value is None else f"{value:.2f}"


def moment(at: str) -> str:
    """Format an ISO 8601 time for people; return anything else unchanged."""
    try:
        return datetime.fromisoformat(at).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return at


def duration(seconds: float | None) -> str:
    """Format a duration."""
    if seconds is None:
        return NOTHING
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def measured(one: Measure | None) -> str:
    """Format a measured share as a percentage."""
    return share(one.value if one else None)


def came_from(one: Entry) -> str:
    """Say where a frame's label comes from and how sure it is, or why there is none."""
    return _OTHERWISE.get(one.source) or sureness(one.confidence, one.source)
