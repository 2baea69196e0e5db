"""Measure the lead's page of a large project, and how much reloading it slows annotators' requests."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np

from benchmarks import workload
from benchmarks.backend import PICTURES, predict_body, running_backend, timed, webhook
from benchmarks.report import Report
from ml_backend.loop.pool_map import MOST
from ml_backend.services import Services
from ml_backend.store.census import Census, Entry
from ml_backend.store.overviews import (
    Agreement,
    Asked,
    Audit,
    Measure,
    Moment,
    Overview,
    Person,
    Plan,
    Standing,
    Version,
)
from ml_backend.store.pool_map import PoolMap

TASKS, VERSIONS, PEOPLE = 10_000, 100, 4
VIEWS = ("standing", "learning", "versions", "people", "again", "clips", "clip?name=clip 0", "map", "finish")
CLIP = 100  # frames of a clip, as many as a page shows
PAUSE_SECONDS = 0.5  # between two reloads of one impatient person


def lead_page(report: Report, quick: bool, folder: Path) -> None:
    """Time each view of a project of 10,000 frames and 100 versions, and `/predict` and `/webhook` meanwhile."""

    def fill(services: Services) -> None:
        _fill(services, 10 if quick else VERSIONS)

    with running_backend(folder, fill, backbone="efficientnet_lite0") as (url, _):
        _views(report, url, 3 if quick else 20)
        _annotators(report, url, 30 if quick else 300)


def _fill(services: Services, versions: int) -> None:
    """Write an overview, a census, a map, and versions that have each seen all tasks."""
    store = services.versions(1)
    first = workload.version(store, services.predictor.network(4), services.settings)
    for _ in range(versions - 1):
        store.create(first.model_copy(update={"version": "", "parent": first.version}), lambda path: path.touch())
    services.overviews(1).write(_overview(store.names()))
    services.census(1).write(_census())
    tasks = np.arange(MOST) * (TASKS // MOST)
    places = np.random.default_rng(0).random((MOST, 2), np.float32)
    services.pool_map(1).write(PoolMap(tasks, places, TASKS))


def _overview(names: list[str]) -> Overview:
    """Return an overview as large as such a project's."""
    share = Measure(value=0.8, low=0.7, high=0.9, frames=500, patients=50)
    at = "2026-01-01T12:00:00+00:00"
    return Overview(
        project=1,
        title="A large project",
        at=at,
        symptoms=workload.NAMES,
        standing=Standing(frames=TASKS, people=4000, left=6000, machine=6000, bins=(600,) * 10),
        audit=Audit(frames=500, patients=50, right=share, symptoms=dict.fromkeys(workload.NAMES, share), bias=share),
        plans=tuple(Plan(epsilon=one / 100, size=100, answers=500) for one in (1, 2, 3, 5, 10)),
        history=tuple(Moment(at=at, people=20 * one, answers=9000 - 30 * one) for one in range(200)),
        versions=tuple(
            Version(
                version=name,
                number=place + 1,
                parent=names[place - 1] if place else None,
                created_at=at,
                trained_on=40 * place,
                held_out=10,
                exact_match=share,
                exact_match_parent=share,
                stood=share,
                corrected=0.3,
            )
            for place, name in enumerate(names)
        ),
        asked=tuple(
            Asked(order=name, created_at=at, version=name, strategy="cover", reasons={"different": 60, "audit": 15})
            for name in names
        ),
        people=tuple(Person(name=f"Person {n}", answers=200, timed=200, hours=2, accepted=0) for n in range(20)),
        days={f"day {day}": day for day in range(60)},
        agreement=tuple(Agreement(symptom=name, frames=400, people=20, alpha=0.8) for name in workload.NAMES),
    )


def _census() -> Census:
    """Return a census of clips as long as a page can show, half of it answered."""
    return Census(
        frames=tuple(
            Entry(
                task=task,
                url=f"/data/local-files/?d=project-1/a-folder/frame-{task}.jpg",
                clip=f"clip {task // CLIP}",
                patient=f"patient {task // CLIP // 4}",
                time=task / 25,
                label=workload.NAMES[task // 7 % len(workload.NAMES)],
                source="person" if task % 2 else "memory",
                confidence=None if task % 2 else 0.5 + task % 50 / 100,
                reason="later",
            )
            for task in range(TASKS)
        )
    )


def _views(report: Report, url: str, times: int) -> None:
    slowest = 0.0
    with httpx.Client(base_url=url, timeout=60) as client:
        for view in VIEWS:
            client.get(f"/lead/1/{view}").raise_for_status()
            taken = [timed(client, "GET", f"/lead/1/{view}") / 1000 for _ in range(times)]
            slowest = max(slowest, report.row(f"the view {view}, {TASKS:,} frames", "s", taken))
    report.bar("the lead's page, slowest view of 10,000 frames and 100 versions, seconds", slowest, 1, at_least=False)


def _annotators(report: Report, url: str, requests: int) -> None:
    """Send predictions and webhooks as Label Studio does, while people reload the page."""
    stop = threading.Event()
    predictions: list[float] = []
    webhooks: list[float] = []
    with ThreadPoolExecutor(PEOPLE) as pool, httpx.Client(base_url=url, timeout=60) as client:
        for number in range(PICTURES):
            client.post("/predict", json=predict_body(number)).raise_for_status()
        alone = [timed(client, "POST", "/predict", predict_body(number)) for number in range(requests)]
        people = [pool.submit(_reload_until, stop, url) for _ in range(PEOPLE)]
        try:
            for number in range(1, requests + 1):
                webhooks.append(webhook(client, number))
                predictions.append(timed(client, "POST", "/predict", predict_body(number)))
        finally:
            stop.set()
        reloaded = sum(one.result() for one in people)
    report.row(
        f"/predict of one cached frame, nobody looks, p95 of {requests}", "ms", [float(np.percentile(alone, 95))]
    )
    predict = report.row(f"/predict while {PEOPLE} people reload, p95", "ms", [float(np.percentile(predictions, 95))])
    announced = report.row(f"/webhook while {PEOPLE} people reload, p99", "ms", [float(np.percentile(webhooks, 99))])
    report.row("pages shown meanwhile", "", [float(reloaded)])
    report.bar("/predict p95 while four people reload the lead's page, ms", predict, 60, at_least=False)
    report.bar("/webhook p99 while four people reload the lead's page, ms", announced, 50, at_least=False)


def _reload_until(stop: threading.Event, url: str) -> int:
    """Open two views a second, in turn; return how many were opened."""
    shown = 0
    with httpx.Client(base_url=url, timeout=60) as client:
        while not stop.is_set():
            client.get(f"/lead/1/{VIEWS[shown % len(VIEWS)]}").raise_for_status()
            shown += 1
            stop.wait(PAUSE_SECONDS)
    return shown
