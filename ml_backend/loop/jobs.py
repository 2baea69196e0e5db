"""RQ: what a webhook records, when a fine-tune is due, and the job that runs it."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from redis.client import Pipeline
from redis.exceptions import RedisError
from rq import Queue, Retry, get_current_job
from rq.exceptions import DuplicateJobError, InvalidJobOperation, NoSuchJobError
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from ml_backend.errors import InvalidRequest, NotEnoughLabels, VersionSuperseded
from ml_backend.logs import event, stages
from ml_backend.loop import train as training
from ml_backend.services import Services
from ml_backend.settings import Settings, load
from ml_backend.studio.configuration import Configuration
from ml_backend.tsal.stopping import Progress, due, reason_to_stop

logger = logging.getLogger(__name__)
QUEUE = "tsal"
ADDED = ("ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED")
DELETED = "ANNOTATIONS_DELETED"
TRAIN = "START_TRAINING"
NEWS = ("TASKS_CREATED", "TASKS_DELETED")
ACTIONS = (*ADDED, DELETED, TRAIN, *NEWS)
REQUEST = "request"
ENDED = (JobStatus.FINISHED, JobStatus.FAILED, JobStatus.CANCELED, JobStatus.STOPPED)
OUTCOMES = ("trained", "held back", "postponed", "not due", "already done", "failed")
RETRY = Retry(max=3, interval=[10, 60, 300])
_CLOCKS_DIFFER = timedelta(seconds=60)  # the clocks of two machines, at most
_LONGEST_WAIT = timedelta(seconds=max(RETRY.intervals)) + _CLOCKS_DIFFER


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


def queue(services: Services) -> Queue:
    """The queue of fine-tunes."""
    return services.queue(QUEUE)


def record(services: Services, project: int, action: str, payload: dict[str, Any]) -> str | None:
    """Take note of a webhook and enqueue a fine-tune if a batch is complete; no call to Label Studio.

    A webhook without its payload tells nothing that could be noted: `reconcile` finds what it was about.

    Returns:
        The id of the job that was enqueued, or None.

    Raises:
        InvalidRequest: where the payload is not of the form that Label Studio sends.
    """
    if action not in ACTIONS:
        return None
    pending = services.pending(project)
    if action == TRAIN:
        pending.resume()
        return enqueue(services, project, REQUEST, "training was asked for")
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


def consider(services: Services, project: int, trigger: str, pool: int | None) -> str | None:
    """Enqueue a fine-tune if one is due; ``pool`` is the number of frames to annotate, None where unknown."""
    state = progress(services, project, pool)
    if not _is_due(services, project, state):
        return None
    return enqueue(services, project, trigger, f"{state.pending} newly confirmed annotations")


def progress(services: Services, project: int, pool: int | None) -> Progress:
    """Where a project stands, by its newest version and what webhooks told since."""
    store = services.versions(project)
    newest, active = store.newest(), store.active_manifest()
    pending = services.pending(project)
    waiting = pending.tasks()
    seen = {one.task for one in newest.seen} if newest else set()
    exact_match = active.metrics.get("exact_match") if active else None
    return Progress(confirmed=len(seen | waiting), pending=len(waiting), pool=pool, exact_match=exact_match)


def enqueue(services: Services, project: int, trigger: str, reason: str) -> str | None:
    """Enqueue the fine-tune that follows the newest version; None where that one is already under way.

    The job's id names the version it follows, so there is one at a time however often it is asked for.
    """
    parent = _newest(services, project)
    job_id = f"finetune-{project}-after-{parent or 'nothing'}"
    _clear_ended(services, job_id)
    try:
        queue(services).enqueue_call(
            fine_tune,
            args=(project, parent),
            job_id=job_id,
            timeout=services.settings.job_timeout,
            result_ttl=86_400,
            failure_ttl=7 * 86_400,
            retry=RETRY,
            unique=True,
            meta={"trigger": trigger},
            description=f"fine-tune of project {project} after {parent}: {reason}",
        )
    except DuplicateJobError:
        return None
    event(logger, "fine-tune enqueued", project=project, job=job_id, reason=reason)
    return job_id


def fine_tune(project: int, parent: str | None) -> dict[str, Any]:
    """The RQ job: train the version that follows ``parent``, unless that is done or not due any more."""
    services = Services(load())
    job = get_current_job()
    started = time.monotonic()

    def count(outcome: str) -> None:
        took = time.monotonic() - started
        services.count(**{f"fine-tunes {outcome}": 1, f"fine-tune seconds {outcome}": took})

    try:
        ended = _fine_tune(services, job, project, parent)
        count(str(ended["outcome"]))
        return ended
    except Exception as error:
        # RQ keeps the whole story with the job, and tries again.
        reason = f"{type(error).__name__}: {error}"
        event(
            logger,
            "fine-tune failed",
            level=logging.ERROR,
            project=project,
            job=job.id if job else None,
            retries=job.retries_left if job else None,
            reason=reason,
        )
        count("failed")
        raise


def _fine_tune(services: Services, job: Job | None, project: int, parent: str | None) -> dict[str, Any]:
    trigger = job.meta.get("trigger") if job else None
    pending = services.pending(project)
    training.finish(services, project)
    if _newest(services, project) != parent:
        return _already_done(services, project, parent)
    # Webhooks may be late or doubled, and annotations deleted since: Label Studio says whether the batch is complete.
    if trigger == REQUEST:
        catch_up(services, project)
    elif not _is_due_for_certain(services, project):
        event(logger, "fine-tune not due", project=project, pending=pending.count())
        return {"outcome": "not due"}
    try:
        manifest = training.fine_tune(
            services, project, _reporter(job, project), job=job.id if job else None, trigger=trigger
        )
    except VersionSuperseded:
        return _already_done(services, project, parent)
    except NotEnoughLabels as error:
        if trigger != REQUEST:
            pending.postpone(pending.count() + services.settings.k_max)
        event(logger, "fine-tune postponed", level=logging.WARNING, project=project, reason=error)
        return {"outcome": "postponed", "reason": str(error)}
    pending.resume()
    pending.announce()
    reconcile(services, project)
    if manifest.held_back:
        return {"outcome": "held back", "version": manifest.version, "reason": manifest.held_back}
    return {"outcome": "trained", "version": manifest.version, "seconds": manifest.seconds}


def _already_done(services: Services, project: int, parent: str | None) -> dict[str, Any]:
    event(logger, "fine-tune already done", project=project, parent=parent)
    reconcile(services, project)
    return {"outcome": "already done", "parent": parent}


def reconcile(services: Services, project: int) -> str | None:
    """Put what webhooks told right by what Label Studio has; enqueue a fine-tune if that makes one due.

    A version whose job ended before it was made active is made active first.
    """
    training.finish(services, project)
    pool, _ = catch_up(services, project)
    return consider(services, project, "poll", pool)


def catch_up(services: Services, project: int) -> tuple[int, int]:
    """Note what Label Studio has and the newest version has not seen.

    Returns:
        The number of frames to annotate, and of those that have an annotation which the newest version has not seen.
    """
    pending = services.pending(project)
    known = pending.known()
    configuration = Configuration.parse(services.studio.project(project).label_config)
    labelled = training.confirmed(services, project, configuration)
    fresh = training.changed_since(labelled, services.versions(project).newest())
    pending.replace({one.annotation.id: one.annotation.task for one in fresh}, known)
    counts = services.studio.counts(project)
    return counts.unlabelled, len(fresh)


def ended(services: Services, project: int, pool: int | None) -> str | None:
    """Why the project's loop has ended, or None while it goes on."""
    settings = services.settings
    return reason_to_stop(progress(services, project, pool), settings.annotation_budget, settings.target_exact_match)


def _newest(services: Services, project: int) -> str | None:
    names = services.versions(project).names()
    return names[-1] if names else None


def _is_due(services: Services, project: int, state: Progress) -> bool:
    settings = services.settings
    return (
        due(state, settings.k_max, settings.annotation_budget, settings.target_exact_match)
        and state.pending >= services.pending(project).wanted()
    )


def _is_due_for_certain(services: Services, project: int) -> bool:
    """Whether a fine-tune is due by what Label Studio has.

    It is asked again where only webhooks that came while it answered make it so: they may be of annotations that a
    version has seen.
    """
    while True:
        pool, fresh = catch_up(services, project)
        state = progress(services, project, pool)
        if not _is_due(services, project, state):
            return False
        if _is_due(services, project, replace(state, pending=fresh)):
            return True


def _parts(payload: dict[str, Any], shape: TypeAdapter[list[Part]]) -> list[Part]:
    """The annotations of a payload: one, or in bulk a list, under either of the names that Label Studio uses."""
    name = "annotations" if "annotations" in payload else "annotation"
    content = payload.get(name, [])
    try:
        return shape.validate_python(content if isinstance(content, list) else [content])
    except ValidationError as error:
        raise InvalidRequest.of(error, within=name) from None


def _clear_ended(services: Services, job_id: str) -> None:
    """Remove an earlier try that is over, so that its id is free again; never one that was enqueued meanwhile."""

    def clear(pipeline: Pipeline) -> None:
        with suppress(NoSuchJobError, InvalidJobOperation):  # gone, or going while we look
            job = Job.fetch(job_id, connection=services.redis, serializer=JSONSerializer)
            over = job.get_status(refresh=False) in ENDED or _is_of_the_future(services, job)
            pipeline.multi()
            if over:
                job.delete(pipeline=pipeline)

    services.redis.transaction(clear, Job.key_for(job_id))


def _is_of_the_future(services: Services, job: Job) -> bool:
    """Whether the clock was set back since a job was planned or last heard of: RQ would wait until then.

    A worker that lives tells so every few seconds, by the clock as it is now.
    """
    now = datetime.now(timezone.utc)
    if job.get_status(refresh=False) == JobStatus.SCHEDULED:
        with suppress(NoSuchJobError):
            return bool(queue(services).scheduled_job_registry.get_scheduled_time(job) > now + _LONGEST_WAIT)
    if job.get_status(refresh=False) == JobStatus.STARTED and job.last_heartbeat is not None:
        return bool(job.last_heartbeat > now + _CLOCKS_DIFFER)
    return False


def _reporter(job: Job | None, project: int) -> training.Report:
    """Show progress in the job's meta, and in the log when the stage changes."""
    log = stages(logger, project, job.id if job else None)

    def report(stage: str, done: int, total: int) -> None:
        if job is not None:
            job.meta.update(stage=stage, done=done, total=total)
            # Without Redis nobody can look, but the training is worth going on with.
            with suppress(RedisError):
                job.save_meta()
        log(stage, done, total)

    return report


def settings_for_worker() -> Settings:
    """The settings, read when a worker starts so that it fails loudly then and not at its first job."""
    settings = load()
    settings.token()
    return settings
