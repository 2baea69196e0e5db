"""What is newly confirmed, by webhooks and polls, and whether that makes a fine-tune due; `jobs` enqueues it."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ml_backend.errors import InvalidRequest
from ml_backend.logs import event
from ml_backend.loop import train as training
from ml_backend.services import Services
from ml_backend.studio.configuration import Configuration
from ml_backend.tsal.stopping import Progress, due, reason_to_stop

logger = logging.getLogger(__name__)
ADDED = ("ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED")
DELETED = "ANNOTATIONS_DELETED"
TRAIN = "START_TRAINING"
NEWS = ("TASKS_CREATED", "TASKS_DELETED")
ACTIONS = (*ADDED, DELETED, TRAIN, *NEWS)
REQUEST = "request"


class Due(NamedTuple):
    """Why a fine-tune is due: what triggered it (``webhook``, ``poll`` or ``request``), and the reason in words."""

    trigger: str
    reason: str


class _Deleted(BaseModel):
    """What is read of an annotation in a webhook; the rest is dropped unread."""

    model_config = ConfigDict(extra="ignore", strict=True)

    id: int = Field(ge=1)


class _Annotation(_Deleted):
    task: int = Field(ge=1)
    was_cancelled: bool = False


Part = TypeVar("Part", bound=_Deleted)
_ANNOTATIONS: TypeAdapter[list[_Annotation]] = TypeAdapter(list[_Annotation])
_DELETIONS: TypeAdapter[list[_Deleted]] = TypeAdapter(list[_Deleted])


def record(services: Services, project: int, action: str, payload: dict[str, Any]) -> Due | None:
    """Record a webhook; returns the fine-tune that it makes due, if any. Makes no call to Label Studio.

    A webhook without its payload says nothing that could be recorded; `reconcile` finds what it was about.

    Raises:
        InvalidRequest: if the payload does not have the form that Label Studio sends.
    """
    if action not in ACTIONS:
        return None
    pending = services.pending(project)
    if action == TRAIN:
        pending.resume()
        return Due(REQUEST, "training was requested")
    if action in NEWS:
        pending.announce()
        return None
    if action == DELETED:
        pending.remove([one.id for one in _parts(payload, _DELETIONS)])
    else:
        annotations = _parts(payload, _ANNOTATIONS)
        pending.add({one.id: one.task for one in annotations if not one.was_cancelled})
        pending.remove([one.id for one in annotations if one.was_cancelled])
    event(logger, "webhook", project=project, action=action, pending=pending.count())
    return consider(services, project, "webhook", pool=None)


def consider(services: Services, project: int, trigger: str, pool: int | None) -> Due | None:
    """The fine-tune that is due, if any; ``pool`` is the number of frames left to annotate, None if unknown."""
    state = progress(services, project, pool)
    return Due(trigger, f"{state.pending} newly confirmed annotations") if _is_due(services, project, state) else None


def progress(services: Services, project: int, pool: int | None) -> Progress:
    """Where a project stands, by its newest version and the webhooks since."""
    store = services.versions(project)
    newest, active = store.newest(), store.active_manifest()
    waiting = services.pending(project).tasks()
    seen = {one.task for one in newest.seen} if newest else set()
    exact_match = active.metrics.get("exact_match") if active else None
    return Progress(confirmed=len(seen | waiting), pending=len(waiting), pool=pool, exact_match=exact_match)


def reconcile(services: Services, project: int) -> Due | None:
    """Correct what webhooks said by what Label Studio has; returns the fine-tune that this makes due, if any."""
    recover(services, project)
    pool, _ = catch_up(services, project)
    return consider(services, project, "poll", pool)


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


def catch_up(services: Services, project: int) -> tuple[int, int]:
    """Record what Label Studio has and the newest version has not seen.

    Returns:
        The number of frames left to annotate, and of those with an annotation that the newest version has not seen.
    """
    pending = services.pending(project)
    known = pending.known()
    configuration = Configuration.parse(services.studio.project(project).label_config)
    labelled = training.confirmed(services, project, configuration)
    fresh = training.changed_since(labelled, services.versions(project).newest())
    pending.replace({one.annotation.id: one.annotation.task for one in fresh}, known)
    counts = services.studio.counts(project)
    return counts.unlabelled, len(fresh)


def is_due_for_certain(services: Services, project: int) -> bool:
    """Whether a fine-tune is due by what Label Studio has.

    Label Studio is asked again if only webhooks that arrived while it answered make one due: they may be about
    annotations that a version has seen.
    """
    while True:
        pool, fresh = catch_up(services, project)
        state = progress(services, project, pool)
        if not _is_due(services, project, state):
            return False
        if _is_due(services, project, replace(state, pending=fresh)):
            return True


def ended(services: Services, project: int, pool: int | None) -> str | None:
    """Why the project's loop has ended, or None while it goes on."""
    settings = services.settings
    return reason_to_stop(progress(services, project, pool), settings.annotation_budget, settings.target_exact_match)


def _is_due(services: Services, project: int, state: Progress) -> bool:
    settings = services.settings
    return (
        due(state, settings.k_max, settings.annotation_budget, settings.target_exact_match)
        and state.pending >= services.pending(project).wanted()
    )


def _parts(payload: dict[str, Any], shape: TypeAdapter[list[Part]]) -> list[Part]:
    """The annotations of a payload: one, or in bulk a list, under either of the names that Label Studio uses."""
    name = "annotations" if "annotations" in payload else "annotation"
    content = payload.get(name, [])
    try:
        return shape.validate_python(content if isinstance(content, list) else [content])
    except ValidationError as error:
        raise InvalidRequest.of(error, within=name) from None
