"""Find what is newly confirmed, from webhooks and polls, and whether a fine-tune is due; `jobs` enqueues it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, NamedTuple

from ml_backend import __version__
from ml_backend.errors import BackendError
from ml_backend.logs import event
from ml_backend.loop import collect
from ml_backend.loop.collect import Collected, Labelled
from ml_backend.loop.judge import UNIFORM
from ml_backend.services import Services
from ml_backend.settings import Settings
from ml_backend.store.parked import Parked
from ml_backend.store.versions import TrainedOn
from ml_backend.studio.events import AnnotationEvent, annotations_in, deletions_in
from ml_backend.tsal.stopping import Progress, due, reason_to_stop

logger = logging.getLogger(__name__)
CHANGED = "ANNOTATION_UPDATED"
ADDED = ("ANNOTATION_CREATED", "ANNOTATIONS_CREATED", CHANGED)
DELETED = "ANNOTATIONS_DELETED"
TRAIN = "START_TRAINING"
NEWS = ("TASKS_CREATED", "TASKS_DELETED")
ACTIONS = (*ADDED, DELETED, TRAIN, *NEWS)
REQUEST = "request"
FIRST = 32
"""Frames that are enough for a first fine-tune if a project brings annotations along: one training batch.

A project that begins without any waits for K_max, so that its first version can be judged on audit frames.
"""
QUIET_POLLS = 4
"""After this many polls without anything new, train on an incomplete batch: corrections, or the last frames."""


class CaughtUp(NamedTuple):
    """What Label Studio has: ``pool`` frames left to annotate, all ``answers`` that count, and how many of them are
    ``fresh``: the newest version has not seen them.
    """

    pool: int
    fresh: int
    answers: Collected


class Due(NamedTuple):
    """Why a fine-tune is due: what triggered it (``webhook``, ``poll`` or ``request``), and the reason in words."""

    trigger: str
    reason: str


def record(services: Services, project: int, action: str, payload: dict[str, Any]) -> Due | None:
    """Record a webhook; returns the fine-tune that it makes due, if any. Makes no call to Label Studio.

    A webhook without a payload records nothing; `reconcile` finds what it was about.

    Raises:
        InvalidRequest: if the payload does not have the form that Label Studio sends.
    """
    if action not in ACTIONS:
        return None
    pending = services.pending(project)
    if action == TRAIN:
        services.parked(project).clear()
        return Due(REQUEST, "training was requested")
    if action in NEWS:
        pending.announce()
        return None
    unseen: list[AnnotationEvent] = []
    if action == DELETED:
        pending.remove([one.id for one in deletions_in(payload)])
    else:
        annotations = annotations_in(payload)
        apart = services.settings.accepted != "train"
        unseen = [one for one in annotations if apart and one.accepted_unseen and not one.was_cancelled]
        imported = [one for one in annotations if one.imported and services.settings.imported != "train"]
        answers = [one for one in annotations if not (one.was_cancelled or one.not_assessable)]
        counted = [one for one in answers if one not in unseen and one not in imported]
        pending.add({one.id: one.task for one in counted})
        pending.remove([one.id for one in annotations if one not in counted])
    count = pending.count()
    if action in (CHANGED, DELETED) or (count and count % services.settings.refresh == 0):
        pending.announce()  # the memory has to learn it
    event(logger, "webhook", project=project, action=action, pending=count, accepted_unseen=len(unseen) or None)
    return consider(services, project, "webhook", pool=None)


def consider(services: Services, project: int, trigger: str, pool: int | None) -> Due | None:
    """The fine-tune that is due, if any; ``pool`` is the number of frames left to annotate, None if unknown."""
    state = progress(services, project, pool)
    return Due(trigger, f"{state.pending} newly confirmed annotations") if _is_due(services, project, state) else None


def progress(services: Services, project: int, pool: int | None) -> Progress:
    """Where a project stands, by its newest version and the webhooks since."""
    store = services.versions(project)
    newest, active = store.newest(), store.active_manifest()
    pending = services.pending(project)
    waiting = pending.tasks()
    seen = {one.task for one in newest.seen} if newest else set()
    uniform = active is not None and active.metrics.get("sample") == UNIFORM
    exact_match = active.figure("exact_match") if active and uniform else None
    quiet = bool(waiting) and pending.quiet() >= QUIET_POLLS * services.settings.poll_seconds
    return Progress(len(seen | waiting), len(waiting), pool, exact_match, quiet)


def recover(services: Services, project: int) -> None:
    """Set damaged versions aside, and complete an activation that a crash cut off."""
    store = services.versions(project)
    for version, reason in store.set_aside_damaged().items():
        serves = store.active() or "none"
        event(
            logger,
            "version damaged",
            level=logging.ERROR,
            project=project,
            version=version,
            reason=reason,
            now_active=serves,
        )
    completed = store.complete()
    if completed:
        event(logger, "version active", project=project, version=completed, reason="a crash had cut this off")


def catch_up(services: Services, project: int) -> CaughtUp:
    """Replace what webhooks recorded with what Label Studio has and the newest version has not seen."""
    pending = services.pending(project)
    known = pending.known()
    answers, configuration = _answers(services, project)
    fresh = _fresh(services, project, answers)
    pending.note_accepted(answers.accepted)
    pending.replace({one.annotation: one.task for one in fresh}, known)
    parked = parked_now(services, project)
    if parked:
        still = parked.with_changes({one.annotation: one.updated_at for one in fresh}, configuration)
        if still is None:
            services.parked(project).clear()
            event(logger, "fine-tune not parked any more", project=project, reason="annotations or labels changed")
        elif still != parked:
            services.parked(project).put(still)
    counts = services.studio.counts(project)
    return CaughtUp(counts.unlabelled, len(fresh), answers)


def _answers(services: Services, project: int) -> tuple[Collected, str]:
    """Read the answers that count, and a digest of the labelling configuration."""
    text = services.studio.project(project).label_config
    return collect.collect(services, project, services.configuration(text)), _digest(text)


def _fresh(services: Services, project: int, answers: Collected) -> list[TrainedOn]:
    """Find the answers that the newest version has not seen."""
    return [one.seen for one in collect.changed_since(answers.labelled, services.versions(project).newest())]


def park(services: Services, project: int, trigger: str | None, reason: str) -> bool:
    """Park the pending fine-tune until something changes; returns whether it would have been tried again.

    A change is another K_max frames, a changed or deleted annotation, another labelling configuration, another newest
    or active version, a worker that starts with other settings, or a person who asks for a training.
    """
    if trigger == REQUEST and consider(services, project, REQUEST, pool=None) is None:
        return False
    try:
        answers, configuration = _answers(services, project)
        tried = {one.annotation: one.updated_at for one in _fresh(services, project, answers)}
    except BackendError:  # the next poll fills in what cannot be read now
        tried, configuration = dict.fromkeys(services.pending(project).known(), ""), ""
    store = services.versions(project)
    services.parked(project).put(
        Parked(
            parent=store.names()[-1] if store.names() else None,
            active=store.active(),
            reason=reason,
            at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            tried=tried,
            configuration=configuration,
            settings=_settings_digest(services.settings),
        )
    )
    return True


def parked_now(services: Services, project: int) -> Parked | None:
    """The fine-tune that is parked for the newest and the active version, if any."""
    store = services.versions(project)
    names = store.names()
    return services.parked(project).get(names[-1] if names else None, store.active())


def unpark_after_changes(services: Services) -> None:
    """Release the fine-tunes that were parked under other settings or another release, so that they run again."""
    for project in services.projects():
        if services.parked(project).clear_unless(_settings_digest(services.settings)):
            event(logger, "fine-tune not parked any more", project=project, reason="settings or release changed")


def _settings_digest(settings: Settings) -> str:
    return _digest(__version__ + settings.model_dump_json())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def due_for_certain(services: Services, project: int) -> CaughtUp | None:
    """Return what Label Studio has if it says that a fine-tune is due, else None.

    Label Studio is asked a second time if a fine-tune is due only because of webhooks that arrived during its answer:
    they may be about annotations that a version has seen already.
    """
    while True:
        now = catch_up(services, project)
        state = progress(services, project, now.pool)
        if not _is_due(services, project, state):
            return None
        if _is_due(services, project, replace(state, pending=now.fresh)):
            return now


def is_enough(labelled: Sequence[Labelled], settings: Settings) -> bool:
    """Whether the annotations that a project brings along are enough for its first fine-tune."""
    combinations = {one.labels.tobytes() for one in labelled}
    return len(labelled) >= min(FIRST, settings.k_max) and len(combinations) > 1


def ended(services: Services, project: int, pool: int | None) -> str | None:
    """Why the project's loop has ended, or None while it goes on."""
    settings = services.settings
    return reason_to_stop(progress(services, project, pool), settings.annotation_budget, settings.target_exact_match)


def _is_due(services: Services, project: int, state: Progress) -> bool:
    settings = services.settings
    if services.finishes(project).open() is not None:  # its answers are not used before it is counted
        return False
    if not due(state, settings.k_max, settings.annotation_budget, settings.target_exact_match):
        return False
    parked = parked_now(services, project)
    if parked is None:
        return True
    new = parked.new(services.pending(project).annotations())
    return len(new) >= (1 if state.pool == 0 else settings.k_max)
