"""What the system does for a project at this moment, and what is wrong, in words for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from redis.exceptions import RedisError
from rq.job import JobStatus

from ml_backend.errors import BackendError, VersionUnknown
from ml_backend.loop import asked, confirm, jobs
from ml_backend.services import Services
from ml_backend.store import heartbeat

UNDER_WAY = (JobStatus.QUEUED, JobStatus.STARTED, JobStatus.SCHEDULED, JobStatus.DEFERRED)


@dataclass(frozen=True)
class Work:
    """Something that is under way; ``share`` of it is done, in [0, 1], None where that is not known."""

    what: str
    detail: str = ""
    share: float | None = None


@dataclass(frozen=True)
class Trouble:
    """Something that is wrong, and what to do about it."""

    what: str
    remedy: str


@dataclass(frozen=True)
class Now:
    """What is under way, what is wrong, and how many frames are ``pending`` of those that start a fine-tune.

    ``pending`` is None where Redis does not answer; ``asked`` is what a lead asked for last.
    """

    works: tuple[Work, ...]
    troubles: tuple[Trouble, ...]
    pending: int | None
    asked: asked.Asked | None = None


def now(services: Services, project: int, health: Mapping[str, str]) -> Now:
    """Ask Redis and the stores; ``health`` is what the backend knows of Label Studio, the disk and the model."""
    works: tuple[Work, ...] = ()
    troubles = [*_unhealthy(health), *_kept(services, project)]
    pending = last = None
    try:
        works = tuple(_under_way(services, project))
        troubles = [*_noted(services, project), *troubles]
        pending = services.pending(project).count()
        last = asked.last(services, project)
    except (BackendError, RedisError) as error:
        troubles.insert(0, Trouble(f"Redis: {error}", "Nothing is trained or put in order without it. Start it again."))
    return Now(works, tuple(troubles), pending, last)


def _under_way(services: Services, project: int) -> Iterator[Work]:
    newest = (services.versions(project).names() or ["nothing"])[-1]
    job = jobs.fetch(services, f"finetune-{project}-after-{newest}")
    if job is not None and (status := job.get_status(refresh=False)) in UNDER_WAY:
        done, total = job.meta.get("done", 0), job.meta.get("total", 0)
        if status == JobStatus.STARTED:
            share = done / total if total else None
            yield Work("Fine-tune", str(job.meta.get("stage", "begins")), share)
        else:
            waits = "waits for its next try" if status == JobStatus.SCHEDULED else "waits for a worker"
            yield Work("Fine-tune", waits)
    step = services.doing(project).step()
    if step is not None:
        yield Work("The queue is put in order", step.stage, step.share)


def _noted(services: Services, project: int) -> Iterator[Trouble]:
    """What the processes have left in Redis."""
    if not heartbeat.alive(services.redis, heartbeat.SIDECAR):
        yield Trouble(
            "The sidecar gives no sign of life: nothing is put in order, and this page stays as it is.",
            "Start it: `tsal serve` starts everything, `tsal sidecar` only it.",
        )
    trouble = services.doing(project).trouble()
    if trouble:
        yield Trouble(f"The last look at the project failed: {trouble}", "It is tried again by itself.")


def _unhealthy(health: Mapping[str, str]) -> Iterator[Trouble]:
    remedies = {
        "label_studio": ("Label Studio", "Start Label Studio, or correct TSAL_LABEL_STUDIO_URL and its token."),
        "disk": ("The disk", "Make room, for example with `tsal versions prune`."),
        "model": ("The network", "Correct what it names; `tsal doctor` says more."),
    }
    for name, (what, remedy) in remedies.items():
        state = health.get(name, "UNKNOWN")
        if state not in ("UP", "UNKNOWN"):
            yield Trouble(f"{what}: {state}", remedy)


def _kept(services: Services, project: int) -> Iterator[Trouble]:
    """What the stores say."""
    parked = confirm.parked_now(services, project)
    if parked is not None:
        yield Trouble(
            f"No fine-tune since {parked.at}: {parked.reason}",
            "It is tried again after the next batch. Press Start Training in Label Studio to try it now.",
        )
    store = services.versions(project)
    try:
        newest = store.newest()
    except VersionUnknown as error:
        newest = None
        yield Trouble(f"The newest version cannot be used: {error}", "The sidecar sets it aside at its next look.")
    if newest is not None and newest.held_back and newest.version != store.active():
        yield Trouble(
            f"The newest version {newest.version} is held back: {newest.held_back}",
            "The version before it serves. Under Versions you can make it active all the same.",
        )
    for name in store.damaged():
        yield Trouble(f"Version {name} is damaged and set aside.", "Bring it back from a backup, or leave it.")
