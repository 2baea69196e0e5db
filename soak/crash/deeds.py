"""What processes of the installation do: the operations that are interrupted, and what is started afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image
from redis import Redis
from rq import SimpleWorker
from rq.scheduler import RQScheduler
from rq.serializers import JSONSerializer

from ml_backend.errors import BackendError
from ml_backend.export.export import Wanted, export
from ml_backend.ingest.bucket import Bucket, BucketFolder
from ml_backend.ingest.importer import Importer
from ml_backend.ingest.origins import Rule
from ml_backend.ingest.served import Folder
from ml_backend.ingest.storage import Storage
from ml_backend.loop import asked, jobs, watch
from ml_backend.loop import finish as finishing
from ml_backend.loop import order as ordering
from ml_backend.loop import score as scoring
from ml_backend.services import Services
from ml_backend.studio.storages import BucketAccess

QUEUES = (asked.QUEUE, jobs.QUEUE, scoring.QUEUE)
LOOKS = 10
EPSILON, CONFIDENCE = 0.2, 0.8
CLIPS = 3
BUCKET = "crash-frames"
Deed = Callable[[Services, int], None]


def look(services: Services, project: int) -> None:
    """Look at the project as the sidecar does every poll."""
    watch.look(services, project, watch.Watched())


def work(services: Services, project: int) -> None:
    """Do the jobs that are due, as a worker does."""
    queues = [services.queue(name) for name in QUEUES]
    scheduler = RQScheduler(queues, connection=services.redis, serializer=JSONSerializer)
    scheduler.acquire_locks()
    scheduler.enqueue_scheduled_jobs()
    scheduler.release_locks()
    worker = _Worker(queues, connection=services.redis, serializer=JSONSerializer)
    worker.clean_registries()
    worker.work(burst=True, logging_level="WARNING")


def train(services: Services, project: int) -> None:
    """Do the jobs that are due, but make the refresh after a fine-tune fail, so that the queue stays as it was."""

    def fail(*_: object) -> None:
        raise BackendError("left to the sidecar")

    with patch.object(jobs, "refresh_here", fail):
        work(services, project)


class _Worker(SimpleWorker):  # type: ignore[misc]
    """Works in this process, and does not listen for commands: to stop listening takes a second."""

    def subscribe(self) -> None:
        """Do not listen."""

    def unsubscribe(self) -> None:
        """Do not listen."""


def refresh(services: Services, project: int) -> None:
    """Put the queue in order."""
    ordering.refresh_if_needed(services, project, _silent)


def prune_orders(services: Services, project: int) -> None:
    """Remove the predictions of old orders, one order at a time."""
    while ordering.prune(services, project):
        pass


def finish(services: Services, project: int) -> None:
    """Do what `tsal finish` does."""
    standing = finishing.advance(services, project)
    if standing is None or standing.state == "void":
        offered = finishing.offer(services, project, EPSILON, CONFIDENCE, None, _silent)
        finishing.begin(services, project, offered)


def give_up(services: Services, project: int) -> None:
    """Do what `tsal finish --give-up` does, unless it is done already."""
    if services.finishes(project).standing() is not None:
        finishing.give_up(services, project)


def bring(services: Services, project: int) -> None:
    """Do what `tsal import` does with a folder of clips."""
    root = services.settings.document_root
    assert root is not None
    _bring(services, project, Folder(root / "frames", root))


def bring_to_bucket(services: Services, project: int) -> None:
    """Do what `tsal import --storage` does with a folder of clips."""
    _bring(services, project, Bucket(BucketFolder(BUCKET, "frames"), BucketAccess.of(services.settings)))


def _bring(services: Services, project: int, storage: Storage) -> None:
    data_dir = services.settings.data_dir
    importer = Importer(services.studio, project, storage, data_dir=data_dir, rule=Rule({}), distance=-1)
    report = importer.run([data_dir.parent / "clips"])
    if report.failed:
        raise BackendError(f"{len(report.failed)} files failed: {report.failed[0][1]}")


def send_out(services: Services, project: int) -> None:
    """Do what `tsal export` does."""
    export(services, project, services.settings.data_dir.parent / "out" / "export", EXPORTED, lambda done, of: None)


EXPORTED = Wanted(formats=("csv", "coco"), only="people", copied=True)


def ask_for_first(services: Services, project: int) -> None:
    """Ask for the first version to be activated, as the lead's page does, and activate it."""
    store = services.versions(project)
    first = store.names()[0]
    if store.active() != first:
        asked.ask(services, project, "activate", "a lead", version=first, expected=store.active())
        work(services, project)


def prune_versions(services: Services, project: int) -> None:
    """Do what `tsal versions prune` does."""
    services.versions(project).prune(1)


def recover(services: Services, project: int) -> None:
    """Do what sidecar and worker do after a start, until nothing changes any more."""
    watch.sweep(services.settings.data_dir)
    before: object = None
    state = watch.Watched()
    for _ in range(LOOKS):
        state.polled = state.again = float("-inf")
        watch.try_look(services, project, state)
        work(services, project)
        pass_time(services.redis)
        now = _fingerprint(services, project)
        if now == before and state.trouble is None:
            return
        before = now
    raise BackendError(f"still changing after {LOOKS} looks: {state.trouble}")


def pass_time(redis: Redis) -> None:
    """Act as if minutes had passed: end heartbeats, started jobs and RQ's locks, and make scheduled jobs due."""
    for key in redis.scan_iter("tsal:missed:*"):
        redis.set(key, 1, keepttl=True)
    for key in redis.scan_iter("rq:*"):
        kind, name = redis.type(key), key.decode()
        if kind == b"zset" and (":wip:" in name or ":scheduled:" in name):
            for member, score in redis.zscan_iter(key):
                if 0 < score < time.time() + 86_400:
                    redis.zadd(key, {member: 1})
        elif ":first_seen:" in name:
            redis.set(key, 1, ex=60)
        elif (kind == b"string" or name.startswith("rq:worker:")) and redis.ttl(key) > 0:
            redis.delete(key)


def project_state(services: Services, project: int) -> tuple[object, ...]:
    """The state of a project, without its queues of jobs."""
    store = services.versions(project)
    finish = services.finishes(project).newest()
    return (
        store.names(),
        store.active(),
        services.orders(project).current_name(),
        services.studio.model_versions(project),
        services.pending(project).known(),
        finish.state if finish else None,
    )


def _fingerprint(services: Services, project: int) -> object:
    return (
        *project_state(services, project),
        [services.queue(name).count for name in QUEUES],
        [len(services.queue(name).scheduled_job_registry) for name in QUEUES],
        [len(services.queue(name).started_job_registry) for name in QUEUES],
        services.redis.llen("rq:queue:tsal:intermediate"),
    )


def make_clips(folder: Path) -> None:
    """Write still pictures of three patients for `bring`."""
    for number in range(CLIPS):
        patient = folder / f"patient {number}"
        patient.mkdir(parents=True)
        for picture in range(2):
            draw(patient / f"{picture}.png", 100 + 2 * number + picture)


def draw(path: Path, seed: int) -> None:
    """Write a picture of coarse noise, another one for each seed."""
    blocks = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(blocks.repeat(8, axis=0).repeat(8, axis=1)).save(path)


def _silent(stage: str, done: int, total: int) -> None:
    return None
