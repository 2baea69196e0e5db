"""How long a newcomer waits for `make demo`: until there is a frame to label, and until frames come with ticks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from benchmarks.releases import ROOT, Release, release_0_1_0, this_release
from benchmarks.report import Report
from ml_backend.ingest.clip_table import read_clip_table
from ml_backend.launch.label_studio import EMAIL, PASSWORD
from ml_backend.launch.label_studio_environment import program
from ml_backend.launch.processes import SUPERVISOR_SECONDS, Processes, free_port
from ml_backend.store.orders import NAME
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.payloads import choices_result

ANSWERS = 20
WAIT_SECONDS = 900.0
LAST_WORDS = 20  # lines of its log
LEAD_TIME = 3.0
FIRST = "until a person can label the first frame"
TICKED = f"from {ANSWERS} answers until the first ticked frame"
BARS = {FIRST: 45, TICKED: 25}


def demo(report: Report, quick: bool, folder: Path) -> None:
    """Start each release's demo in a folder of its own, answer 20 frames as a person would, and wait for ticks."""
    if quick:
        print("  skipped in a quick run: it takes more than a minute, and a test runs a demo too", flush=True)
        return
    earlier = release_0_1_0(folder / "0.1.0")
    found = {
        release.name: _measured(release, folder / f"demo-{release.name}")
        for release in (earlier, this_release())
        if release
    }
    for what, bar in BARS.items():
        for name, seconds in found.items():
            report.row(f"{name}: demo, {what}", "s", [seconds[what]])
        before = found.get("0.1.0", {}).get(what)
        report.bar(f"demo, {what}, seconds", found["now"][what], bar, at_least=False, earlier=before)


def _measured(release: Release, folder: Path) -> dict[str, float]:
    started = time.monotonic()
    with _running(release, folder) as running:
        running.until(lambda: running.served() is not None and running.next() is not None)
        found = {FIRST: time.monotonic() - started}
        for _ in range(ANSWERS):
            running.answer()
        answered = time.monotonic()
        running.until(running.ticked)
        found[TICKED] = time.monotonic() - answered
    return found


@contextmanager
def _running(release: Release, folder: Path) -> Iterator[Running]:
    """Run a release's demo; it is ended with the block."""
    _label_studio_beside(release)
    folder.mkdir(parents=True)
    port = free_port()
    command = release.server("demo", "--folder", str(folder / "demo"), "--port", str(port))
    environment = dict(release.environment)
    with (folder / "log").open("w") as log, Processes(lambda *line: print(*line, file=log, flush=True)) as processes:
        processes.start("demo", command, environment, SUPERVISOR_SECONDS)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/", timeout=60) as client:
            yield Running(client, folder / "demo", folder / "log", lambda: bool(processes.ended()))


@dataclass
class Running:
    """A running demo, asked through the API of its Label Studio."""

    studio: httpx.Client
    folder: Path
    log: Path
    ended: Callable[[], bool]
    project: int | None = None

    def until(self, done: Callable[[], bool]) -> None:
        """Wait until something holds; while Label Studio does not answer, nothing does."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                if done():
                    return
            except (httpx.HTTPError, FileNotFoundError, IndexError, KeyError):
                pass
            if self.ended() or time.monotonic() > deadline:
                last = "\n".join(self.log.read_text(encoding="utf-8").splitlines()[-LAST_WORDS:])
                raise TimeoutError(f"the demo ended, or what was waited for did not come. It said last:\n{last}")
            time.sleep(0.1)

    def served(self) -> str | None:
        """The name of the order that is served, None before the first."""
        if "sessionid" not in self.studio.cookies:
            self._log_in()
        project = self._call("GET", "projects/")["results"][0]
        self.project = int(project["id"])
        found = str(project["model_version"] or "")
        return found if NAME.match(found) else None

    def next(self) -> dict[str, Any] | None:
        """The frame that Label Studio gives next."""
        found: dict[str, Any] = self._call("GET", f"projects/{self.project}/next")
        return found if "id" in found else None

    def answer(self) -> None:
        """Answer the next frame with what its clip shows."""
        task = self.next()
        assert task is not None
        result = [choices_result(self._truth(task), self._configuration())]
        self._call("POST", f"tasks/{task['id']}/annotations/", json={"result": result, "lead_time": LEAD_TIME})

    def ticked(self) -> bool:
        """Whether the next frame comes with a tick, or a version rightly ticks nothing."""
        order, task = self.served(), self.next()
        if order is None or task is None:
            return False
        shown = [one for one in task.get("predictions", ()) if one["model_version"] == order]
        ticks = any(part["value"].get("choices") for one in shown for part in one["result"])
        return ticks or (bool(shown) and "msml-" in order and not self._truth(task).any())

    def _configuration(self) -> Configuration:
        return Configuration.parse(self._call("GET", f"projects/{self.project}/")["label_config"])

    def _truth(self, task: dict[str, Any]) -> NDArray[np.uint8]:
        """The labels of a frame's clip."""
        rows = read_clip_table(self.folder / "phantom" / "clips.csv", self._configuration().label_names).rows
        (labels,) = (row.labels for row in rows if row.file == task["data"]["clip"])
        return np.array(labels, np.uint8)

    def _log_in(self) -> None:
        """Log in as a person does, with what the demo prints."""
        self.studio.get("user/login/").raise_for_status()
        form = {"email": EMAIL, "password": PASSWORD, "csrfmiddlewaretoken": self.studio.cookies["csrftoken"]}
        self.studio.post("user/login/", data=form)
        self.studio.headers["X-CSRFToken"] = self.studio.cookies["csrftoken"]

    def _call(self, method: str, path: str, **more: Any) -> Any:
        return self.studio.request(method, f"api/{path}", **more).raise_for_status().json()


def _label_studio_beside(release: Release) -> None:
    """Let a release that is unpacked elsewhere find this clone's Label Studio, as after `make install`."""
    place = release.folder / ".venv-label-studio"
    if release.folder != ROOT and not place.exists():
        place.symlink_to(program(print).parents[1], target_is_directory=True)
