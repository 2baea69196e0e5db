"""A simulated annotator, and the report on what the loop has learned from it."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
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
from ml_backend.ingest.served import picture_name, write_picture
from ml_backend.launch.clips import Clips
from ml_backend.launch.demo_state import Options
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


def unattended(
    services: Services,
    project: int,
    clips: Clips,
    tested: set[str],
    options: Options,
    processes: Processes,
) -> None:
    """Confirm batches like an annotator, wait for each version, and write the report."""
    store, orders = services.versions(project), services.orders(project)
    earlier = store.newest()
    before = earlier.version if earlier else None
    rounds: list[tuple[Manifest, Order, float]] = []
    for number in range(1, options.rounds + 1):
        in_order = _confirm_until_refreshed(services, project, clips, before, number, processes)
        manifest, after = store.newest(), orders.current()
        assert manifest is not None
        assert after is not None
        rounds.append((manifest, after, in_order))
        before = manifest.version
    evaluated = _evaluate(services, project, clips, tested, [manifest for manifest, _, _ in rounds], options)
    report = {
        "rounds": [
            _round(number, manifest, order, in_order, figures)
            for number, ((manifest, order, in_order), figures) in enumerate(zip(rounds, evaluated, strict=True), 1)
        ],
        "settings": {
            **services.settings.model_dump(
                mode="json", exclude={"label_studio_token", "webhook_secret", "basic_auth_password"}
            ),
            "held_out_clips": sorted(tested),
        },
        "versions": {
            "python": platform.python_version(),
            **{name: installed(name) for name in ("torch", "torchvision", "rq", "redis", "label-studio-sdk")},
            "label-studio": services.studio.version(),
        },
    }
    options.report.parent.mkdir(parents=True, exist_ok=True)
    options.report.write_text(json.dumps(report, indent=1), encoding="utf-8")
    print(f"report   {options.report}", flush=True)


def _round(number: int, manifest: Manifest, order: Order, in_order: float, figures: dict[str, Any]) -> dict[str, Any]:
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
        "metrics": figures["symptoms"],
        "exact_match": figures["exact_match"],
        "seconds": {
            "finetune": manifest.seconds["finetune"],
            "scoring": order.about.seconds["scoring"],
            "refresh": order.about.seconds["refresh"],
        },
    }


def _confirm_until_refreshed(
    services: Services, project: int, clips: Clips, before: str | None, number: int, processes: Processes
) -> float:
    """Confirm a batch, and another one where a fine-tune asks for more answers, until there is a version in force.

    Returns the share of the newest batch that came in the computed order.
    """
    configuration = services.configuration(services.studio.project(project).label_config)
    batch, told = services.settings.k_max, parked_now(services, project)

    def waits() -> bool:
        parked = parked_now(services, project)
        return parked is not None and parked != told

    while True:
        order = services.orders(project).current()
        assert order is not None
        in_order = _annotate(services, project, configuration, clips, order, batch)
        print(f"annotator confirmed {batch} frames of round {number}, {in_order:.0%} in order", flush=True)
        wait_until(
            lambda: _refreshed(services, project, before) or waits(),
            ROUND_SECONDS,
            f"round {number} brought no new version in force",
            processes,
        )
        if not waits():
            return in_order
        told = parked_now(services, project)


def _annotate(
    services: Services, project: int, configuration: Configuration, clips: Clips, order: Order, count: int
) -> float:
    """Answer what Label Studio serves; returns the share of frames that came in the computed order."""
    expected = order.tasks.tolist()
    in_order = 0
    for place in range(count):
        task = services.studio.next_task(project)
        if task is None:
            raise BackendError(f"Label Studio has no frame left after {place} of {count}: take fewer rounds or batches")
        in_order += place < len(expected) and task["id"] == expected[place]
        shown = [one["id"] for one in task.get("predictions", []) if one.get("model_version") == order.about.name]
        services.studio.submit(
            task["id"],
            [choices_result(clips.labels[task["data"][services.data_keys.clip]], configuration)],
            parent_prediction=shown[0] if shown else None,
        )
    return in_order / count


def _refreshed(services: Services, project: int, before: str | None) -> bool:
    """Whether there is a version after ``before``, and Label Studio serves its order unless it was held back."""
    store = services.versions(project)
    newest, order = store.newest(), services.orders(project).current()
    if newest is None or newest.version == before or order is None:
        return False
    return bool(newest.held_back) or newest.version == store.active() == order.about.version


class _Files(Fetcher):
    """Frames of test clips, which are files and never come to Label Studio."""

    def fetch(self, url: str, task: int | None = None) -> bytes:
        return Path(url).read_bytes()


def _evaluate(
    services: Services,
    project: int,
    clips: Clips,
    tested: set[str],
    manifests: Sequence[Manifest],
    options: Options,
) -> list[dict[str, Any]]:
    """Measure and tell how right each version is on the patients who never entered the project.

    A symptom counts as predicted above a probability of 0.5. Each share has its 95% interval by patient.
    """
    folder = services.settings.data_dir.parent / "held-out"
    folder.mkdir(exist_ok=True)
    frames: list[Frame] = []
    truth: list[NDArray[np.uint8]] = []
    patients: list[str] = []
    for name in sorted(tested):
        for frame in distinct(frames_of(clips.folder / name, options.every), 0):
            path = folder / picture_name(frame.picture)
            write_picture(frame.picture, path)
            frames.append(Frame(len(frames), str(path)))
            truth.append(clips.labels[name])
            patients.append(clips.patients[name])
    features = FeatureStore(folder / "features", 1_000_000_000)
    predictor = Predictor(services.settings, _Files(), features)
    labels, seed = np.array(truth, np.uint8), services.settings.seed
    results = []
    for manifest in manifests:
        scores = concatenate(list(predictor.scores(frames, manifest, services.versions(project))), labels.shape[1])
        answers, people = labels[scores.tasks], [patients[task] for task in scores.tasks]
        known = np.ones(answers.shape, np.bool_)
        symptoms = per_label(answers, scores.plain, known, manifest.label_names, people, seed)
        exact_match = figure(matches(answers, scores.plain), people, seed)
        print(f"{manifest.version}  patients kept out: exact match {exact_match}", flush=True)
        for name, measured in symptoms.items():
            print(f"{'':{len(manifest.version)}}  {name}: accuracy {measured['accuracy']}", flush=True)
        results.append(
            {
                "symptoms": {
                    name: {measure: _json(one) for measure, one in measured.items()}
                    for name, measured in symptoms.items()
                },
                "exact_match": _json(exact_match),
            }
        )
    return results


def _json(one: Figure | None) -> dict[str, Any] | None:
    return asdict(one) if one else None
