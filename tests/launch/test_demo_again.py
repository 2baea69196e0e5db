"""A demo that was stopped and is opened again, with real servers; its stages in order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest

from ml_backend.launch.label_studio_environment import installed_program
from ml_backend.phantom.clips import generate
from ml_backend.services import Services
from ml_backend.settings import load
from ml_backend.store.orders import WORDS
from ml_backend.studio.payloads import choices_result

ROOT = Path(__file__).resolve().parents[2]
BATCH = 6
SECONDS = 300


class Demo:
    """The folder of a demo of few clips, and what its Label Studio has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        generate(folder / "made", 8, clips_per_patient=1, frames_per_clip=50, seed=0, size=(256, 256))

    @property
    def state(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / "demo" / "demo.json").read_text())
        return content

    @property
    def services(self) -> Services:
        """A client of the running demo, which knows nothing but its ports and its token."""
        state = self.state
        return Services(
            load(
                label_studio_url=f"http://127.0.0.1:{state['studio_port']}",
                label_studio_token=state["token"],
                backend_url=f"http://127.0.0.1:{state['port']}",
                data_dir=self.folder / "demo" / "data",
            )
        )

    @contextmanager
    def run(self, *options: str) -> Iterator[subprocess.Popen[str]]:
        """Run `tsal demo`; what the block leaves running is ended."""
        command = [sys.executable, str(ROOT / "scripts" / "demo.py"), *options]
        command += ["--folder", str(self.folder / "demo"), "--report", str(self.folder / "report.json")]
        with (self.folder / "output").open("a") as output:
            process = subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, "TSAL_CLIP_KEY": "loop"}, stdout=output, stderr=output, text=True
            )
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
                process.wait(120)

    def wait_for(self, process: subprocess.Popen[str], what: str, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SECONDS
        while not done():
            assert process.poll() is None, self.output()
            assert time.monotonic() < deadline, f"{what} did not come: {self.output()}"
            time.sleep(0.2)

    def output(self) -> str:
        return (self.folder / "output").read_text()[-4000:]

    def answer(self, count: int) -> None:
        """Confirm frames, as an annotator who finds nothing wrong with anybody."""
        services, project = self.services, self.state["project"]
        configuration = services.configuration(services.studio.project(project).label_config)
        for _ in range(count):
            task = services.studio.next_task(project)
            assert task is not None
            labels = [1, *[0] * (len(configuration.label_names) - 1)]
            services.studio.submit(task["id"], [choices_result(np.array(labels, np.uint8), configuration)])

    def content(self) -> dict[str, Any]:
        """What must be the same after the demo was opened again."""
        services, project = self.services, self.state["project"]
        studio = services.studio
        login = {"Authorization": studio.authorization()}
        return {
            "projects": httpx.get(f"{self.services.settings.label_studio_url}/api/projects/", headers=login).json()[
                "count"
            ],
            "tasks": sorted(task.id for task in studio.tasks(project)),
            "answers": sorted(annotation.id for annotation in studio.confirmed_annotations(project)),
            "backends": [(one.id, one.url, one.state) for one in studio.backends(project)],
            "webhooks": [(one.id, one.url) for one in studio.webhooks(project)],
            "storages": studio.local_storages(project),
            "in force": studio.project(project).model_version,
            "versions": services.versions(project).names(),
        }


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    if installed_program() is None:
        pytest.skip("no Label Studio: run `make install`")
    return Demo(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def unattended(demo: Demo) -> dict[str, Any]:
    """The report of a demo that ran unattended to its end."""
    clips = ("--clips", str(demo.folder / "made" / "clips"), "--labels", str(demo.folder / "made" / "clips.csv"))
    with demo.run("--unattended", "--no-finish", "--rounds", "1", "--batch", "1", *clips) as process:
        assert process.wait(SECONDS) == 0, demo.output()
    report: dict[str, Any] = json.loads((demo.folder / "report.json").read_text())
    return report


def test_each_figure_of_the_report_has_its_interval(unattended: dict[str, Any]) -> None:
    (first,) = unattended["rounds"]
    patients = {name.split("_clip")[0] for name in unattended["settings"]["held_out_clips"]}
    accuracies = [symptom["accuracy"] for symptom in first["metrics"].values()]
    for figure in (first["exact_match"], *accuracies):
        assert 0 <= figure["low"] <= figure["value"] <= figure["high"] <= 1
        assert figure["low"] < figure["high"]
        assert figure["frames"] > figure["patients"] == len(patients)


def test_the_annotator_goes_on_where_a_fine_tune_asks_for_more(unattended: dict[str, Any]) -> None:
    # One frame has one combination of labels, and a network needs two.
    assert unattended["rounds"][0]["labelled"] > 1


def test_it_goes_on_where_it_was_stopped(demo: Demo, unattended: dict[str, Any]) -> None:
    version, labelled = (unattended["rounds"][0][name] for name in ("model_version", "labelled"))
    state = demo.state
    with demo.run("--batch", str(BATCH)) as process:
        demo.wait_for(process, "the welcome", lambda: demo.output().rstrip().endswith("Ctrl-C stops everything."))
        assert demo.state == {**state, "batch": BATCH}
        assert f"http://127.0.0.1:{state['port']} " in demo.output()
        before = demo.content()
        assert before["projects"] == len(before["backends"]) == len(before["webhooks"]) == len(before["storages"]) == 1
        assert len(before["answers"]) == labelled
        assert before["versions"] == [version]
        assert before["in force"].startswith(f"{WORDS}{version}")
        demo.answer(2)
        before = demo.content()
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0, demo.output()
    assert not [
        one for one in psutil.process_iter(["cmdline"]) if str(demo.folder) in " ".join(one.info["cmdline"] or [])
    ]

    (demo.folder / "output").write_text("")
    with demo.run() as process:
        demo.wait_for(process, "the welcome", lambda: "Ctrl-C stops everything" in demo.output())
        assert "import " not in demo.output()
        assert "change " not in demo.output()
        assert demo.content() == before
        # The two answers from before the stop count for the next version.
        demo.answer(BATCH - 2)
        versions = demo.services.versions(demo.state["project"])
        demo.wait_for(process, "the second version", lambda: len(versions.names()) == 2)
        newest = versions.newest()
        assert newest is not None
        assert newest.parent == version
        assert len(newest.seen) == labelled + BATCH
