"""A process of its own for each deed, forked by a server that has imported everything and built the network once."""

from __future__ import annotations

import copy
import functools
import importlib
import json
import multiprocessing
import os
import signal
import threading
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from redis.exceptions import RedisError
from tqdm import tqdm

from ml_backend.errors import BackendError, StudioUnavailable
from ml_backend.launch.processes import free_port
from ml_backend.msml import build as building
from ml_backend.msml.build import build
from ml_backend.msml.network import Network
from ml_backend.services import Services
from ml_backend.settings import load
from ml_backend.studio.client import Studio
from soak.crash.deeds import Deed
from soak.crash.effects import Fate, Point, Watch

SECONDS = 300  # of a deed that hangs; on a busy machine, beside a real Label Studio, whole ones take long too
LABELS = 3
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["soak.crash.preload", "sklearn.cluster", "sklearn.linear_model"])


@dataclass(frozen=True)
class Blow:
    """What happens to a process: ``fate`` at the ``nth`` effect of this ``name``."""

    name: str
    nth: int
    fate: Fate


@dataclass(frozen=True)
class Ran:
    """How a process ended: ``code`` as exit code or negative signal, its effects in order, and its last words."""

    code: int
    points: tuple[Point, ...]
    error: str

    @property
    def killed(self) -> bool:
        """Whether it was killed."""
        return self.code == -signal.SIGKILL


def run(deed: Deed, place: Path, environment: dict[str, str], project: int, blow: Blow | None = None) -> Ran:
    """Do a deed, a function of some module, in a process of its own; raises RuntimeError where it does not end."""
    notes = place.with_name(f"{place.name}.notes")
    notes.write_bytes(b"")
    process = _FORKS.Process(target=_do, args=(deed, place, environment, project, blow, notes))
    process.start()
    process.join(SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise RuntimeError(f"{deed.__name__} does not end")
    lines = [json.loads(line) for line in notes.read_text().splitlines()]
    errors = [line["error"] for line in lines if "error" in line]
    points = tuple(Point(**line) for line in lines if "name" in line)
    return Ran(process.exitcode, points, errors[-1] if errors else "")


def _do(deed: Deed, place: Path, environment: dict[str, str], project: int, blow: Blow | None, notes: Path) -> None:
    os.environ.update(environment)
    output = os.open(place.with_name(f"{place.name}.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    told = os.open(notes, os.O_WRONLY | os.O_APPEND)

    def note(content: dict[str, Any]) -> None:
        os.write(told, json.dumps(content).encode() + b"\n")

    vars(building)["build"] = built
    services = Services(load())
    watch = Watch(place, (blow.name, blow.nth) if blow else None, blow.fate if blow else "kill")
    try:
        with watch.watching(lambda point: note(asdict(point))):
            deed(services, project)
    except Exception as error:
        expected = isinstance(error, BackendError | OSError | RedisError)
        note({"error": f"{type(error).__name__}: {error}" if expected else traceback.format_exc()})
        os._exit(1 if expected else 2)
    os._exit(0)


def built(*arguments: Any, **options: Any) -> Network:
    """Return a copy of a network that is built only once."""
    return copy.deepcopy(_network(*arguments, **options))


def warm() -> None:
    """Do once, for all processes forked from this one, what would take each longest: building and importing."""
    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # a lock shared by processes would stay locked when its holder is killed
    _network("efficientnet_lite0", LABELS, None, 0, "float32")
    importlib.import_module("torch._dynamo")  # the first step of a training imports it
    nobody = Studio(f"http://127.0.0.1:{free_port()}", "nobody")
    for call in (lambda: nobody.counts(1), nobody.people, lambda: nobody.webhooks(1), lambda: nobody.model_versions(1)):
        with suppress(StudioUnavailable):
            call()


@functools.cache
def _network(*arguments: Any, **options: Any) -> Network:
    return build(*arguments, **options)
