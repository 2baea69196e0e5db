"""Save the data behind an order, for the evidence beside each frame and for the lead's page."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import BackendError
from ml_backend.frames.frame import Frame
from ml_backend.frames.scores import validator_of
from ml_backend.logs import event
from ml_backend.loop.evidence_files import remove_blind
from ml_backend.loop.queue import Queue, Refresh
from ml_backend.loop.remember import Memory, places_of
from ml_backend.services import Services
from ml_backend.store.grounds import NO_SOURCE, Confirmed, Grounds
from ml_backend.store.shown import Frames, Shown
from ml_backend.studio.client import Studio
from ml_backend.tsal.belief import SOURCES
from ml_backend.tsal.correlation import pick_columns
from ml_backend.tsal.labels import columns_of

logger = logging.getLogger(__name__)


def keep_grounds(refreshing: Refresh, queue: Queue) -> None:
    """Save the data behind an order. If that fails, log it and go on: a refresh does not depend on it."""
    services, project = refreshing.services, refreshing.project
    grounds = grounds_of(refreshing, queue)
    try:
        services.grounds(project).save(grounds)
    except OSError as error:
        event(logger, "grounds not kept", level=logging.WARNING, project=project, reason=error)
    remove_blind(services, project, grounds)


def grounds_of(refreshing: Refresh, queue: Queue) -> Grounds:
    """Gather what an order knows about its readable frames and the confirmed ones."""
    frame_of = {frame.task: frame for frame in refreshing.frames}
    pool = [frame_of[task] for task in queue.tasks.tolist()]
    memory, belief = refreshing.memory, queue.belief
    names = refreshing.configuration.label_names
    labels: NDArray[np.uint8] = np.zeros((len(pool), len(names)), np.uint8)
    confidence: NDArray[np.float32] = np.full(len(pool), np.nan, np.float32)
    source: NDArray[np.int8] = np.full(len(pool), NO_SOURCE, np.int8)
    if belief is not None:
        if refreshing.speaks(queue):
            labels, source = belief.labels, belief.source.astype(np.int8)
            confidence = belief.confidence.astype(np.float32)
    elif queue.scores is not None and refreshing.manifest is not None:
        manifest = refreshing.manifest
        labels = pick_columns(queue.scores.labels, columns_of(names, manifest.label_names))
        plain = validator_of(refreshing.services.settings, manifest) == "plain"
        source[:] = SOURCES.index("network" if plain else "table")
    return Grounds(
        order=refreshing.name,
        version=refreshing.version,
        symptoms=names,
        frames=Frames.of([_shown(frame) for frame in (*pool, *(memory.frames if memory else ()))]),
        labels=labels,
        confidence=confidence,
        source=source,
        blind=frozenset(refreshing.blind()),
        confirmed=_confirmed(memory, len(pool), len(names), refreshing.services) if memory else None,
        scale=belief.scale if belief else None,
        trust=belief.trust if belief else None,
    )


def _shown(frame: Frame) -> Shown:
    return Shown(frame.task, frame.url, frame.clip, frame.time)


def _confirmed(memory: Memory, first: int, width: int, services: Services) -> Confirmed:
    labelled = memory.labelled
    by = [None if services.settings.hide_names else one.annotation.by for one in labelled]
    names = _people(services.studio) if any(user is not None for user in by) else {}
    return Confirmed(
        rows=np.arange(first, first + len(labelled), dtype=np.intp),
        labels=np.array([one.labels for one in labelled], np.uint8).reshape(-1, width),
        known=np.array([one.known for one in labelled], bool).reshape(-1, width),
        people=[_name(user, names) for user in by],
        at=[one.annotation.updated_at for one in labelled],
        places=places_of(memory.frames, memory.embeddings, {}),
    )


def _people(studio: Studio) -> dict[int, str]:
    try:
        return studio.people()
    except BackendError as error:
        event(logger, "people not named", level=logging.WARNING, reason=error)
        return {}


def _name(user: int | None, names: dict[int, str]) -> str:
    return "" if user is None else names.get(user, f"user {user}")
