"""A whole installation for a team and for faults: Label Studio on PostgreSQL, `make serve`, one project."""

from __future__ import annotations

import os
import random
import re
import secrets
import signal
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO, TypeVar

import httpx
import psutil  # type: ignore[import-untyped]

from ml_backend.errors import BackendError
from ml_backend.ingest.importer import Importer
from ml_backend.ingest.origins import Rule
from ml_backend.ingest.served import Folder
from ml_backend.launch import serve
from ml_backend.launch.clips import Clips, read_clips
from ml_backend.launch.label_studio import answers, start_studio
from ml_backend.launch.processes import SUPERVISOR_SECONDS, Child, Processes, embedded_redis, free_port, tsal
from ml_backend.phantom.clips import generate
from ml_backend.services import Services
from ml_backend.settings import Settings, load
from ml_backend.setup.label_configuration import render
from ml_backend.store.versions import Manifest
from ml_backend.studio.client import Studio
from ml_backend.studio.configuration import Configuration
from soak.postgresql import postgresql

Found = TypeVar("Found")
FRAMES_A_CLIP = 16
CLIPS_A_PATIENT = 4
LOOK_SECONDS = 0.5  # most looks ask Label Studio, and slow it down for the others
PATIENCE_SECONDS = 300.0
# The names of what `make serve` runs, and the text by which to know each process.
PROGRAMS = {
    "backend": "gunicorn",
    "worker": "ml_backend worker",
    "sidecar": "ml_backend sidecar",
    "redis": "valkey-server",
}
CSRF = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')


class SoakFailed(BackendError):
    """Something that was waited for did not come; the message ends with the last lines of the log."""


@dataclass(frozen=True)
class Line:
    """One line that a process wrote, and when by the monotonic clock."""

    at: float
    name: str
    text: str


class Log:
    """The lines of all processes, in memory and in a ``file``."""

    def __init__(self, file: TextIO) -> None:
        self._lines: list[Line] = []
        self._file = file
        self._gate = threading.Lock()

    def add(self, name: str, text: str) -> None:
        """Note a line; `Processes` calls this from the threads that read."""
        with self._gate:
            self._lines.append(Line(time.monotonic(), name, text))
            self._file.write(f"{name:8} {text}\n")
            self._file.flush()

    def since(self, at: float) -> list[Line]:
        """The lines that were written since a time."""
        with self._gate:
            return self._lines[bisect_left(self._lines, at, key=lambda line: line.at) :]

    def find(self, pattern: str, since: float) -> Line | None:
        """The first line that a regular expression is found in."""
        return next((line for line in self.since(since) if re.search(pattern, line.text)), None)

    def ours(self) -> str:
        """All lines but those of Label Studio and its database."""
        return "\n".join(
            f"{line.name:8} {line.text}" for line in self.since(0) if line.name not in ("studio", "database")
        )

    def pushes(self) -> list[tuple[float, float]]:
        """When predictions were pushed, from beginning to end, or to now."""
        found: list[tuple[float, float]] = []
        for line in self.since(0):
            if "INFO pushing " in line.text:
                found.append((line.at, time.monotonic()))
            elif found and "INFO queue in order " in line.text:
                found[-1] = (found[-1][0], line.at)
        return found

    def tail(self, count: int = 60) -> str:
        """The last lines of ours."""
        return "\n".join(self.ours().splitlines()[-count:])


@dataclass
class Running:
    """The two processes that everything else belongs to."""

    studio: Child
    serve: Child


@dataclass
class Site:
    """What runs, and a project in it; several projects share all but ``project`` and ``waiting``.

    ``services`` read the same folders and the same Redis as the processes; ``database`` are the variables with which
    Label Studio finds its database; ``clips`` are all clips with what is known of them, ``waiting`` those that are not
    imported yet, and ``importing`` is held by whoever takes some of them.
    """

    settings: Settings
    services: Services
    processes: Processes
    parts: Running
    database: Mapping[str, str]
    log: Log
    folder: Path
    project: int
    configuration: Configuration
    clips: Clips
    waiting: list[Path]
    importing: threading.RLock = field(default_factory=threading.RLock)

    def another(self, title: str) -> Site:
        """Make one more project, and give it half of the clips that wait."""
        half = len(self.waiting) // 2
        theirs, self.waiting = self.waiting[:half], self.waiting[half:]
        project = self.services.studio.create_project(title, render())
        return replace(self, project=project, waiting=theirs, importing=threading.RLock())

    # What is where

    def newest(self) -> Manifest | None:
        """The version with the highest number."""
        return self.services.versions(self.project).newest()

    def versions(self) -> list[Manifest]:
        """All versions, oldest first."""
        store = self.services.versions(self.project)
        return [store.get(name) for name in store.names()]

    def served(self) -> Manifest | None:
        """The newest version if it is active, and Label Studio serves its order; None otherwise."""
        newest = self.newest()
        order = self.services.orders(self.project).current()
        if newest is None or order is None or order.about.version != newest.version:
            return None
        if self.services.versions(self.project).active() != newest.version:
            return None
        shown = self.services.studio.project(self.project).model_version
        return newest if shown == order.about.name else None

    def wait_for(self, what: str, find: Callable[[], Found | None], look: float = LOOK_SECONDS) -> Found:
        """Ask until there is an answer; a part that does not answer just now counts as none."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            found = None
            with suppress(BackendError, OSError):
                found = find()
            if found:
                return found
            if time.monotonic() > deadline:
                raise SoakFailed(f"{what} did not come within {PATIENCE_SECONDS:.0f} s\n{self.log.tail()}")
            time.sleep(look)

    def wait_for_line(self, pattern: str, since: float) -> Line:
        """Wait until a line is written that a regular expression is found in."""
        return self.wait_for(f"the line {pattern!r}", lambda: self.log.find(pattern, since), look=0.001)

    # Doing harm

    def running(self, name: str) -> psutil.Process:
        """The process of a program of `make serve`, as soon as it runs."""

        def find() -> psutil.Process | None:
            with suppress(psutil.NoSuchProcess):
                for child in psutil.Process(self.parts.serve.process.pid).children():
                    if child.status() != psutil.STATUS_ZOMBIE and PROGRAMS[name] in " ".join(child.cmdline()):
                        return child
            return None

        return self.wait_for(f"the {name}", find)

    def family(self, name: str) -> list[psutil.Process]:
        """A program of `make serve` and all that it started."""
        process = self.running(name)
        return [process, *process.children(recursive=True)]

    def kill(self, name: str) -> float:
        """Kill a program of `make serve` and what it started; returns when they were dead. It is started again."""
        return self.kill_all(self.family(name))

    def kill_all(self, processes: list[psutil.Process]) -> float:
        """End processes as a crash would; returns when they were dead."""
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    time.sleep(0.001)
        return time.monotonic()

    @contextmanager
    def nobody_restarts(self) -> Iterator[None]:
        """Hold `make serve` still, so that what is killed stays away until the end of the block."""
        supervisor = psutil.Process(self.parts.serve.process.pid)
        supervisor.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            supervisor.send_signal(signal.SIGCONT)

    def restart_serve(self, **variables: str) -> None:
        """Stop `make serve` as people do and start it with more variables in its environment."""
        self.parts.serve.environment = {**serve.environment(self.settings), **variables}
        self.parts.serve = self.processes.restart(self.parts.serve)
        self.wait_for("the backend", lambda: answers(f"{self.settings.backend_url}/health"))

    def kill_studio(self) -> None:
        """End Label Studio as a crash would."""
        os.killpg(self.parts.studio.process.pid, signal.SIGKILL)
        self.parts.studio.process.wait()

    def start_studio(self) -> None:
        """Start Label Studio again and wait until it answers."""
        self.parts.studio = self.processes.restart(self.parts.studio)
        self.wait_for("Label Studio", lambda: answers(f"{self.settings.label_studio_url}/health"))

    # Working in it

    def importer(self) -> Importer:
        """Imports clips into the project, every frame of them."""
        root = self.folder / "files"
        return Importer(
            self.services.studio,
            self.project,
            Folder(root / "frames", root),
            data_dir=self.settings.data_dir,
            rule=Rule(self.clips.patients),
            distance=0,
            evidence=self.services.evidence_addresses,
        )

    def next_clips(self, frames: int) -> list[Path]:
        """Clips that are not imported yet, of at least ``frames`` frames."""
        count = -(-frames // FRAMES_A_CLIP)
        if len(self.waiting) < count:
            raise SoakFailed("all clips are imported: start with more frames")
        taken, self.waiting = self.waiting[:count], self.waiting[count:]
        return taken

    def frames_waiting(self) -> int:
        """Frames of the clips that are not imported yet."""
        return FRAMES_A_CLIP * len(self.waiting)

    def unlabelled(self) -> int:
        """Frames without a confirmed annotation."""
        return self.services.studio.counts(self.project).unlabelled

    def annotator(self, name: str) -> Studio:
        """Label Studio as somebody who signs up by the project's invite link."""
        url = self.settings.label_studio_url
        return Studio(url, sign_up(url, self.settings.token(), name))


def sign_up(url: str, token: str, name: str) -> str:
    """Sign up by the invite link that the owner of ``token`` sees; returns the new user's token."""
    signed = {"Authorization": f"Token {token}"}
    with httpx.Client(base_url=url, timeout=60, follow_redirects=True) as browser:
        link = browser.get("/api/invite", headers=signed).raise_for_status().json()["invite_url"]
        page = browser.get(link).raise_for_status().text
        form = CSRF.search(page)
        if form is None:
            raise SoakFailed("Label Studio's page for signing up has no form")
        fields = {"email": f"{name}@example.com", "password": secrets.token_hex(12)}
        answer = browser.post(
            link, data={"csrfmiddlewaretoken": form[1], **fields}, headers={"Referer": f"{url}{link}"}
        ).raise_for_status()
        theirs = browser.get("/api/current-user/token").json().get("token")
    if not theirs:
        raise SoakFailed(f"{name} could not sign up: {answer.url}")
    return str(theirs)


@contextmanager
def running_site(folder: Path, frames: int, *, k_max: int = 10, seed: int = 0, **fields: Any) -> Iterator[Site]:
    """Run everything with its files in ``folder`` until the block ends; ``frames`` phantom frames can be imported.

    ``fields`` are further settings. Frames come from Label Studio over HTTP, as to a backend on another machine.
    """
    patients = -(-frames // (FRAMES_A_CLIP * CLIPS_A_PATIENT))
    table = generate(folder, patients, CLIPS_A_PATIENT, FRAMES_A_CLIP, seed=seed, size=(96, 96), frames_per_second=2)
    clips = read_clips(folder / "clips", table)
    names = sorted(clips.labels)
    port = free_port()
    settings = load(
        label_studio_url=f"http://127.0.0.1:{free_port()}",
        label_studio_token=secrets.token_hex(20),
        backend_url=f"http://127.0.0.1:{port}",
        port=port,
        webhook_secret=secrets.token_hex(20),
        basic_auth_user="label-studio",
        basic_auth_password=secrets.token_hex(20),
        data_dir=folder / "data",
        backbone="efficientnet_lite0",
        epochs=1,
        minimum_steps=20,
        views=2,
        k_max=k_max,
        largest_fall=1,  # a few frames and steps prove nothing about a version
        poll_seconds=5,
        warm=True,  # else many short jobs would spend their time importing
        seed=seed,
        **fields,
    )
    configuration = Configuration.parse(render())
    redis_url = embedded_redis(settings.data_dir / "redis")[1]
    services = Services(settings.model_copy(update={"redis_url": redis_url}))
    with (
        postgresql() as (database, variables),
        (folder / "soak.log").open("a", encoding="utf-8") as file,
        Processes((log := Log(file)).add) as processes,
    ):
        processes.start("database", database, {})
        studio = start_studio(processes, settings, folder, variables)
        child = processes.start("serve", tsal("serve"), serve.environment(settings), SUPERVISOR_SECONDS)
        site = Site(
            settings,
            services,
            processes,
            Running(studio, child),
            variables,
            log,
            folder,
            0,
            configuration,
            clips,
            # Shuffled, so that every import has several patients.
            [clips.folder / name for name in random.Random(seed).sample(names, len(names))],
        )
        site.wait_for("the backend", lambda: answers(f"{settings.backend_url}/health"))
        site.project = services.studio.create_project("Soak", render())
        yield site
