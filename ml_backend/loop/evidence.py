"""Gather the evidence for a frame's ticks from the data behind the served order, and draw it on request."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import BackendError, Busy, VersionUnknown
from ml_backend.frames.frame import Frame
from ml_backend.logs import changed
from ml_backend.loop.drawing import THUMBNAIL, Evidence, Small, Symptom, draw, heated, jpeg, notice
from ml_backend.loop.thumbnails import Thumbnails
from ml_backend.msml.frames import thumbnail
from ml_backend.msml.sketch import sketch
from ml_backend.services import Services
from ml_backend.store.grounds import Grounds
from ml_backend.store.shown import Shown
from ml_backend.store.versions import Manifest
from ml_backend.studio.configuration import in_words
from ml_backend.studio.payloads import sureness
from ml_backend.tsal.labels import columns_of
from ml_backend.tsal.likeness import Likeness, Places

logger = logging.getLogger(__name__)
ALIKE = 3
PROJECTS = 4  # projects whose grounds stay in memory
FETCHED_AT_ONCE = 2
LONGEST_REST = 0.2  # seconds
WAIT_SECONDS = 5.0
UNAIDED = notice(("Judge this frame unaided.", "Some frames have no ticks, to see how ticks sway people."))
NOT_YET = notice(("No evidence yet.", "It will appear after the queue is next refreshed."))
NOT_NOW = notice(("Evidence is unavailable.", "See the backend's log for the reason."))


@dataclass(frozen=True)
class _Kept:
    """The grounds of the order that a project currently serves."""

    grounds: Grounds

    @cached_property
    def likeness(self) -> Likeness | None:
        """Compares any frame with the confirmed ones; None if there is no memory."""
        grounds = self.grounds
        if grounds.confirmed is None or grounds.scale is None or grounds.trust is None:
            return None
        if not len(grounds.confirmed.rows):
            return None
        return Likeness(grounds.confirmed.places, grounds.scale, grounds.trust)


@dataclass(frozen=True)
class _Seen:
    """The network's output for a frame.

    ``probabilities`` (l,) of the order's symptoms, NaN for a symptom that the network does not know; ``maps``
    (l, h, w), None without a version; ``embedding`` (d,).
    """

    probabilities: NDArray[np.float64]
    maps: NDArray[np.float32] | None
    embedding: NDArray[np.float16]


class Gatherer:
    """Draws the evidence for frames. Use one per process; it is safe to share between threads.

    One picture is drawn at a time, so that annotators' other requests always get processor time. At most half of the
    backend's ``threads`` may serve evidence; further requests are refused with `Busy`.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._grounds: OrderedDict[int, _Kept] = OrderedDict()
        self._thumbnails = Thumbnails(services.quick_fetcher)
        self._drawing = threading.Lock()
        self._took = 0.0
        self._let_in = threading.BoundedSemaphore(max(1, services.settings.threads // 2))

    def picture(self, project: int, name: str) -> bytes:
        """Draw the evidence for the frame with this ``name`` (see `store.evidence_addresses.name_of`).

        Raises:
            Busy: if there are too many requests at once.
        """
        with self._turn():
            try:
                return self._picture(project, name)
            except (BackendError, OSError) as error:
                changed(logger, "no evidence", level=logging.WARNING, project=project, reason=error)
                return NOT_NOW

    def _picture(self, project: int, name: str) -> bytes:
        kept = self._served(project)
        row = kept.grounds.find(name) if kept else None
        if kept is None or row is None:
            return NOT_YET
        if kept.grounds.frames[row].task in kept.grounds.blind:
            return UNAIDED
        return draw(self._evidence(project, kept, row))

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until no other picture is being drawn."""
        if not self._let_in.acquire(blocking=False):
            raise Busy("too many requests for evidence at once")
        try:
            free = self._drawing.acquire(blocking=False)
            if not free and not self._drawing.acquire(timeout=WAIT_SECONDS):
                raise Busy("the previous picture is taking too long")
            try:
                if not free:  # under load, pause for as long as one picture takes, so that other requests can run
                    time.sleep(min(self._took, LONGEST_REST))
                started = time.monotonic()
                yield
                self._took = time.monotonic() - started
            finally:
                self._drawing.release()
        finally:
            self._let_in.release()

    def _served(self, project: int) -> _Kept | None:
        """Return the grounds of the served order, read once per order."""
        order = self._services.orders(project).current_name()
        if order is None:
            return None
        kept = self._grounds.get(project)
        if kept is None or kept.grounds.order != order:
            grounds = self._services.grounds(project).get(order)
            if grounds is None:
                return None
            kept = _Kept(grounds)
        self._grounds[project] = kept
        self._grounds.move_to_end(project)
        if len(self._grounds) > PROJECTS:
            self._grounds.popitem(last=False)
        return kept

    def _evidence(self, project: int, kept: _Kept, row: int) -> Evidence:
        grounds = kept.grounds
        manifest = self._manifest(project, grounds)
        seen = self._seen(project, grounds, row, manifest)
        ticked = _ticked(grounds, row, seen)
        alike = _alike(kept, row, seen) if seen else []
        around = grounds.around(row)
        wanted = [grounds.frames[row], *(grounds.frames[one] for one, _ in alike), *(one for one in around if one)]
        pictures = self._pictures(wanted)
        here = pictures.get(grounds.frames[row].url)
        return Evidence(
            told=list(_told(grounds, row, ticked, manifest, seen)),
            frame=_with_maps(here, seen, ticked) if here else None,
            symptoms=list(_symptoms(grounds, seen, ticked)),
            rows=list(_rows(grounds, row, alike, around, pictures)),
        )

    def _manifest(self, project: int, grounds: Grounds) -> Manifest | None:
        try:
            return self._services.versions(project).get(grounds.version) if grounds.version else None
        except VersionUnknown:
            return None

    def _seen(self, project: int, grounds: Grounds, row: int, manifest: Manifest | None) -> _Seen | None:
        """Run the network on a frame; None if the frame cannot be read."""
        predictor, one = self._services.predictor, grounds.frames[row]
        width = len(manifest.label_names) if manifest else len(grounds.symptoms)
        (chunk,) = predictor.activations([Frame(one.task, one.url)], width, without_studio=True)
        if not chunk.frames:
            return None
        probabilities, maps = np.full(len(grounds.symptoms), np.nan), None
        if manifest is not None:
            store = self._services.versions(project)
            found, where = predictor.explained(chunk.activations, manifest, store)
            maps = np.zeros((len(grounds.symptoms), *where.shape[2:]), np.float32)
            for place, column in enumerate(columns_of(grounds.symptoms, manifest.label_names)):
                if column is not None:
                    probabilities[place], maps[place] = found[0, column], where[0, column]
        return _Seen(probabilities, maps, sketch(chunk.activations)[0])

    def _pictures(self, wanted: Sequence[Shown]) -> dict[str, bytes]:
        """Return the readable frames as small JPEG files, by address."""
        once = list({one.url: one for one in wanted}.values())
        found = {one.url: self._thumbnails.kept(one.url) for one in once}
        lacking = [one for one in once if found[one.url] is None]
        if lacking:
            with ThreadPoolExecutor(FETCHED_AT_ONCE) as pool:
                made = pool.map(lambda one: self._thumbnails.of(one.url, one.task), lacking)
                found |= zip([one.url for one in lacking], made, strict=True)
        return {url: content for url, content in found.items() if content is not None}


def _ticked(grounds: Grounds, row: int, seen: _Seen | None) -> NDArray[np.bool_]:
    """Return which symptoms are ticked (l,). For a frame outside the order, it is what the network would tick."""
    if row < len(grounds.labels):
        return np.asarray(grounds.labels[row] == 1)
    return np.zeros(len(grounds.symptoms), bool) if seen is None else np.asarray(seen.probabilities > 0.5)


def _told(
    grounds: Grounds, row: int, ticked: NDArray[np.bool_], manifest: Manifest | None, seen: _Seen | None
) -> Iterator[str]:
    """Yield lines that say what is ticked, how sure the suggestion is, where it comes from, and what is missing."""
    names = [name for name, there in zip(grounds.symptoms, ticked, strict=True) if there]
    if row >= len(grounds.labels):
        yield "This frame is confirmed."
    else:
        yield f"Suggestion: {in_words(names)}"
        confidence = float(grounds.confidence[row])
        if sure := sureness(None if np.isnan(confidence) else confidence, grounds.source_of(row)):
            yield sure
    if seen is None:
        yield "The backend cannot read this frame."
    elif manifest is None:
        yield "No version yet: memory only." if grounds.version is None else f"{grounds.version} no longer exists."
    else:
        yield f"Colours and percentages come from {manifest.version}."


def _symptoms(grounds: Grounds, seen: _Seen | None, ticked: NDArray[np.bool_]) -> Iterator[Symptom]:
    for place, name in enumerate(grounds.symptoms):
        value = np.nan if seen is None else float(seen.probabilities[place])
        yield Symptom(name, bool(ticked[place]), None if np.isnan(value) else value)


def _alike(kept: _Kept, row: int, seen: _Seen) -> list[tuple[int, int]]:
    """Return the confirmed frames most like a frame, the most similar first, as (row in frames, row in memory)."""
    grounds, compare = kept.grounds, kept.likeness
    if compare is None or grounds.confirmed is None:
        return []
    one = grounds.frames[row]
    moment = np.nan if one.time is None else one.time
    place = Places(seen.embedding[None], np.array([grounds.clip_number(row)], np.intp), np.array([moment]))
    alike = compare(place)[0]
    alike[grounds.confirmed.rows == row] = -np.inf
    order = np.argsort(-alike, kind="stable")[:ALIKE]
    return [(int(grounds.confirmed.rows[found]), int(found)) for found in order if np.isfinite(alike[found])]


def _with_maps(frame: bytes, seen: _Seen | None, ticked: NDArray[np.bool_]) -> bytes:
    if seen is None or seen.maps is None:
        return frame
    maps = [(place, seen.maps[place]) for place in np.flatnonzero(ticked).tolist()]
    return jpeg(heated(thumbnail(frame, THUMBNAIL), maps))


def _rows(
    grounds: Grounds,
    row: int,
    alike: Sequence[tuple[int, int]],
    around: tuple[Shown | None, Shown | None],
    pictures: dict[str, bytes],
) -> Iterator[tuple[str, list[Small]]]:
    def small(one: Shown, lines: Sequence[str]) -> Small:
        return Small(pictures.get(one.url), lines)

    confirmed, this = grounds.confirmed, grounds.frames[row]
    if confirmed is not None and alike:
        smalls = []
        for place, one in alike:
            there = (confirmed.labels[one] == 1) & confirmed.known[one]
            names = [name for name, is_there in zip(grounds.symptoms, there, strict=True) if is_there]
            lines = [in_words(names), *(part for part in (confirmed.people[one], confirmed.at[one][:10]) if part)]
            smalls.append(small(grounds.frames[place], lines))
        yield "Most similar confirmed frames", smalls
    before, after = around
    if before is not None or after is not None:
        shown = [(before, "earlier"), (this, ""), (after, "later")]
        yield "Neighbours in the clip", [small(one, [_when(one, this, word)]) for one, word in shown if one is not None]


def _when(one: Shown, this: Shown, word: str) -> str:
    if one is this or one.time is None or this.time is None:
        return "this frame"
    return f"{abs(one.time - this.time):.2g} s {word}"
