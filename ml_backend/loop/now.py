"""Describe what the system is doing for a project right now, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from redis.exceptions import RedisError
from rq.job import JobStatus

from ml_backend.errors import BackendError, VersionUnknown
from ml_backend.loop import asked, confirm, enqueued, jobs
from ml_backend.services import Services
from ml_backend.store import heartbeat

UNDER_WAY = (JobStatus.QUEUED, JobStatus.STARTED, JobStatus.SCHEDULED, JobStatus.DEFERRED)


@dataclass(frozen=True)
class Work:
    """Work in progress; ``share`` of it is done, in [0, 1], None if unknown."""

    what: str
    detail: str = ""
    share: float | None = None


@dataclass(frozen=True)
class Trouble:
    """A problem, and what to do about it."""

    what: str
    remedy: str


@dataclass(frozen=True)
class Now:
    """What is in progress, what is wrong, and the number of answers ``pending`` for the next fine-tune.

    ``pending`` is None where Redis does not answer; ``asked`` is the last request of a lead.
    """

    works: tuple[Work, ...]
    troubles: tuple[Trouble, ...]
    pending: int | None
    asked: asked.Asked | None = None


def now(services: Services, project: int, health: Mapping[str, str]) -> Now:
    """Read the state from Redis and the stores; ``health`` is the state of Label Studio, the disk and the model."""
    works: tuple[Work, ...] = ()
    troubles = [*_unhealthy(health), *_kept(services, project)]
    pending = last = None
    try:
        works = tuple(_under_way(services, project))
        troubles = [*_noted(services, project), *troubles]
        pending = services.pending(project).count()
        last = asked.last(services, project)
    except (BackendError, RedisError) as error:
        troubles.insert(
            0,
            Trouble(
                f"Redis: {error}", "Without it, nothing is trained and the queue is not refreshed. Start it again."
            ),
        )
    return Now(works, tuple(troubles), pending, last)


def _under_way(services: Services, project: int) -> Iterator[Work]:
    job = enqueued.fetch(services, jobs.name_of(project, jobs.newest_of(services, project)))
    if job is not None and (status := job.get_status(refresh=False)) in UNDER_WAY:
        done, total = job.meta.get("done", 0), job.meta.get("total", 0)
        if status == JobStatus.STARTED:
            share = done / total if total else None
            yield Work("Fine-tune", str(job.meta.get("stage", "starting")), share)
        else:
            waits = "waiting to be retried" if status == JobStatus.SCHEDULED else "waiting for a worker"
            yield Work("Fine-tune", waits)
    step = services.doing(project).step()
    if step is not None:
        yield Work("Refreshing the queue", step.stage, step.share)


def _noted(services: Services, project: int) -> Iterator[Trouble]:
    """Report problems that the processes have noted in Redis."""
    if not heartbeat.alive(services.redis, heartbeat.SIDECAR):
        yield Trouble(
            "The sidecar is not running: the queue and this page are not refreshed.",
            "Start it: `tsal serve` starts everything, `tsal sidecar` only the sidecar.",
        )
    trouble = services.doing(project).trouble()
    if trouble:
        yield Trouble(f"The last look at the project failed: {trouble}", "It will be retried automatically.")


def _unhealthy(health: Mapping[str, str]) -> Iterator[Trouble]:
    remedies = {
        "label_studio": ("Label Studio", "Start Label Studio, or correct TSAL_LABEL_STUDIO_URL and the token."),
        "disk": ("The disk", "Free some space, for example with `tsal versions prune`."),
        "model": ("The network", "Correct the cause given here; `tsal doctor` says more."),
    }
    for name, (what, remedy) in remedies.items():
        state = health.get(name, "UNKNOWN")
        if state not in ("UP", "UNKNOWN"):
            yield Trouble(f"{what}: {state}", remedy)


def _kept(services: Services, project: int) -> Iterator[Trouble]:
    """Report problems found in the stores."""
    parked = confirm.parked_now(services, project)
    if parked is not None:
        yield Trouble(
            f"No fine-tune since {parked.at}: {parked.reason}",
            "It will be retried after the next batch. Press Start Training in Label Studio to retry now.",
        )
    store = services.versions(project)
    try:
        newest = store.newest()
    except VersionUnknown as error:
        newest = None
        yield Trouble(f"The newest version cannot be used: {error}", "The sidecar will set it aside at its next look.")
    if newest is not None and newest.held_back and newest.version != store.active():
        yield Trouble(
            f"The newest version {newest.version} is held back: {newest.held_back}",
            "The previous version stays active. Under Versions you can activate it anyway.",
        )
    for name in store.damaged():
        yield Trouble(f"Version {name} is damaged and was set aside.", "Restore it from a backup, or ignore it.")
