"""RQ: enqueue a fine-tune, run it, retry or park it."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

from redis.exceptions import RedisError
from rq import Queue, Retry, get_current_job
from rq.exceptions import DuplicateJobError
from rq.job import Job, JobStatus
from rq.timeouts import JobTimeoutException

from ml_backend.errors import BackendError, NotEnoughLabels, VersionSuperseded
from ml_backend.logs import event, place, stages
from ml_backend.loop import collect, confirm, enqueued
from ml_backend.loop import train as training
from ml_backend.loop.collect import Collected
from ml_backend.loop.enqueued import RETRY_SECONDS
from ml_backend.loop.refresh import refresh_here
from ml_backend.loop.slow import begin_to_import
from ml_backend.services import Services
from ml_backend.settings import Settings, load

logger = logging.getLogger(__name__)
QUEUE = "tsal"
UNDER_WAY = (JobStatus.QUEUED, JobStatus.STARTED)
SOON_SECONDS = 60.0
OUTCOMES = ("trained", "held back", "postponed", "not due", "already done", "parked", "failed")
RETRY = Retry(max=3, interval=RETRY_SECONDS)


def queue(services: Services) -> Queue:
    """The queue of fine-tunes."""
    return services.queue(QUEUE)


class Reconciled(NamedTuple):
    """The ``job`` that was enqueued, None without one, and all ``answers`` that count, as Label Studio has them."""

    job: str | None
    answers: Collected


def record(services: Services, project: int, action: str, payload: dict[str, Any]) -> str | None:
    """Record a webhook and enqueue the fine-tune that it makes due; returns the job's ID, None without one.

    Raises:
        InvalidRequest: if the payload does not have the form that Label Studio sends.
    """
    return _enqueue_due(services, project, confirm.record(services, project, action, payload))


def reconcile(services: Services, project: int) -> Reconciled:
    """Replace what webhooks recorded with what Label Studio has, and enqueue the fine-tune that is now due."""
    confirm.recover(services, project)
    pool, _, answers = confirm.catch_up(services, project)
    return Reconciled(consider(services, project, pool), answers)


def consider(services: Services, project: int, pool: int) -> str | None:
    """Enqueue the fine-tune that is due by what is recorded; ``pool`` is the number of frames left to annotate."""
    return _enqueue_due(services, project, confirm.consider(services, project, "poll", pool))


def _enqueue_due(services: Services, project: int, due: confirm.Due | None) -> str | None:
    return enqueue(services, project, due.trigger, due.reason) if due else None


def enqueue(services: Services, project: int, trigger: str, reason: str) -> str | None:
    """Enqueue the fine-tune that follows the newest version; None if that one is already under way.

    The job's id names the version it follows, so there is only one at a time, however often it is requested.
    """
    parent = newest_of(services, project)
    job_id = name_of(project, parent)
    enqueued.clear_ended(services, job_id)
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
        if trigger == confirm.REQUEST:
            _request(services, job_id)
        return None
    event(logger, "fine-tune enqueued", project=project, job=job_id, reason=reason)
    return job_id


def name_of(project: int, parent: str | None) -> str:
    """The ID of the job that trains the version that follows ``parent``."""
    return f"finetune-{project}-after-{parent or 'nothing'}"


def newest_of(services: Services, project: int) -> str | None:
    """The name of the newest version, even if it cannot be read; None before the first."""
    names = services.versions(project).names()
    return names[-1] if names else None


def _request(services: Services, job_id: str) -> None:
    """Let a job that waits for its retry train even if its batch is no longer due: a person asked for it."""
    job = enqueued.fetch(services, job_id)
    if job is not None:
        job.meta["trigger"] = confirm.REQUEST
        job.save_meta()


def fine_tune(project: int, parent: str | None) -> dict[str, Any]:
    """The RQ job: train the version that follows ``parent``, unless that is done or no longer due.

    An error that may pass is raised, and RQ tries again; any other error parks the fine-tune.
    """
    services = Services(load())
    job = get_current_job()
    started = time.monotonic()
    outcome = "failed"
    try:
        ended = _fine_tune(services, job, project, parent)
        outcome = str(ended["outcome"])
        return ended
    except Exception as error:
        parked = _parked(services, job, project, error)
        _log_failure(job, project, error, parked)
        if not parked:
            raise
        outcome = "parked"
        return {"outcome": outcome, "reason": _reason(error)}
    finally:
        took = time.monotonic() - started
        services.count(**{f"fine-tunes {outcome}": 1, f"fine-tune seconds {outcome}": took})


def _fine_tune(services: Services, job: Job | None, project: int, parent: str | None) -> dict[str, Any]:
    trigger = _trigger(job)
    begin_to_import()
    confirm.recover(services, project)
    if newest_of(services, project) != parent:
        return _already_done(services, project, parent)
    # Webhooks come late or twice, and annotations are deleted: only Label Studio knows if the batch is complete.
    requested = trigger == confirm.REQUEST
    now = confirm.catch_up(services, project) if requested else confirm.due_for_certain(services, project)
    if now is None:
        event(logger, "fine-tune not due", project=project, pending=services.pending(project).count())
        return {"outcome": "not due"}
    try:
        manifest = training.fine_tune(
            services, project, _reporter(job, project), job.id if job else None, trigger, now.answers
        )
    except VersionSuperseded:
        if newest_of(services, project) == parent:
            raise  # the next try would fail in the same way
        return _already_done(services, project, parent)
    except NotEnoughLabels as error:
        confirm.park(services, project, trigger, _reason(error))
        event(logger, "fine-tune postponed", level=logging.WARNING, project=project, reason=error)
        return {"outcome": "postponed", "reason": str(error)}
    services.parked(project).clear()
    services.pending(project).remove([one.annotation for one in manifest.seen])
    _put_in_order(services, project)
    services.pending(project).announce()
    reconcile(services, project)
    if manifest.held_back:
        return {"outcome": "held back", "version": manifest.version, "reason": manifest.held_back}
    return {"outcome": "trained", "version": manifest.version, "seconds": manifest.seconds}


def _put_in_order(services: Services, project: int) -> None:
    """Refresh the queue with the network in hand; what fails here is left to the sidecar."""
    try:
        refresh_here(services, project)
    except Exception as error:
        event(logger, "refresh left to the sidecar", level=logging.WARNING, project=project, reason=_reason(error))


def killed(services: Services, job: Job) -> None:
    """Count a fine-tune whose process was killed as failed; park it if that was the last try."""
    if job.origin != QUEUE:
        return
    services.count(**{"fine-tunes failed": 1})
    if not job.retries_left:
        reason = "its process was killed at every try: perhaps the machine has too little memory"
        with suppress(BackendError, RedisError, OSError):
            if confirm.park(services, job.args[0], _trigger(job), reason):
                event(logger, "fine-tune parked", level=logging.ERROR, project=job.args[0], job=job.id, reason=reason)


def _parked(services: Services, job: Job | None, project: int, error: Exception) -> bool:
    """Park a fine-tune that failed with ``error``, unless another try may succeed."""
    if isinstance(error, BackendError):
        last = job is None or not job.retries_left
        parks = error.retry == "never" or (error.retry == "limited" and last)
    else:
        # an OSError: the disk is full, or a network folder is not there
        parks = not isinstance(error, RedisError | OSError)
    try:
        return parks and confirm.park(services, project, _trigger(job), _reason(error))
    except (BackendError, RedisError, OSError):
        return False


def _log_failure(job: Job | None, project: int, error: Exception, parked: bool) -> None:
    event(
        logger,
        "fine-tune parked" if parked else "fine-tune failed",
        level=logging.ERROR,
        project=project,
        job=job.id if job else None,
        retries=None if parked or job is None else job.retries_left,
        reason=_reason(error),
        at=None if isinstance(error, BackendError) or not parked else place(error),
    )


def _reason(error: Exception) -> str:
    remedy = "; raise TSAL_JOB_TIMEOUT" if isinstance(error, JobTimeoutException) else ""
    return f"{type(error).__name__}: {error}{remedy}"


def _trigger(job: Job | None) -> str | None:
    return job.meta.get("trigger") if job else None


def _already_done(services: Services, project: int, parent: str | None) -> dict[str, Any]:
    event(logger, "fine-tune already done", project=project, parent=parent)
    reconcile(services, project)
    return {"outcome": "already done", "parent": parent}


def is_training(services: Services, project: int) -> bool:
    """Whether a fine-tune of a project is under way or waits for a worker."""
    return _under_way(services, project, newest_of(services, project)) is not None


def _under_way(services: Services, project: int, parent: str | None) -> Job | None:
    """The fine-tune that follows ``parent``, None unless it is under way or waits for a worker."""
    job = enqueued.fetch(services, name_of(project, parent))
    return job if job is not None and job.get_status(refresh=False) in UNDER_WAY else None


def soon_trained(services: Services, project: int) -> bool:
    """Whether a fine-tune was enqueued within the last minute and the one before it took less than a minute.

    It will refresh the queue itself, with the latest answers. A refresh before that would only slow it down.
    """
    newest = services.versions(project).newest()
    if newest is None or newest.seconds.get("total", SOON_SECONDS) >= SOON_SECONDS:
        return False
    job = _under_way(services, project, newest.version)
    if job is None or job.enqueued_at is None:
        return False
    age: timedelta = datetime.now(timezone.utc) - job.enqueued_at
    return abs(age.total_seconds()) < SOON_SECONDS


def _reporter(job: Job | None, project: int) -> collect.Report:
    """Show progress in the job's meta, and in the log when the stage changes."""
    log = stages(logger, project, job.id if job else None)

    def report(stage: str, done: int, total: int) -> None:
        if job is not None:
            job.meta.update(stage=stage, done=done, total=total)
            # Without Redis nobody sees the progress, but the training goes on.
            with suppress(RedisError):
                job.save_meta()
        log(stage, done, total)

    return report


def settings_for_worker() -> Settings:
    """The settings, read when a worker starts so that it fails loudly then and not at its first job."""
    settings = load()
    settings.token()
    return settings
