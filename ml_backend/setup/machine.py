"""Check this machine: its disk, Redis with a worker and a sidecar, and whether the network can be built."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version

from redis import Redis
from rq import Worker

from ml_backend.aside import call_aside
from ml_backend.errors import RedisUnavailable, WeightsUnavailable
from ml_backend.frames.networks import Networks
from ml_backend.loop import jobs
from ml_backend.settings import Settings
from ml_backend.setup.findings import Finding
from ml_backend.store.embedded import redis_url
from ml_backend.store.heartbeat import SIDECAR, alive
from ml_backend.store.pending import connect
from ml_backend.web.health import LEAST_FREE

OLDEST_REDIS = 5  # RQ needs it
KNOWN_SDK = ((2, 0), (2, 1))  # releases of label-studio-sdk that this was tried with


def disk(settings: Settings) -> Iterator[Finding]:
    """Say whether the data folder can be written and has room for a version and its order."""
    folder = settings.data_dir.resolve()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield Finding("disk", "change", f"{there} cannot be written: correct its rights, or set TSAL_DATA_DIR")
    elif free < LEAST_FREE:
        yield Finding(
            "disk", "change", f"only {free / 1e9:.1f} GB are free in {there}: make room, or set TSAL_DATA_DIR"
        )
    else:
        yield Finding("disk", "ok", f"{folder} can be written, {free / 1e9:.0f} GB are free")


def model_problem(settings: Settings, serves: bool = False) -> str | None:
    """Build the network as a worker does, in a process of its own; return why that is impossible, or None.

    Weights that are not on this machine yet are downloaded, as at the first prediction. If it ``serves`` and the
    network can be built, the data folder is made to record that, so that the next start need not build it again.
    """
    try:
        call_aside(_build, settings, serves)
    except WeightsUnavailable as error:
        return (
            f"the model cannot be built: {error} Two ways out: TSAL_WEIGHTS=FILE with weights of {settings.backbone}, "
            "or TSAL_BACKBONE=efficientnet_lite0, whose weights come inside a Python package"
        )
    return None


def _build(settings: Settings, serves: bool) -> None:
    networks = Networks(settings)
    network = networks.tried(2)
    if serves:
        with suppress(OSError):  # reported where something has to be written
            settings.data_dir.mkdir(parents=True, exist_ok=True)
        networks.note(network)


def model(settings: Settings, anew: bool = True) -> Iterator[Finding]:
    """Say whether the network can be built; unless ``anew``, it need not be built again where it was here before."""
    problem = model_problem(settings) if anew or not Networks(settings).were_built else None
    if problem:
        yield Finding("model", "change", problem)
    else:
        yield Finding("model", "ok", f"the model can be built ({settings.backbone})")


def redis(settings: Settings) -> Iterator[Finding]:
    """Say whether Redis answers, and whether a worker and the sidecar are there."""
    embedded = settings.redis_url is None
    try:
        connection = connect(redis_url(settings))
    except RedisUnavailable as error:
        yield Finding(
            "redis",
            "change",
            f"the embedded Redis of {settings.data_dir} does not run: start everything with `tsal serve`"
            if embedded
            else str(error),
        )
        return
    with connection:
        release = str(connection.info("server")["redis_version"])
        if int(release.split(".")[0]) < OLDEST_REDIS:
            yield Finding("redis", "change", f"Redis {release} is too old: {OLDEST_REDIS}.0 or newer is needed")
        else:
            yield Finding("redis", "ok", f"Redis {release} answers{' (embedded)' if embedded else ''}")
        yield from _processes(connection)


def _processes(connection: Redis) -> Iterator[Finding]:
    queues = {name for worker in Worker.all(connection=connection) for name in worker.queue_names()}
    if jobs.QUEUE in queues:
        yield Finding("worker", "ok", "a worker is there")
    else:
        yield Finding("worker", "change", "no worker is running: start `tsal worker` (`tsal serve` starts one)")
    if alive(connection, SIDECAR):
        yield Finding(SIDECAR, "ok", "the sidecar is there")
    else:
        yield Finding(SIDECAR, "change", "no sidecar is running: start `tsal sidecar` (`tsal serve` starts one)")


def sdk() -> Iterator[Finding]:
    """Say whether the release of Label Studio's client is one that this was tried with."""
    release = version("label-studio-sdk")
    if tuple(int(part) for part in release.split(".")[:2]) in KNOWN_SDK:
        yield Finding("sdk", "ok", f"label-studio-sdk {release} is known to work")
    else:
        yield Finding("sdk", "note", f"label-studio-sdk {release} has not been tried with this release")
