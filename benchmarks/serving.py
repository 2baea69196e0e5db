"""Latencies of the real server: predictions, webhooks and health checks, alone and under load."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np

from benchmarks import workload
from benchmarks.backend import PICTURES, predict_body, running_backend, timed, webhook
from benchmarks.report import Report
from ml_backend.services import Services


def serving(report: Report, quick: bool, folder: Path) -> None:
    """Latencies of the real server: `/predict` of a cached frame alone; `/webhook` and `/health` under load."""
    requests = 30 if quick else 300
    with running_backend(folder, _prepare, backbone="resnet50", weights="random") as (url, _):
        _predict_alone(report, url, requests)
        _while_it_trains(report, url, requests, folder)


def _prepare(services: Services) -> None:
    workload.version(services.versions(1), services.predictor.network(4), services.settings)


def _predict_alone(report: Report, url: str, requests: int) -> None:
    with httpx.Client(base_url=url, timeout=60) as client:
        for number in range(PICTURES):
            client.post("/predict", json=predict_body(number)).raise_for_status()
        alone = [timed(client, "POST", "/predict", predict_body(number)) for number in range(requests)]
    p95 = report.row(f"/predict of one cached frame, p95 of {requests}", "ms", [float(np.percentile(alone, 95))])
    report.bar("/predict of one task whose frame is cached, p95, ms", p95, 60, at_least=False)


def _while_it_trains(report: Report, url: str, requests: int, folder: Path) -> None:
    """Webhooks and health checks while a fine-tune runs beside the server and four clients predict."""
    stop = threading.Event()
    webhooks: list[float] = []
    healths: list[float] = []
    with (
        workload.training(folder / "busy"),
        ThreadPoolExecutor(4) as pool,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        clients = [pool.submit(_predict_until, stop, url, place) for place in range(4)]
        try:
            time.sleep(1)
            for number in range(1, requests + 1):
                webhooks.append(webhook(client, number))
                healths.append(timed(client, "GET", "/health"))
        finally:
            stop.set()
        predictions = sum(one.result() for one in clients)
    answered = report.row(f"/webhook under load, p99 of {requests}", "ms", [float(np.percentile(webhooks, 99))])
    health = report.row(f"/health under load, p99 of {requests}", "ms", [float(np.percentile(healths, 99))])
    report.row("predictions answered meanwhile", "", [float(predictions)])
    report.bar("/webhook p99 while a fine-tune runs and 4 clients predict, ms", answered, 50, at_least=False)
    report.bar("/health p99, same load, ms", health, 100, at_least=False)


def _predict_until(stop: threading.Event, url: str, place: int) -> int:
    """Ask for one prediction after the other; returns how many were answered."""
    done = 0
    with httpx.Client(base_url=url, timeout=60) as client:
        while not stop.is_set():
            client.post("/predict", json=predict_body(place + 4 * done)).raise_for_status()
            done += 1
    return done
