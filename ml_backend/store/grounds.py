"""The data behind an order, saved beside it: the evidence for its ticks is drawn from it, and the census counts it.

The process that orders the queue writes this file. The backend reads it and needs nothing else, neither Label Studio
nor the embedding store.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ml_backend.store.files import written_aside
from ml_backend.store.mapped import mapped
from ml_backend.store.shown import Frames, Shown
from ml_backend.tsal.belief import SOURCES, Source
from ml_backend.tsal.likeness import Places, Scale, Trust

NO_SOURCE = -1


@dataclass(frozen=True)
class Confirmed:
    """The memory of m confirmed frames.

    ``rows`` (m,): their rows among the frames; ``labels`` (m, l) uint8; ``known`` (m, l) booleans; ``people``: who
    confirmed each frame, empty if unknown; ``at``: when (ISO 8601); ``places``: embeddings, clip numbers and times.
    """

    rows: NDArray[np.intp]
    labels: NDArray[np.uint8]
    known: NDArray[np.bool_]
    people: Sequence[str]
    at: Sequence[str]
    places: Places


@dataclass(frozen=True)
class Grounds:
    """The data behind an order.

    ``symptoms``: l names; ``version``: the model version, None before the first; ``frames``: the n frames of the order,
    then the confirmed ones; ``labels`` (n, l) uint8: the ticks; ``confidence`` (n,) in [0, 1], NaN if unknown;
    ``source`` (n,): index into `tsal.belief.SOURCES`, or `NO_SOURCE`; ``blind``: tasks to be judged unaided;
    ``confirmed``, ``scale`` and ``trust``: the memory, None if it is not used.
    """

    order: str
    version: str | None
    symptoms: tuple[str, ...]
    frames: Frames
    labels: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    source: NDArray[np.int8]
    blind: frozenset[int]
    confirmed: Confirmed | None = None
    scale: Scale | None = None
    trust: Trust | None = None

    def find(self, name: str) -> int | None:
        """Return the row of the frame with this name (see `name_of`), or None if there is none."""
        return self.frames.find(name)

    def around(self, row: int) -> tuple[Shown | None, Shown | None]:
        """Return the nearest earlier and the nearest later frame of the same clip, None where there is none."""
        frames = self.frames
        moment, places = frames.times[row], np.flatnonzero(frames.clips == frames.clips[row])
        times = frames.times[places]
        before, after = times < moment, times > moment  # false where a time is unknown
        return (
            frames[int(places[before][np.argmax(times[before])])] if before.any() else None,
            frames[int(places[after][np.argmin(times[after])])] if after.any() else None,
        )

    def clip_number(self, row: int) -> int:
        """Return the number of a frame's clip in the memory, or -1 if the memory has no frame of this clip."""
        return self._numbers.get(int(self.frames.clips[row]), -1)

    def source_of(self, row: int) -> Source | None:
        """Return the source of a frame's label, None for a frame without one and for a confirmed frame."""
        source = int(self.source[row]) if row < len(self.source) else NO_SOURCE
        return None if source == NO_SOURCE else SOURCES[source]

    @cached_property
    def sources(self) -> dict[int, Source]:
        """The source of each label, by task."""
        rows = zip(self.frames.tasks.tolist(), self.source.tolist(), strict=False)
        return {task: SOURCES[source] for task, source in rows if source != NO_SOURCE}

    @cached_property
    def _numbers(self) -> dict[int, int]:
        if self.confirmed is None:
            return {}
        clips = self.frames.clips[self.confirmed.rows].tolist()
        return dict(zip(clips, self.confirmed.places.clips.tolist(), strict=True))


class GroundsStore:
    """The grounds of a project's orders below ``folder``; `OrderStore.prune` removes them with their orders."""

    def __init__(self, folder: Path) -> None:
        self._orders = folder / "orders"

    def path(self, order: str) -> Path:
        """Return the path of an order's grounds."""
        return self._orders / f"{order}.grounds"

    def save(self, grounds: Grounds) -> None:
        """Save the grounds of an order."""
        text: dict[str, Any] = {
            "order": grounds.order,
            "version": grounds.version,
            "symptoms": grounds.symptoms,
            "blind": sorted(grounds.blind),
        }
        arrays: dict[str, Any] = {name: getattr(grounds, name) for name in ("labels", "confidence", "source")}
        arrays |= grounds.frames.columns()
        confirmed, scale, trust = grounds.confirmed, grounds.scale, grounds.trust
        if confirmed is not None and scale is not None and trust is not None:
            text |= {"people": list(confirmed.people), "at": list(confirmed.at), "trust": astuple(trust)}
            arrays |= {"rows": confirmed.rows, "remembered": confirmed.labels, "known": confirmed.known}
            arrays |= {"mean": scale.mean, "factor": scale.factor}
            places = confirmed.places
            arrays |= {"embeddings": places.embeddings, "clips": places.clips, "times": places.times}
        arrays["text"] = np.frombuffer(json.dumps(text).encode(), np.uint8)
        with written_aside(self.path(grounds.order), durable=False) as file:
            np.savez(file, **arrays)

    def get(self, order: str) -> Grounds | None:
        """Return the grounds of an order, or None if they were not saved or cannot be read.

        The arrays stay on disk until they are used: those of a million frames take a few megabytes of memory.
        """
        try:
            return _read(mapped(self.path(order)))
        except (OSError, EOFError, BadZipFile, ValueError, KeyError, TypeError):
            return None

    def copy(self, order: str, name: str, blind: frozenset[int]) -> Grounds | None:
        """Copy an order's grounds to another order with other blind frames; None if there are none to copy."""
        grounds = self.get(order)
        if grounds is None:
            return None
        copied = replace(grounds, order=name, blind=blind)
        self.save(copied)
        return copied


def _read(arrays: Mapping[str, Any]) -> Grounds:
    text = json.loads(arrays["text"].tobytes())
    confirmed = scale = trust = None
    if "rows" in arrays:
        places = Places(arrays["embeddings"], arrays["clips"], arrays["times"])
        confirmed = Confirmed(arrays["rows"], arrays["remembered"], arrays["known"], text["people"], text["at"], places)
        scale, trust = Scale(arrays["mean"], arrays["factor"]), Trust(*text["trust"])
    return Grounds(
        order=text["order"],
        version=text["version"],
        symptoms=tuple(text["symptoms"]),
        frames=Frames.read(arrays),
        labels=arrays["labels"],
        confidence=arrays["confidence"],
        source=arrays["source"],
        blind=frozenset(text["blind"]),
        confirmed=confirmed,
        scale=scale,
        trust=trust,
    )
