"""RQ: what a webhook records, when a fine-tune is due, and the job that runs it."""

from __future__ import annotations

import logging
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError
from rq import Queue, Retry, get_current_job
from rq.exceptions import DuplicateJobError
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from ml_backend import training
from ml_backend.errors import InvalidRequest, NotEnoughLabels
from ml_backend.logs import event
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
RETRY = Retry(max=3, interval=[10, 60, 300])


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")

    id: int
    task: int | None = None
    was_cancelled: bool = False


class _Event(BaseModel):
    """What is read of a webhook's payload; the rest, the project's tokens among it, is dropped unread."""

    model_config = ConfigDict(extra="ignore")

    annotation: list[_Part] = Field(default_factory=list, validation_alias=AliasChoices("annotation", "annotations"))


def queue(services: Services) -> Queue:
    """The queue of fine-tunes; jobs travel as JSON, never as pickle."""
    return Queue(QUEUE, connection=services.redis, serializer=JSONSerializer)


def record(services: Services, project: int, action: str, payload: dict[str, Any]) -> str | None:
    """Take note of a webhook and enqueue a fine-tune if a batch is complete; no call to Label Studio.

    Returns:
        The id of the job that was enqueued, or None.

    Raises:
        InvalidRequest: where the payload is not of the form that Label Studio sends.
    """
    pending = services.pending(project)
    if action == TRAIN:
        pending.resume()
        return enqueue(services, project, "request", "training was asked for")
    if action in NEWS:
        pending.announce()
        return None
    if action not in (*ADDED, DELETED):
        return None
    parts = _parts(payload)
    if action == DELETED:
        pending.remove([part.id for part in parts])
    else:
        pending.add({part.id: part.task for part in parts if part.task is not None and not part.was_cancelled})
        pending.remove([part.id for part in parts if part.was_cancelled])
    count = pending.count()
    event(logger, "webhook", project=project, action=action, pending=count)
    return consider(services, project, "webhook", pool=None)


def consider(services: Services, project: int, trigger: str, pool: int | None) -> str | None:
    """Enqueue a fine-tune if one is due; ``pool`` is the number of frames to annotate, None where unknown."""
    settings = services.settings
    pending = services.pending(project)
    state = progress(services, project, pool)
    if not due(state, settings.k_max, settings.annotation_budget, settings.target_exact_match):
        return None
    if state.pending < pending.wanted():
        return None
    return enqueue(services, project, trigger, f"{state.pending} newly confirmed annotations")


def progress(services: Services, project: int, pool: int | None) -> Progress:
    """Where a project stands, by its newest version and what webhooks told since."""
    newest = services.versions(project).newest()
    pending = services.pending(project)
    waiting = pending.tasks()
    seen = {one.task for one in newest.seen} if newest else set()
    exact_match = newest.metrics.get("exact_match") if newest else None
    return Progress(confirmed=len(seen | waiting), pending=len(waiting), pool=pool, exact_match=exact_match)


def enqueue(services: Services, project: int, trigger: str, reason: str) -> str | None:
    """Enqueue the fine-tune that follows the newest version; None where that one is already under way.

    The job's id names the version it follows, so there is one at a time however often it is asked for.
    """
    newest = services.versions(project).newest()
    parent = newest.version if newest else None
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
    """The RQ job: train the version that follows ``parent``, unless that is done already."""
    services = Services(load())
    job = get_current_job()
    newest = services.versions(project).newest()
    if (newest.version if newest else None) != parent:
        event(logger, "fine-tune already done", project=project, parent=parent)
        return {"outcome": "already done", "parent": parent}
    pending = services.pending(project)
    before = pending.count()
    try:
        manifest = training.fine_tune(
            services,
            project,
            _reporter(job, project),
            job=job.id if job else None,
            trigger=job.meta.get("trigger") if job else None,
        )
    except NotEnoughLabels as error:
        pending.postpone(before + services.settings.k_max)
        event(logger, "fine-tune postponed", level=logging.WARNING, project=project, reason=error)
        return {"outcome": "postponed", "reason": str(error)}
    pending.resume()
    pending.announce()
    reconcile(services, project)
    return {"outcome": "trained", "version": manifest.version, "seconds": manifest.seconds}


def reconcile(services: Services, project: int) -> str | None:
    """Put what webhooks told right by what Label Studio has; enqueue a fine-tune if that makes one due."""
    configuration = Configuration.parse(services.studio.project(project).label_config)
    labelled = training.confirmed(services, project, configuration)
    fresh = training.changed_since(labelled, services.versions(project).newest())
    services.pending(project).replace({one.annotation.id: one.annotation.task for one in fresh})
    counts = services.studio.counts(project)
    return consider(services, project, "poll", pool=counts.tasks - counts.annotated)


def ended(services: Services, project: int, pool: int | None) -> str | None:
    """Why the project's loop has ended, or None while it goes on."""
    settings = services.settings
    return reason_to_stop(progress(services, project, pool), settings.annotation_budget, settings.target_exact_match)


def _parts(payload: dict[str, Any]) -> list[_Part]:
    content = {
        name: value if isinstance(value, list) else [value]
        for name, value in payload.items()
        if name in ("annotation", "annotations")
    }
    content = {
        name: [{"id": part} if isinstance(part, int) else part for part in value] for name, value in content.items()
    }
    try:
        return _Event.model_validate(content).annotation
    except ValidationError as error:
        problem = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise InvalidRequest(f"the webhook's field {where} cannot be used: {problem['msg']}") from None


def _clear_ended(services: Services, job_id: str) -> None:
    """Remove an earlier try that is over, so that its id is free again."""
    if not Job.exists(job_id, connection=services.redis):
        return
    job = Job.fetch(job_id, connection=services.redis, serializer=JSONSerializer)
    if job.get_status() in (JobStatus.FINISHED, JobStatus.FAILED, JobStatus.CANCELED, JobStatus.STOPPED):
        job.delete()


def _reporter(job: Job | None, project: int) -> training.Report:
    """Show progress in the job's meta, and in the log when the stage changes."""
    last = ""

    def report(stage: str, done: int, total: int) -> None:
        nonlocal last
        if job is not None:
            job.meta.update(stage=stage, done=done, total=total)
            job.save_meta()
        if stage != last:
            event(logger, stage, project=project, total=total, job=job.id if job else None)
            last = stage

    return report


def settings_for_worker() -> Settings:
    """The settings, read when a worker starts so that it fails loudly then and not at its first job."""
    settings = load()
    settings.token()
    return settings
