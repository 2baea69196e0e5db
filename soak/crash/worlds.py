"""A small installation: a folder, a Redis and a Label Studio, all of which can be restored."""

from __future__ import annotations

import logging
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
from moto.server import ThreadedMotoServer
from redis import Redis

from ml_backend.errors import RedisUnavailable
from ml_backend.launch.processes import Processes, embedded_redis
from ml_backend.services import Services
from ml_backend.settings import Settings, load
from ml_backend.store.pending import connect
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.payloads import choices_result
from soak.crash import processes
from soak.crash.deeds import BUCKET, Deed, draw
from soak.crash.processes import Blow, Ran
from soak.crash.studios import LabelStudio, StandInStudio
from soak.stand_in.project import Project
from soak.stand_in.server import running_stand_in

XML = """<View><Image name="image" value="$image"/><Choices name="symptoms" toName="image" choice="multiple">
<Choice value="Healthy"/><Choice value="A-line"/><Choice value="B-line" alias="b"/></Choices></View>"""
CONFIGURATION = Configuration.parse(XML)
COMBINATIONS = ([1, 0, 0], [0, 1, 0], [0, 1, 1])
FRAMES, PATIENTS = 18, 4
BATCH = 4
REDIS_SECONDS = 20


@dataclass(frozen=True)
class Snapshot:
    """A world as it was: the copy of its folder, the content of Redis, and the state of Label Studio."""

    folder: Path
    redis: tuple[tuple[bytes, int, bytes], ...]
    studio: object


@dataclass
class World:
    """One project of `FRAMES` frames of `PATIENTS` patients; everything lies in ``place``.

    ``annotators`` are the IDs of its users; ``changes`` are settings that differ; ``reached``: snapshots by stage;
    ``bucket``: the address of a server that speaks S3, once there is one. What is ``running`` ends with the world.
    """

    place: Path
    cache: Path
    redis_url: str
    redis: Redis
    studio: LabelStudio
    number: int = 0
    annotators: tuple[int, ...] = ()
    changes: dict[str, object] = field(default_factory=dict)
    reached: dict[str, Snapshot] = field(default_factory=dict)
    bucket: str | None = None
    running: ExitStack = field(default_factory=ExitStack)

    @property
    def settings(self) -> Settings:
        """The settings of its processes."""
        values: dict[str, object] = {
            "label_studio_url": self.studio.url,
            "label_studio_token": self.studio.token,
            "data_dir": self.place / "data",
            "document_root": self.place / "files",
            "cache_dir": self.cache,
            "redis_url": self.redis_url,
            "backbone": "efficientnet_lite0",
            "precision": "float32",
            "k_max": BATCH,
            "refresh": 2,
            "views": 2,
            "epochs": 1,
            "minimum_steps": 2,
            "audit": 0.25,
            "hold_out": 0.25,
            "largest_fall": 1,
            "compute_threads": 1,
            "keep_pushed": 1,
            "rest_seconds": 0,
        }
        return load(**(values | self.changes))

    @property
    def services(self) -> Services:
        """The stores as they are now."""
        return Services(self.settings)

    @property
    def project(self) -> Project:
        """The project in Label Studio, as it is now."""
        return self.studio.project(self.number)

    def environment(self) -> dict[str, str]:
        """The settings as a process reads them."""
        values = self.settings.model_dump(mode="json", exclude_none=True, exclude={"allowed_hosts"})
        values["label_studio_token"] = self.settings.token()
        return {f"TSAL_{name.upper()}": str(value) for name, value in values.items()}

    def run(self, deed: Deed, blow: Blow | None = None) -> Ran:
        """Do a deed in a process of its own."""
        return processes.run(deed, self.place, self.environment(), self.number, blow)

    def done(self, *deeds: Deed) -> None:
        """Do deeds that nothing interrupts."""
        for deed in deeds:
            ran = self.run(deed)
            if ran.code != 0:
                raise RuntimeError(f"{deed.__name__} failed: {ran.error}")

    # The bucket

    def open_bucket(self) -> None:
        """Have an empty bucket; if its server does not run yet, start it."""
        if self.bucket is None:
            logging.getLogger("werkzeug").setLevel(logging.WARNING)  # it would log each request
            server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
            server.start()
            self.running.callback(server.stop)
            self.bucket = "http://{}:{}".format(*server.get_host_and_port())
            self.changes = {**self.changes, "s3_endpoint": self.bucket, "s3_key": "AKIA", "s3_secret": "phantom"}
        self._empty_bucket()

    def _empty_bucket(self) -> None:
        httpx.post(f"{self.bucket}/moto-api/reset").raise_for_status()
        httpx.put(f"{self.bucket}/{BUCKET}").raise_for_status()

    def objects(self) -> set[str]:
        """The addresses of what lies in the bucket."""
        listed = httpx.get(f"{self.bucket}/{BUCKET}").raise_for_status().text
        return {f"s3://{BUCKET}/{key}" for key in re.findall("<Key>(.*?)</Key>", listed)}

    # What people do

    def clear(self) -> None:
        """Have nothing in the folder and in Redis."""
        shutil.rmtree(self.place, ignore_errors=True)
        for name in ("files", "data", "out"):
            (self.place / name).mkdir(parents=True)
        self.redis.flushall()

    def begin(self) -> None:
        """Make the project, with its frames, from nothing."""
        self.clear()
        rows = []
        for number in range(FRAMES):
            draw(self.place / "files" / f"{number}.png", number)
            clip, patient = f"clip {number // 3}", f"patient {number % PATIENTS}"
            rows.append({"image": f"/data/local-files/?d={number}.png", "clip": clip, "patient": patient})
        self.number, self.annotators = self.studio.begin("Crash", XML, rows)
        (self.place / "data" / "projects" / str(self.number)).mkdir(parents=True)

    def annotate(self, count: int) -> list[int]:
        """Let the annotators answer the next ``count`` frames of the queue; returns their tasks."""
        answered = []
        for number in range(count):
            user = self.annotators[number % len(self.annotators)]
            task = self.studio.next_task(self.number, user)
            assert task is not None
            self.answer(task, user)
            answered.append(task)
        return answered

    def answer_all(self, tasks: Sequence[int]) -> None:
        """Let an annotator answer these tasks."""
        project = self.project
        for task in tasks:
            if not project.of(task, cancelled=False):
                self.answer(task, self.annotators[0])

    def answer(self, task: int, user: int) -> None:
        """Let a user submit an answer."""
        labels = np.array(COMBINATIONS[task % len(COMBINATIONS)], np.uint8)
        shown = self.project.shown_prediction(task)
        fields = {
            "result": [choices_result(labels, CONFIGURATION)],
            "lead_time": 2.0,
            "parent_prediction": shown.id if shown else None,
        }
        self.studio.annotate(self.number, user, task, fields)

    # Going back

    def take(self, name: str) -> Snapshot:
        """Take a snapshot of everything."""
        folder = self.place.with_name(f"{self.place.name}-{name}")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.place, folder, copy_function=shutil.copy2)
        held = [(key, max(self.redis.pttl(key), 0), self.redis.dump(key)) for key in self.redis.scan_iter()]
        return Snapshot(folder, tuple((key, ttl, value) for key, ttl, value in held if value), self.studio.take(name))

    def put(self, snapshot: Snapshot) -> None:
        """Restore everything from a snapshot."""
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.copytree(snapshot.folder, self.place, copy_function=shutil.copy2)
        self.redis.flushall()
        for key, ttl, value in snapshot.redis:
            self.redis.restore(key, ttl, value, replace=True)
        self.studio.put(snapshot.studio)
        if self.bucket is not None:
            self._empty_bucket()


@contextmanager
def running_world(folder: Path, **changes: object) -> Iterator[World]:
    """Run a world below ``folder`` with its Redis and a stand-in for Label Studio until the block ends."""
    with running_stand_in() as stand_in, world_beside(StandInStudio(stand_in), folder, **changes) as world:
        yield world


@contextmanager
def world_beside(studio: LabelStudio, folder: Path, **changes: object) -> Iterator[World]:
    """Run a world below ``folder`` with its Redis, beside a Label Studio, until the block ends."""
    command, url = embedded_redis(folder / "redis")
    with Processes(lambda name, line: None) as running:
        running.start("redis", command, {})
        world = World(folder / "world", folder / "cache", url, _answering(url), studio, changes=changes)
        with world.running:
            yield world


def _answering(url: str) -> Redis:
    deadline = time.monotonic() + REDIS_SECONDS
    while True:
        try:
            return connect(url)
        except RedisUnavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
