"""Run the whole system with a real Label Studio, for end-to-end tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
from numpy.typing import NDArray

from ml_backend.ingest.importer import Importer
from ml_backend.ingest.origins import Rule
from ml_backend.ingest.served import Folder
from ml_backend.launch import serve
from ml_backend.launch.clips import read_clips
from ml_backend.launch.label_studio import answers
from ml_backend.launch.processes import Child, Processes
from ml_backend.loop import jobs
from ml_backend.phantom.clips import generate
from ml_backend.services import Services
from ml_backend.setup.connect import connect
from ml_backend.store.orders import Order
from ml_backend.store.versions import Manifest
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.payloads import choices_result
from tests.installation import connected_settings
from tests.studio_server import StudioServer

SECONDS = 300
Found = TypeVar("Found")


@dataclass
class Stack:
    """All running services, one project, and what each stage passes to the next."""

    services: Services
    processes: Processes
    children: dict[str, Child]
    studio: httpx.Client
    project: int
    configuration: Configuration
    clips: Path
    truth: dict[str, NDArray[np.uint8]]
    log: list[str]
    server: StudioServer
    skipped: set[int] = field(default_factory=set)

    def wait_for(self, what: str, find: Callable[[], Found | None]) -> Found:
        """Call ``find`` until it finds something. On a timeout, fail with the logs of all services."""
        deadline = time.monotonic() + SECONDS
        while not (found := find()):
            assert time.monotonic() < deadline, self.story(f"{what} did not come")
            ended = [child.name for child in self.processes.ended() if self.children.get(child.name) is child]
            assert not ended, self.story(f"{ended} ended while waiting for {what}")
            time.sleep(0.1)
        return found

    def story(self, what: str) -> str:
        studio = self.server.log.read_text(errors="replace")[-3000:]
        return "\n".join([what, "--- Label Studio", studio, "--- the others", *self.log[-80:]])

    def order(self, version: str | None) -> Order:
        """Wait until Label Studio serves an order of this version, and return the order."""

        def served() -> Order | None:
            order = self.services.orders(self.project).current()
            return order if order is not None and order.about.version == version else None

        return self.wait_for(f"the order of {version}", served)

    def version(self, after: Manifest | None) -> Manifest:
        """Wait until the version that follows ``after`` is active, and return it."""
        store = self.services.versions(self.project)

        def active() -> Manifest | None:
            newest = store.newest()
            fresh = newest is not None and newest.number == (after.number if after else 0) + 1
            return newest if fresh and newest is not None and store.active() == newest.version else None

        return self.wait_for(f"the version after {after.version if after else 'nothing'}", active)

    def newest(self) -> Manifest:
        newest = self.services.versions(self.project).newest()
        assert newest is not None
        return newest

    def current(self) -> Order:
        order = self.services.orders(self.project).current()
        assert order is not None
        return order

    def pool(self) -> set[int]:
        return {task.id for task in self.services.studio.tasks(self.project, only_unlabelled=True)}

    def next_task(self) -> dict[str, Any]:
        task = self.services.studio.next_task(self.project)
        assert task is not None
        return task

    def confirm(self, task: dict[str, Any]) -> int:
        """Submit the true labels, based on the prediction that was shown."""
        result = choices_result(self.truth[task["data"]["clip"]], self.configuration)
        (shown,) = task["predictions"]
        return self.services.studio.submit(task["id"], [result], parent_prediction=shown["id"])

    def confirm_next(self, count: int) -> list[int]:
        """Confirm the next ``count`` frames in the order they are served, and return their tasks."""
        tasks = []
        for _ in range(count):
            task = self.next_task()
            self.confirm(task)
            tasks.append(task)
        return [task["id"] for task in tasks]

    def expected(self, count: int) -> list[int]:
        """Return the next tasks in the served order, without those that we skipped: they do not come back to us."""
        left = self.pool() - self.skipped
        return [task for task in self.current().tasks.tolist() if task in left][:count]

    def jobs_waiting(self) -> int:
        return len(jobs.queue(self.services))

    def stop(self, name: str) -> None:
        self.children[name].process.terminate()
        self.children[name].process.wait()

    def restart(self, name: str, **environment: str) -> None:
        child = self.children[name]
        child.environment = {**child.environment, **environment}
        self.children[name] = self.processes.restart(child)

    def bring(self, clips: str) -> None:
        """Import the clips whose names match."""
        settings = self.services.settings
        assert settings.document_root is not None
        importer = Importer(
            self.services.studio,
            self.project,
            Folder(settings.document_root / f"project-{self.project}", settings.document_root),
            data_dir=settings.data_dir,
            rule=Rule({clip: clip[:11] for clip in self.truth}),
            distance=0,
            evidence=self.services.evidence_addresses,
        )
        assert importer.run(sorted(self.clips.glob(clips))).imported


@contextmanager
def running_stack(server: StudioServer, folder: Path, xml: str, clips: str, **changes: object) -> Iterator[Stack]:
    """Run all services with their files below ``folder`` and a connected project of phantom frames.

    ``xml`` is the labelling configuration; ``clips`` is a pattern for the names of the clips to import at the start.
    """
    table = generate(folder, 4, clips_per_patient=2, frames_per_clip=8, seed=3, size=(128, 128), frames_per_second=2)
    with running_services(server, folder, xml, **changes) as made:
        made.truth.update(read_clips(folder / "clips", table).labels)
        made.bring(clips)
        connect(made.services, made.project, made.log.append)
        yield made


@contextmanager
def running_services(server: StudioServer, folder: Path, xml: str, **changes: object) -> Iterator[Stack]:
    """Run all services with their files below ``folder`` and a project without frames, which is not connected."""
    quick = {"epochs": 1, "minimum_steps": 8, "views": 2, "largest_fall": 1, "warm": True}  # fast, not accurate
    settings = connected_settings(server, folder, **(quick | changes))
    log: list[str] = []
    headers = {"Authorization": f"Token {server.token}"}
    with (
        Processes(lambda name, line: log.append(f"{name:8} {line}")) as processes,
        httpx.Client(base_url=server.url, headers=headers, timeout=60) as studio,
    ):
        children = serve.start(processes, settings)
        # This process uses the same Redis as the others.
        services = Services(settings.model_copy(update={"redis_url": children["worker"].environment["TSAL_REDIS_URL"]}))
        made = Stack(
            services,
            processes,
            children,
            studio,
            services.studio.create_project("The loop", xml),
            Configuration.parse(xml),
            folder / "clips",
            {},
            log,
            server,
        )
        made.wait_for("the backend", lambda: answers(f"{settings.backend_url}/health"))
        yield made
