"""Push an order to a real Label Studio on SQLite, the scoring left out."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import httpx
import numpy as np

from benchmarks import workload
from benchmarks.report import Report
from ml_backend.frames.frame import Frame
from ml_backend.frames.scores import Scores
from ml_backend.loop import order as ordering
from ml_backend.loop import score as scoring
from ml_backend.msml.sketch import WIDTH
from ml_backend.services import Services
from ml_backend.setup.label_configuration import render
from ml_backend.tsal.acquisition import margin


def push(report: Report, quick: bool, folder: Path) -> None:
    """A new order to a real Label Studio on SQLite; the plain way is one call a task."""
    count = 100 if quick else 10_000
    seconds, requests, single = _measured(folder, count)
    report.row(f"pushing a new order of {count:,} tasks", "s", [seconds])
    report.row("requests for it", "", [float(requests)])
    report.row("one prediction by a call of its own", "s", single)
    report.row(f"{count:,} predictions one by one", "s", [statistics.median(single) * count], "scaled")
    report.bar("pushing a new order, 10,000 tasks on SQLite, seconds", seconds, 30, at_least=False)
    report.bar("pushing a new order, requests", float(requests), 60, at_least=False)


def _measured(folder: Path, count: int) -> tuple[float, int, list[float]]:
    """Import ``count`` tasks into a fresh project and push two orders.

    Returns the seconds and the number of requests of the second, and the seconds of some predictions sent one by one.
    """
    with workload.running_studio(folder) as services:
        project = services.studio.create_project("push", render())
        services.studio.import_tasks(
            project, [{"image": f"/data/local-files/?d=frames/{number:032x}.png"} for number in range(count)]
        )
        workload.version(services.versions(project), services.predictor.network(4), services.settings, project)
        requests: list[httpx.Request] = []
        single = []
        original = vars(ordering)["score"]
        vars(ordering)["score"] = _random_scores  # the scoring is not what is timed
        try:
            ordering.refresh(services, project, lambda *_: None)
            hooks = services.studio._calls._session.event_hooks
            services.studio._calls._session.event_hooks = {**hooks, "request": [requests.append]}
            started = time.perf_counter()
            ordering.refresh(services, project, lambda *_: None)
            seconds, sent = time.perf_counter() - started, len(requests)
        finally:
            vars(ordering)["score"] = original
        tasks = [task.id for task, _ in zip(services.studio.tasks(project), range(20), strict=False)]
        headers = {"Authorization": services.studio.authorization()}
        with httpx.Client(base_url=services.settings.label_studio_url, headers=headers, timeout=60) as client:
            for task in tasks:
                body = {"task": task, "model_version": "one-by-one", "score": 0.5, "result": []}
                started = time.perf_counter()
                client.post("/api/predictions/", json=body).raise_for_status()
                single.append(time.perf_counter() - started)
    return seconds, sent, single


def _random_scores(
    services: Services, project: int, frames: list[Frame], *_: object
) -> tuple[Scores, scoring.Embeddings]:
    rng = np.random.default_rng(0)
    tasks = np.array([frame.task for frame in frames], np.int64)
    probabilities = rng.random((len(frames), 4), dtype=np.float32)
    labels = (probabilities > 0.5).astype(np.uint8)
    scores = Scores(
        tasks,
        probabilities,
        labels,
        rng.random(len(frames)),
        labels,
        margin(probabilities),
    )
    return scores, scoring.Embeddings(
        tasks, rng.standard_normal((len(frames), WIDTH), np.float32).astype(np.float16), {}
    )
