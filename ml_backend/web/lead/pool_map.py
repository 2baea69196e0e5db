"""The view of the map of the pool: frames as points, those that look alike close together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

from flask import request
from markupsafe import Markup

from ml_backend.store.census import ANSWERED, Census, Entry
from ml_backend.store.pool_map import PoolMap
from ml_backend.tsal.plane import LEAST
from ml_backend.web.lead import shown
from ml_backend.web.lead.clips import part
from ml_backend.web.lead.page import Seen

COLOURS = 8
"""Number of groups that the stylesheet tells apart."""
SHAPES = 4
SIDE = 1000
"""Width and height of the map."""
FRAMES = 50
OTHER = "other"


@dataclass(frozen=True)
class Point:
    """A frame on the map: its position, from 0 to `SIDE` both ways, and a title that describes it."""

    x: int
    y: int
    frame: Entry
    title: str


@dataclass(frozen=True)
class Group:
    """The points of one colour and shape."""

    name: str
    colour: int
    shape: int
    points: list[Point]

    @cached_property
    def marks(self) -> Markup:
        """The points as SVG, written once: this takes longer than the rest of the view."""
        one = Markup('<use href="#s{}" x="{}" y="{}" id="t{}"><title>{}</title></use>')
        points = self.points
        return Markup("\n").join(one.format(self.shape, at.x, at.y, at.frame.task, at.title) for at in points)


@dataclass(frozen=True)
class Kind:
    """A way to colour the points, in ``words``: what ``of`` says of a frame; groups come in the order of ``first``."""

    words: str
    of: Callable[[Entry], str]
    first: tuple[str, ...] = ()


def _label(frame: Entry) -> str:
    return frame.label or NO_LABEL


def _confidence(frame: Entry) -> str:
    if frame.source in ANSWERED:
        return ANSWER
    if frame.confidence is None:
        return UNKNOWN
    return next(words for low, words in SURE.items() if frame.confidence >= low)


def _asked(frame: Entry) -> str:
    if frame.source in ANSWERED:
        return ANSWER
    return LATER if frame.reason in NOT_NEXT else f"asked next: {frame.reason}"


NO_LABEL, ANSWER, UNKNOWN, LATER = "no label", "answered by people", "confidence unknown", "not asked yet"
SURE = {0.9: "at least 90% sure", 0.75: "75 to 90% sure", 0.5: "50 to 75% sure", 0.0: "less than 50% sure"}
NOT_NEXT = ("", "later", "held out", "unreadable", "unsure")
KINDS = {
    "label": Kind("label", _label),
    "confidence": Kind("confidence", _confidence, (ANSWER, *SURE.values(), UNKNOWN)),
    "asked": Kind("what was asked", _asked, (ANSWER, LATER)),
}


def look(seen: Seen) -> str:
    """Render the view."""
    by = request.args.get("by", "")
    by = by if by in KINDS else next(iter(KINDS))
    drawn, census = seen.services.pool_map(seen.project).read(), seen.census
    groups = _groups(drawn, census, by) if drawn and census else []
    number = request.args.get("group", -1, type=int)
    group = groups[number] if 0 <= number < len(groups) else None
    some, page = part(group.points if group else [], FRAMES)
    return seen.render(
        "map.html",
        drawn=drawn,
        groups=groups,
        count=sum(len(one.points) for one in groups),
        group=group,
        some=some,
        page=page,
        by=by,
        kinds=KINDS,
        total=len(census.frames) if census else 0,
        side=SIDE,
        least=LEAST,
    )


@lru_cache(maxsize=2 * len(KINDS))
def _groups(drawn: PoolMap, census: Census, by: str) -> list[Group]:
    return groups_of(list(_points(drawn, census)), KINDS[by])


def groups_of(points: list[Point], kind: Kind) -> list[Group]:
    """Group points by what is said of their frames; what has no place of its own comes last, most frequent first.

    The stylesheet tells `COLOURS` groups apart, so the smallest of more are put together.
    """
    names = [kind.of(one.frame) for one in points]
    there = [name for name, _ in Counter(names).most_common()]
    there.sort(key=lambda name: kind.first.index(name) if name in kind.first else len(kind.first))
    if len(there) > COLOURS:
        there = [*there[: COLOURS - 1], OTHER]
    of_group: dict[str, list[Point]] = {name: [] for name in there}
    for name, point in zip(names, points, strict=True):
        of_group.get(name, of_group[there[-1]]).append(point)
    return [Group(name, place, place % SHAPES, found) for place, (name, found) in enumerate(of_group.items())]


def _points(drawn: PoolMap, census: Census) -> Iterator[Point]:
    """Yield the points whose frames the project still has."""
    places = (drawn.places * SIDE).round().astype(int).tolist()
    for task, (x, y) in zip(drawn.tasks.tolist(), places, strict=True):
        frame = census.find(task)
        if frame is not None:
            label = f"{frame.label}; " if frame.label else ""
            yield Point(x, y, frame, f"Task {task}: {label}{shown.came_from(frame)}")
