"""Embeddings in the product: what they add to the first pass, and refreshes from memory alone."""

from __future__ import annotations

import hashlib
import itertools
import time
import timeit
from collections.abc import Callable
from inspect import isgenerator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import workload
from benchmarks.large_pools import CLIP, made_up
from benchmarks.report import Report
from ml_backend.frames.addresses import Known
from ml_backend.frames.embedded import Embedder
from ml_backend.frames.frame import Frame
from ml_backend.frames.predictor import Predictor
from ml_backend.loop import order as ordering
from ml_backend.loop.queue import Refresh
from ml_backend.loop.remember import looked_at, remember
from ml_backend.services import Services
from ml_backend.settings import load
from ml_backend.setup.label_configuration import render
from ml_backend.store.embeddings import EmbeddingStore
from ml_backend.store.features import FeatureStore
from ml_backend.studio.payloads import choices_result


def first_pass(report: Report, quick: bool, folder: Path) -> None:
    """Time a first pass (fetch, decode, trunk, quantise, store) with and without embeddings, in turns."""
    count, times = (32, 1) if quick else (256, 5)
    settings = load(backbone="resnet50", weights="random", data_dir=folder)
    features = FeatureStore(folder / "features", 40_000_000_000)
    predictor = Predictor(settings, workload.Files(workload.pictures(16, 0)), features)
    embedder = Embedder(predictor.trunk, EmbeddingStore(folder / "embeddings"))
    numbers = itertools.count()
    passes: dict[str, Callable[[], Any]] = {
        "without": lambda: list(predictor.activations(_frames(count, next(numbers)), 4)),
        "with": lambda: [embedder.of(chunk) for chunk in predictor.activations(_frames(count, next(numbers)), 4)],
    }
    for one in passes.values():
        one()
    seconds: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(times):
        for name, one in passes.items():
            seconds[name].append(timeit.timeit(one, number=1))
    for name, values in seconds.items():
        report.row(f"first pass of {count} frames, {name} embeddings", "s", values)
    ratios = [one / other for one, other in zip(seconds["with"], seconds["without"], strict=True)]
    ratio = report.row("first pass with embeddings against without, pair by pair", "", ratios)
    report.bar("first pass with embeddings against without", ratio, 1.05, at_least=False)


def _frames(count: int, number: int) -> list[Frame]:
    return workload.frames(count, f"pass-{number}")


def refresh(report: Report, quick: bool, folder: Path) -> None:
    """Time a refresh from memory alone on a real Label Studio on SQLite, with and without listing and push."""
    count, confirmed = (100, 20) if quick else (6836, 1000)
    with workload.running_studio(folder, document_root=folder / "files") as services:
        project = services.studio.create_project("refresh", render())
        _fill(services, project, folder, count, confirmed)
        whole = []
        for _ in range(1 if quick else 3):
            started = time.perf_counter()
            order = ordering.refresh(services, project, _silent)
            whole.append(time.perf_counter() - started)
        assert order is not None
        assert len(order.tasks) == count - confirmed
        assert not order.about.unreadable
        services.studio = AnsweredOnce(services.studio)  # type: ignore[assignment]
        compute(services, project)
        own = timeit.repeat(lambda: compute(services, project), number=1, repeat=1 if quick else 5)
    what = f"refresh from memory alone, {count:,} frames, {confirmed:,} of them confirmed"
    report.row(f"{what}: pushing", "s", [order.about.seconds["push"]])
    alone = report.row(f"{what}: without Label Studio", "s", own)
    everything = report.row(f"{what}: with listing and push", "s", whole)
    report.bar("refresh from memory alone, 6,836 frames, compute, seconds", alone, 3, at_least=False)
    report.bar("the same with listing and push, Label Studio on SQLite, seconds", everything, 12, at_least=False)


class AnsweredOnce:
    """A Label Studio whose answer to each question is kept, so that our own work is timed afterwards."""

    def __init__(self, studio: Any) -> None:
        self._studio = studio
        self._answers: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def answer(*arguments: Any, **named: Any) -> Any:
            question = repr((name, arguments, named))
            if question not in self._answers:
                found = getattr(self._studio, name)(*arguments, **named)
                self._answers[question] = list(found) if isgenerator(found) else found
            return self._answers[question]

        return answer


def compute(services: Services, project: int) -> None:
    """What a refresh does before it pushes."""
    configuration = services.configuration(services.studio.project(project).label_config)
    tasks = services.studio.tasks(project, only_unlabelled=True)
    frames = [services.frame(task.id, task.data, configuration) for task in tasks]
    basis = ordering._basis(services, None, configuration)
    scored = ordering._scored(services, project, configuration, None, frames, _silent)
    memory = remember(services, project, configuration, looked_at(services, project, configuration), _silent)
    made = Refresh(services, project, configuration, None, None, basis, frames, scored, "benchmark", _silent, memory)
    made.order(made.queue(), 0.0)


def _fill(services: Services, project: int, folder: Path, count: int, confirmed: int) -> None:
    """Tasks with small files, a share of them annotated, and embeddings as a first pass leaves them."""
    configuration = services.configuration(services.studio.project(project).label_config)
    rng = np.random.default_rng(0)
    combinations = np.eye(len(configuration.label_names), dtype=np.uint8)
    label_of_clip = rng.integers(0, len(combinations), -(-count // CLIP))
    answered = set(rng.choice(count, confirmed, replace=False).tolist())
    rows: list[dict[str, Any]] = []
    for number in range(count):
        (folder / "files" / f"{number}").write_bytes(f"frame {number}".encode())
        clip, time_in_clip = divmod(number, CLIP)
        data = {"image": f"/data/local-files/?d={number}", "clip": f"{clip}", "time": time_in_clip / 2}
        result = choices_result(combinations[label_of_clip[clip]], configuration)
        rows.append({"data": data} | ({"annotations": [{"result": [result]}]} if number in answered else {}))
    for start in range(0, count, 1000):
        services.studio._calls.request(
            "POST", f"api/projects/{project}/import", json=rows[start : start + 1000], slow=True
        )
    predictor = services.predictor
    digests = []
    for row in rows:
        found = services.fetcher.look(row["data"]["image"])
        assert found is not None
        digests.append(hashlib.sha256(found[0]).digest())
        known = Known(digests[-1], found[1], time.time())
        predictor._features.put_many({predictor.address_key(row["data"]["image"]): known.record()})
    embedder = Embedder(predictor.trunk, services.embeddings(project))
    embedder.keep(digests, made_up(folder / "vectors", count).embeddings[:])


def _silent(stage: str, done: int, total: int) -> None:
    return None
