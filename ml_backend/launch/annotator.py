"""A simulated annotator, and the report on what the loop has learned from it."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import BackendError
from ml_backend.frames.frame import Fetcher, Frame
from ml_backend.frames.predictor import Predictor
from ml_backend.frames.scores import concatenate
from ml_backend.ingest.duplicates import distinct
from ml_backend.ingest.files import frames_of
from ml_backend.ingest.served import write_picture
from ml_backend.ingest.storage import picture_name
from ml_backend.launch.clips import Clips
from ml_backend.launch.demo_state import Options
from ml_backend.launch.finishing import finish_pool, right_in_pool
from ml_backend.launch.label_studio import wait_until
from ml_backend.launch.processes import Processes
from ml_backend.loop.confirm import parked_now
from ml_backend.services import Services
from ml_backend.store.features import FeatureStore
from ml_backend.store.orders import Order
from ml_backend.store.versions import Manifest
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.payloads import choices_result
from ml_backend.tsal.judgement import Figure, figure, matches, per_label

ROUND_SECONDS = 600.0


@dataclass(frozen=True)
class Annotator:
    """A simulated annotator of a project; ``tested`` names the clips whose patients never enter it."""

    services: Services
    project: int
    clips: Clips
    tested: set[str]
    options: Options
    processes: Processes

    def work(self) -> None:
        """Confirm batches like an annotator, wait for each version, and write the report."""
        store, services = self.services.versions(self.project), self.services
        newest = store.newest()
        versions: list[Manifest] = []
        rounds: list[dict[str, Any]] = []
        for number in range(1, self.options.rounds + 1):
            in_order = self._confirm_until_refreshed(newest.version if newest else None, number)
            newest, order = store.newest(), services.orders(self.project).current()
            assert newest is not None
            assert order is not None
            versions.append(newest)
            rounds.append(
                _round(number, newest, order, in_order) | {"pool": right_in_pool(services, self.project, self._truth)}
            )
        finished = None
        if self.options.finish:
            finished = finish_pool(services, self.project, self._truth, self._answer_all, self._wait)
        report = {
            "rounds": [one | figures for one, figures in zip(rounds, self._evaluate(versions), strict=True)],
            "finish": finished,
            "settings": {
                **services.settings.model_dump(
                    mode="json", exclude={"label_studio_token", "webhook_secret", "basic_auth_password"}
                ),
                "held_out_clips": sorted(self.tested),
            },
            "versions": {
                "python": platform.python_version(),
                **{name: installed(name) for name in ("torch", "torchvision", "rq", "redis", "label-studio-sdk")},
                "label-studio": services.studio.version(),
            },
        }
        self.options.report.parent.mkdir(parents=True, exist_ok=True)
        self.options.report.write_text(json.dumps(report, indent=1), encoding="utf-8")
        print(f"report   {self.options.report}", flush=True)

    def _confirm_until_refreshed(self, before: str | None, number: int) -> float:
        """Confirm a batch, and another one where a fine-tune asks for more answers, until there is a version in force.

        Returns the share of the newest batch that came in the computed order.
        """
        batch, told = self.services.settings.k_max, parked_now(self.services, self.project)

        def waits() -> bool:
            parked = parked_now(self.services, self.project)
            return parked is not None and parked != told

        while True:
            in_order = self._annotate(batch)
            print(f"annotator confirmed {batch} frames of round {number}, {in_order:.0%} in order", flush=True)
            wait_until(
                lambda: self._refreshed(before) or waits(),
                ROUND_SECONDS,
                f"round {number} brought no new version in force",
                self.processes,
            )
            if not waits():
                return in_order
            told = parked_now(self.services, self.project)

    def _annotate(self, count: int) -> float:
        """Answer what Label Studio serves; returns the share of frames that came in the computed order."""
        in_order = 0
        answered: set[int] = set()
        for place in range(count):
            order = self.services.orders(self.project).current()  # another one where the memory was refreshed
            task = self.services.studio.next_task(self.project)
            if task is None or order is None:
                raise BackendError(
                    f"Label Studio has no frame left after {place} of {count}: take fewer rounds or batches"
                )
            left = (one for one in order.tasks.tolist() if one not in answered)
            in_order += task["id"] == next(left, None)
            answered.add(task["id"])
            self._answer(task)
        return in_order / count

    def _answer_all(self, tasks: Sequence[int]) -> None:
        """Answer these tasks as they are served, and no other."""
        wanted = set(tasks)
        while wanted:
            task = self.services.studio.next_task(self.project)
            if task is None or task["id"] not in wanted:
                raise BackendError(f"Label Studio serves another frame than the {len(wanted)} that are asked first")
            self._answer(task)
            wanted.discard(task["id"])

    def _answer(self, task: Mapping[str, Any]) -> None:
        """Submit the true labels of a served task, as somebody who looked at it."""
        order = self.services.orders(self.project).current()
        name = order.about.name if order else None
        shown = [one["id"] for one in task.get("predictions", []) if one.get("model_version") == name]
        self.services.studio.submit(
            task["id"],
            [choices_result(self._truth[task["id"]], self._configuration)],
            parent_prediction=shown[0] if shown else None,
        )

    @cached_property
    def _configuration(self) -> Configuration:
        return self.services.configuration(self.services.studio.project(self.project).label_config)

    @cached_property
    def _truth(self) -> dict[int, NDArray[np.uint8]]:
        """The right label combination of every task."""
        key = self.services.data_keys.clip
        return {task.id: self.clips.labels[str(task.data[key])] for task in self.services.studio.tasks(self.project)}

    def _wait(self, condition: Callable[[], bool]) -> None:
        wait_until(condition, ROUND_SECONDS, "the audit was answered and not counted", self.processes)

    def _refreshed(self, before: str | None) -> bool:
        """Whether there is a version after ``before``, and Label Studio serves its order unless it was held back."""
        store = self.services.versions(self.project)
        newest, order = store.newest(), self.services.orders(self.project).current()
        if newest is None or newest.version == before or order is None:
            return False
        return bool(newest.held_back) or newest.version == store.active() == order.about.version

    def _evaluate(self, versions: Sequence[Manifest]) -> list[dict[str, Any]]:
        """Measure and tell how right each version is on the patients who never entered the project.

        A symptom counts as predicted above a probability of 0.5. Each share has its 95% interval by patient.
        """
        settings = self.services.settings
        folder = settings.data_dir.parent / "held-out"
        folder.mkdir(exist_ok=True)
        frames: list[Frame] = []
        truth: list[NDArray[np.uint8]] = []
        patients: list[str] = []
        for name in sorted(self.tested):
            for frame in distinct(frames_of(self.clips.folder / name, self.options.every), 0):
                path = folder / picture_name(frame.picture)
                write_picture(frame.picture, path)
                frames.append(Frame(len(frames), str(path)))
                truth.append(self.clips.labels[name])
                patients.append(self.clips.patients[name])
        predictor = Predictor(settings, _Files(), FeatureStore(folder / "features", 1_000_000_000))
        labels, seed = np.array(truth, np.uint8), settings.seed
        results = []
        for version in versions:
            pieces = predictor.scores(frames, version, self.services.versions(self.project))
            scores = concatenate(list(pieces), labels.shape[1])
            answers, people = labels[scores.tasks], [patients[task] for task in scores.tasks]
            known = np.ones(answers.shape, np.bool_)
            symptoms = per_label(answers, scores.plain, known, version.label_names, people, seed)
            exact_match = figure(matches(answers, scores.plain), people, seed)
            print(f"{version.version}  patients kept out: exact match {exact_match}", flush=True)
            for name, measured in symptoms.items():
                print(f"{'':{len(version.version)}}  {name}: accuracy {measured['accuracy']}", flush=True)
            metrics = {
                name: {what: _json(one) for what, one in measured.items()} for name, measured in symptoms.items()
            }
            results.append({"metrics": metrics, "exact_match": _json(exact_match)})
        return results


def _round(number: int, manifest: Manifest, order: Order, in_order: float) -> dict[str, Any]:
    """What the report says of one round."""
    return {
        "round": number,
        "model_version": manifest.version,
        "trained_by_job": manifest.job,
        "job_started_by": manifest.trigger,
        "labelled": len(manifest.seen),
        "manual_share_plain": manifest.batch["manual_share_plain"],
        "manual_share_validated": manifest.batch["manual_share_validated"],
        "ticks": manifest.ticks,
        "judged": {name: manifest.metrics[name] for name in ("judged_on", "sample", "exact_match")},
        "served_in_order": in_order,
        "seconds": {
            "finetune": manifest.seconds["finetune"],
            "scoring": order.about.seconds["scoring"],
            "refresh": order.about.seconds.get("refresh"),  # written down after Label Studio serves the order
        },
    }


class _Files(Fetcher):
    """Frames of test clips, which are files and never come to Label Studio."""

    def fetch(self, url: str, task: int | None = None) -> bytes:
        return Path(url).read_bytes()


def _json(one: Figure | None) -> dict[str, Any] | None:
    return asdict(one) if one else None
