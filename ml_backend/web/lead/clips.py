"""The views of the clips: a list of them, and a contact sheet of each with all its frames in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TypeVar

from flask import abort, request

from ml_backend.store.census import ANSWERED, Census, Entry
from ml_backend.studio.tabs import Tab
from ml_backend.web.lead.page import Seen

CLIPS, FRAMES = 50, 100
"""Number of clips, and of a clip's frames, on one page."""
One = TypeVar("One")


@dataclass(frozen=True)
class Clip:
    """A clip: how many ``frames`` it has, how many people ``answered``, and how often the label ``changes`` in time.

    ``wrong``: how many of the machine's labels are expected to be wrong, by their confidence.
    """

    name: str
    patient: str
    frames: int
    answered: int
    changes: int
    wrong: float


ORDERS: dict[str, tuple[str, Callable[[Clip], tuple[float | str, ...]]]] = {
    "doubt": ("most doubtful first", lambda clip: (-clip.wrong, -clip.changes, clip.name)),
    "changes": ("most changes first", lambda clip: (-clip.changes, -clip.wrong, clip.name)),
    "patient": ("by patient", lambda clip: (clip.patient, clip.name)),
}


@dataclass(frozen=True)
class Page:
    """A part of a list: its ``number`` among the ``count`` parts, from 1."""

    number: int
    count: int


def look(seen: Seen) -> str:
    """Render the list of clips."""
    by = request.args.get("by", "")
    by = by if by in ORDERS else next(iter(ORDERS))
    census = seen.census
    clips = sorted(_clips(census), key=ORDERS[by][1]) if census else []
    some, page = part(clips, CLIPS)
    orders = {name: words for name, (words, _) in ORDERS.items()}
    return seen.render("clips.html", clips=some, count=len(clips), page=page, by=by, orders=orders)


def sheet(seen: Seen) -> str:
    """Render the contact sheet of one clip."""
    name = request.args.get("name", "")
    frames = seen.census.clips.get(name) if seen.census else None
    if not frames:
        abort(404, "There is no such clip.")
    changed = {after.task for before, after in pairwise(frames) if changes(before, after)}
    some, page = part(frames, FRAMES)
    return seen.render(
        "clip.html",
        clip=clip_of(name, frames),
        frames=some,
        page=page,
        changed=changed,
        tab=_tab(seen, name, frames).address(seen.studio, seen.project),
    )


@lru_cache(maxsize=4)
def _clips(census: Census) -> list[Clip]:
    return [clip_of(name, frames) for name, frames in census.clips.items()]


def clip_of(name: str, frames: Sequence[Entry]) -> Clip:
    """Summarise a clip; ``frames`` in time."""
    return Clip(
        name,
        frames[0].patient,
        len(frames),
        sum(one.source in ANSWERED for one in frames),
        sum(changes(before, after) for before, after in pairwise(frames)),
        sum(1 - one.confidence for one in frames if one.confidence is not None),
    )


def changes(before: Entry, after: Entry) -> bool:
    """Return whether the label changes between two frames; it does not where one has none."""
    return bool(before.label and after.label and before.label != after.label)


def part(all_: Sequence[One], size: int) -> tuple[Sequence[One], Page]:
    """Return the part of a list that the address asks for: the first one if it makes no sense."""
    count = max(1, -(-len(all_) // size))
    number = request.args.get("page", 1, type=int)
    number = number if 1 <= number <= count else 1
    return all_[size * (number - 1) : size * number], Page(number, count)


def _tab(seen: Seen, name: str, frames: Sequence[Entry]) -> Tab:
    """Return a tab of the Data Manager with exactly the tasks of a clip."""
    if len(frames) == 1:  # perhaps one without a clip: no task's data holds such a name
        return Tab(name, only=(frames[0].task,))
    return Tab(name, having=(seen.services.data_keys.clip, name))
