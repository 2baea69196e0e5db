"""How figures look on the page."""

from __future__ import annotations

from datetime import datetime

from ml_backend.store.overviews import Measure

NOTHING = "–"


def share(value: float | None) -> str:
    """A share in [0, 1] as a percentage."""
    return NOTHING if value is None else f"{100 * value:.0f}%"


def fine_share(value: float | None) -> str:
    """A share of a few in a hundred, or the error asked for."""
    return NOTHING if value is None else f"{100 * value:.3g}%"


def interval(one: Measure | None) -> str:
    """The ends of a share's interval; nothing where they are not known."""
    if one is None or (one.low, one.high) == (0.0, 1.0):
        return NOTHING
    return f"{100 * one.low:.0f} to {100 * one.high:.0f}%"


def number(value: float | None) -> str:
    """A whole number, thousands apart."""
    return NOTHING if value is None else f"{value:,.0f}"


def figure(value: float | None) -> str:
    """A number with two digits after the point."""
    return NOTHING if value is None else f"{value:.2f}"


def moment(at: str) -> str:
    """A time as people read it; what is none stays as it is."""
    try:
        return datetime.fromisoformat(at).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return at


def duration(seconds: float | None) -> str:
    """A time that something took."""
    if seconds is None:
        return NOTHING
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def measured(one: Measure | None) -> str:
    """A share that was measured, as a percentage."""
    return share(one.value if one else None)
