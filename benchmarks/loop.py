"""A release at work on a real Label Studio on SQLite, used as a team uses it."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks import workload
from benchmarks.part_memory import PartMemory
from benchmarks.releases import Release
from ml_backend.launch.label_studio import answers, start_studio
from ml_backend.launch.processes import SUPERVISOR_SECONDS, Child, Processes, free_port
from ml_backend.settings import load
from ml_backend.setup.label_configuration import render
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.payloads import choices_result

CLIP, CLIPS_A_PATIENT = 50, 3
PICTURES = 64
PIECE = 1000  # tasks of one import
QUIET_SECONDS = 12.0
LOOK_SECONDS = 1.0  # each look at a project costs Label Studio a tenth of a second
WAIT_SECONDS = 1800.0
LOCKED_SECONDS = 300.0
Answers = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Size:
    """How large a project is: its frames, those annotated at the start, answers of a batch and of a refresh."""

    frames: int
    labelled: int
    batch: int
    refresh: int


@contextmanager
def running(release: Release, backbone: str, size: Size, folder: Path) -> Iterator[Loop]:
    """Run Label Studio with a project of made-up frames; the release beside it is started by the loop."""
    files = folder / "files"
    files.mkdir(parents=True)
    port, token = free_port(), secrets.token_hex(20)
    settings = load(label_studio_url=f"http://127.0.0.1:{free_port()}", label_studio_token=token)
    variables = {
        "TSAL_LABEL_STUDIO_URL": settings.label_studio_url,
        "TSAL_LABEL_STUDIO_TOKEN": token,
        "TSAL_BACKEND_URL": f"http://127.0.0.1:{port}",
        "TSAL_PORT": str(port),
        "TSAL_DATA_DIR": str(folder / "data"),
        "TSAL_DOCUMENT_ROOT": str(files),
        "TSAL_BACKBONE": backbone,
        "TSAL_K_MAX": str(size.batch),
        **({"TSAL_WEIGHTS": "random"} if backbone == "resnet50" else {}),
        **({"TSAL_REFRESH": str(size.refresh)} if release.remembers else {}),
        **release.environment,
    }
    with (folder / "log").open("w") as log, Processes(lambda *line: print(*line, file=log, flush=True)) as processes:
        start_studio(processes, settings, folder)
        headers = {"Authorization": f"Token {token}"}
        with httpx.Client(base_url=f"{settings.label_studio_url}/api/", headers=headers, timeout=300) as client:
            project, answers_of = _project(client, files, size)
            loop = Loop(release, processes, client, variables, project, answers_of, size)
            try:
                yield loop
            finally:
                loop.memory.stop()


@dataclass
class Loop:
    """A running release with its project; some answers of a batch are ``confirmed``."""

    release: Release
    processes: Processes
    studio: httpx.Client
    variables: dict[str, str]
    project: int
    answers: Answers
    size: Size
    confirmed: int = 0
    serving: Child | None = None
    memory: PartMemory = field(default_factory=PartMemory)

    def restart(self) -> float:
        """Start the release, after ending it where it runs; returns the seconds until it says that it is healthy."""
        if self.serving is not None:
            self.processes.end(self.serving)
        started = time.monotonic()
        self.serving = self.processes.start("serve", self.release.server("serve"), self.variables, SUPERVISOR_SECONDS)
        self.memory.watch(self.serving.process.pid)
        self._until(lambda: answers(f"{self.variables['TSAL_BACKEND_URL']}/health"), 0.05)
        return time.monotonic() - started

    def first_version(self) -> float:
        """Connect the project and ask for its first version; returns the seconds until its order serves."""
        started = time.monotonic()
        command = self.release.script("connect", "--project", str(self.project))
        subprocess.run(command, env=os.environ | self.variables, check=True, capture_output=True)  # noqa: S603
        httpx.post(
            f"{self.variables['TSAL_BACKEND_URL']}/webhook",
            params={"project": self.project},
            json={"action": "START_TRAINING", "project": {"id": self.project}},
            timeout=60,
        ).raise_for_status()
        self._until(lambda: self._version() == "msml-0001")
        return time.monotonic() - started

    def remember(self) -> float:
        """Confirm what makes the memory learn; returns the seconds from the last confirmation to the new order."""
        self.settle()
        before = self._served()
        self.confirm(self.size.refresh)
        return self._seconds_until(lambda: self._served() != before)

    def retrain(self) -> float:
        """Complete a batch; returns the seconds from its last confirmation until the order of its version serves."""
        before = self._version()
        self.confirm(self.size.batch - self.confirmed - 1)
        self.settle()
        self.confirm(1)
        self.confirmed = 0
        return self._seconds_until(lambda: self._version() != before)

    def confirm(self, count: int) -> None:
        """Answer what Label Studio asks next, as it is."""
        for _ in range(count):
            task = self._call("GET", f"projects/{self.project}/next")
            answer = {"result": self.answers[_file(task)], "lead_time": 3.0}
            self._call("POST", f"tasks/{task['id']}/annotations/", json=answer)
        self.confirmed += count

    def settle(self) -> None:
        """Wait until the order that serves has not changed for some time."""
        last, since = self._served(), time.monotonic()
        while time.monotonic() - since < QUIET_SECONDS:
            time.sleep(LOOK_SECONDS)
            now = self._served()
            if now != last:
                last, since = now, time.monotonic()

    def _served(self) -> str:
        return str(self._call("GET", f"projects/{self.project}/")["model_version"])

    def _version(self) -> str | None:
        found = re.search(r"msml-\d+", self._served())
        return found[0] if found else None

    def _seconds_until(self, done: Callable[[], bool]) -> float:
        started = time.monotonic()
        self._until(done)
        return time.monotonic() - started

    def _until(self, done: Callable[[], bool], look: float = LOOK_SECONDS) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not done():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.release.name}: what was waited for did not come")
            time.sleep(look)

    def _call(self, method: str, path: str, **more: Any) -> Any:
        """Ask Label Studio, and try again while it answers 500: removing old predictions locks SQLite."""
        deadline = time.monotonic() + LOCKED_SECONDS
        while True:
            answer = self.studio.request(method, path, **more)
            if answer.status_code != httpx.codes.INTERNAL_SERVER_ERROR or time.monotonic() > deadline:
                return answer.raise_for_status().json()
            print(f"  {self.release.name}: Label Studio answers 500 to {method} {path}; asked again", flush=True)
            time.sleep(LOOK_SECONDS)


def _project(client: httpx.Client, files: Path, size: Size) -> tuple[int, Answers]:
    """Make a project with frames, some of them annotated; returns its number and what to answer of each file."""
    configuration = Configuration.parse(render())
    answer = client.post("projects/", json={"title": "Benchmark", "label_config": render()}).raise_for_status()
    project = int(answer.json()["id"])
    rng = np.random.default_rng(0)
    pictures, symptoms = workload.pictures(PICTURES, 0), len(configuration.label_names)
    labels = np.eye(symptoms, dtype=np.uint8)[rng.integers(0, symptoms, PICTURES)]
    annotated = set(rng.choice(size.frames, size.labelled, replace=False).tolist())
    answers_of: Answers = {}
    rows: list[dict[str, Any]] = []
    for number in range(size.frames):
        (clip, place), name = divmod(number, CLIP), f"{number}.jpg"
        content = workload.own_content(pictures[clip % PICTURES], number.to_bytes(4, "big"))
        (files / name).write_bytes(content)
        data = {"image": f"/data/local-files/?d={name}", "patient": f"p{clip // CLIPS_A_PATIENT}", "clip": f"c{clip}"}
        answers_of[name] = [choices_result(labels[clip % PICTURES], configuration)]
        annotations = [{"result": answers_of[name], "lead_time": 3.0}] if number in annotated else []
        rows.append({"data": data | {"time": place / 2}, "annotations": annotations})
    for start in range(0, len(rows), PIECE):
        client.post(f"projects/{project}/import", json=rows[start : start + PIECE]).raise_for_status()
    return project, answers_of


def _file(task: dict[str, Any]) -> str:
    return str(task["data"]["image"]).rsplit("=", 1)[1]
