"""Processes that take a finish on and are killed in the middle, in a small world that lies on the disk.

Each runs on its own, forked by a server that has imported what they need, and begins with what its predecessor left.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, Literal

from typing_extensions import Self

from ml_backend.loop import finish as finishing
from ml_backend.loop import watch
from ml_backend.services import Services
from ml_backend.store.finishes import Finish, FinishStore
from ml_backend.store.pending import connect
from ml_backend.studio.client import ConfirmedAnnotation, Webhook
from tests.installation import PROJECT, settings_in
from tests.studio_stand_in import StudioStandIn

Deed = Literal["finish", "look", "give up"]
EPSILON, CONFIDENCE = 0.2, 0.8
SECONDS = 120
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([__name__, "sklearn.cluster", "sklearn.linear_model"])


class KeptStudio(StudioStandIn):
    """A Label Studio whose state lies in a file, so that it outlives the processes that speak to it."""

    path: Path

    @classmethod
    def of(cls, path: Path) -> Self:
        studio = cls()
        studio.path = path
        if path.exists():
            fields = json.loads(path.read_text())
            studio.model_version, studio.sampling = fields["model_version"], fields["sampling"]
            studio.task_data = {int(task): data for task, data in fields["task_data"].items()}
            studio.annotations = [ConfirmedAnnotation(**one) for one in fields["annotations"]]
            studio.predictions = fields["predictions"]
        return studio

    def keep(self) -> None:
        """Write the state down at once, as a database would."""
        fields = {
            "model_version": self.model_version,
            "sampling": self.sampling,
            "task_data": self.task_data,
            "annotations": [asdict(one) for one in self.annotations],
            "predictions": self.predictions,
        }
        self.path.write_text(json.dumps(fields))

    def webhooks(self, project: int) -> list[Webhook]:
        return []


class MortalStudio(KeptStudio):
    """The same for a process that may die before each change, and between the two halves of a bulk import."""

    steps: Steps

    def import_predictions(self, project: int, payloads: Iterable[Mapping[str, Any]]) -> None:
        sent = list(payloads)
        for half in (sent[: len(sent) // 2], sent[len(sent) // 2 :]):
            self.steps.one_more()
            super().import_predictions(project, half)
            self.keep()

    def update_project(self, project: int, **fields: Any) -> None:
        self.steps.one_more()
        super().update_project(project, **fields)
        self.keep()

    def delete_model_version(self, project: int, model_version: str) -> None:
        self.steps.one_more()
        super().delete_model_version(project, model_version)
        self.keep()


@dataclass
class Steps:
    """Counts what a process changes once it has ``begun``; kills it before the change number ``fatal`` (0: never)."""

    fatal: int
    begun: bool = True
    taken: int = 0

    def one_more(self) -> None:
        self.taken += self.begun
        if self.begun and self.taken == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class World:
    """A data folder and a Label Studio beside it, both below ``place``; the frames lie in ``frames``."""

    place: Path
    frames: Path
    redis_url: str

    @property
    def studio(self) -> KeptStudio:
        return KeptStudio.of(self.place / "studio.json")

    @property
    def finishes(self) -> FinishStore:
        return self.services(self.studio).finishes(PROJECT)

    @property
    def newest(self) -> Finish:
        found = self.finishes.newest()
        assert found is not None
        return found

    def services(self, studio: StudioStandIn) -> Services:
        settings = settings_in(
            self.frames,
            self.redis_url,
            data_dir=self.place / "data",
            cache_dir=self.frames / "features",
            strategy="cover",
            validator="memory",
            audit=0,
            hold_out=0,
            k_max=100,
        )
        services = Services(settings)
        services.studio = studio  # type: ignore[assignment]
        return services

    def copy(self, place: Path) -> World:
        shutil.copytree(self.place, place)
        return replace(self, place=place)

    def run(self, deed: Deed, fatal: int = 0) -> bool:
        """Do something in a process of its own that dies before its change number ``fatal``; returns whether it did."""
        process = _FORKS.Process(target=_do, args=(self, deed, fatal))
        process.start()
        process.join(SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise AssertionError(f"{deed} does not end")
        assert process.exitcode in (0, -signal.SIGKILL), f"{deed} failed"
        return process.exitcode != 0

    def killed(self, deed: Deed) -> Iterator[World]:
        """Copies of this world in which the deed was killed before its first change, its second, and so on."""
        for step in count(1):
            with connect(self.redis_url) as redis:
                redis.flushall()
            world = self.copy(self.place.with_name(f"{self.place.name}-{deed}-{step}"))
            if not world.run(deed, step):
                return
            yield world
            shutil.rmtree(world.place)


def _do(world: World, deed: Deed, fatal: int) -> None:
    steps, studio = Steps(fatal), MortalStudio.of(world.place / "studio.json")
    studio.steps = steps
    move = Path.replace

    def mortal(path: Path, target: Path) -> Path:
        steps.one_more()
        return move(path, target)

    Path.replace = mortal  # type: ignore[method-assign, assignment]
    services = world.services(studio)
    if deed == "look":
        watch.look(services, PROJECT, watch.Watched())
    elif deed == "give up":
        finishing.give_up(services, PROJECT)
    else:
        _finish(services, steps)


def _finish(services: Services, steps: Steps) -> None:
    """Do what `tsal finish` does; the refresh before the draw is no step of it."""
    standing = finishing.advance(services, PROJECT)
    if standing is None or standing.state == "void":
        steps.begun = False
        offered = finishing.offer(services, PROJECT, EPSILON, CONFIDENCE, None, lambda *_: None)
        steps.begun = True
        finishing.begin(services, PROJECT, offered)
