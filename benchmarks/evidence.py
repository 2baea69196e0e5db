"""Measure how long annotators wait for evidence, and how much it slows other requests to the backend."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np

from benchmarks import workload
from benchmarks.backend import PICTURES, running_backend, timed, webhook
from benchmarks.report import Report
from ml_backend.frames.frame import Frame
from ml_backend.frames.predictor import Predictor
from ml_backend.msml.sketch import WIDTH
from ml_backend.services import Services
from ml_backend.store.features import FeatureStore
from ml_backend.store.grounds import Confirmed, Grounds
from ml_backend.store.orders import About, Order
from ml_backend.store.shown import Frames, Shown
from ml_backend.store.versions import Manifest
from ml_backend.tsal.likeness import Places, Scale, Trust

POOL, CONFIRMED, CLIP = 10_000, 1_000, 40
_TICKED = np.array([0, 1, 1, 0], np.uint8)


def evidence(report: Report, quick: bool, folder: Path) -> None:
    """Open each frame's evidence once, in a pool of 10,000 frames with 1,000 confirmed ones."""
    requests = 30 if quick else 200

    def prepare(services: Services) -> list[str]:
        return _prepared(services, requests * 2 + 100)

    with running_backend(folder, prepare, backbone="resnet50", weights="random") as (url, paths):
        with httpx.Client(base_url=url, timeout=60) as client:
            first = timed(client, "GET", paths.pop())
            report.row("evidence of the first frame after a start", "ms", [first])
            alone = [timed(client, "GET", paths.pop()) for _ in range(requests)]
        p95 = report.row(f"evidence of a cached frame, p95 of {requests}", "ms", [float(np.percentile(alone, 95))])
        report.bar("evidence of a cached frame, p95, ms", p95, 300, at_least=False)
        with workload.training(folder / "busy"), httpx.Client(base_url=url, timeout=60) as client:
            busy = [timed(client, "GET", paths.pop()) for _ in range(requests)]
            slow = report.row("the same while a fine-tune runs", "ms", [float(np.percentile(busy, 95))])
            report.bar("evidence of a cached frame while a fine-tune runs, p95, ms", slow, 300, at_least=False)
            report.row("/webhook while it trains, p99", "ms", [_webhooks(client, requests)])
            slowed = _webhooks_meanwhile(client, url, paths, requests)
        report.row("/webhook while it trains and 4 open evidence, p99", "ms", [slowed])
        report.bar("/webhook p99 while a fine-tune runs and 4 annotators open evidence, ms", slowed, 50, at_least=False)


def _prepared(services: Services, cached: int) -> list[str]:
    """Make a version, an order and a cache of ``cached`` frames; return the paths of these frames' evidence."""
    settings, root = services.settings, services.settings.document_root
    assert root is not None
    contents = [(root / f"{number}.jpg").read_bytes() for number in range(PICTURES)]
    features = FeatureStore(settings.data_dir / "features", int(settings.cache_gigabytes * 1e9))
    predictor = Predictor(settings, workload.Files(contents), features)
    manifest = workload.version(services.versions(1), predictor.network(len(workload.NAMES)), settings)
    urls = [f"/data/local-files/?d={number % PICTURES}.jpg&frame={number}" for number in range(POOL + CONFIRMED)]
    workload.fill(predictor, features, [Frame(number, url) for number, url in enumerate(urls[:cached])], 1)
    _order(services, manifest, urls)
    addresses = services.evidence_addresses
    return [urlsplit(addresses.of(1, url)).path for url in urls[:cached]]


def _order(services: Services, manifest: Manifest, urls: list[str]) -> None:
    """Save a served order and the data behind it."""
    rng = np.random.default_rng(0)
    name = f"{manifest.version}.1"
    about = About(
        name=name, version=manifest.version, strategy="cover", created_at="", seed=0, unreadable={}, seconds={}
    )
    clips = np.arange(len(urls)) // CLIP
    embeddings = rng.standard_normal((CONFIRMED, WIDTH)).astype(np.float16)
    places = Places(embeddings, clips[POOL:], (np.arange(POOL, len(urls)) % CLIP) / 2)
    truth = workload.labels(CONFIRMED, 0)
    grounds = Grounds(
        order=name,
        version=manifest.version,
        symptoms=workload.NAMES,
        frames=Frames.of([Shown(row, url, f"clip {clips[row]}", (row % CLIP) / 2) for row, url in enumerate(urls)]),
        labels=np.tile(_TICKED, (POOL, 1)),
        confidence=np.full(POOL, 0.8, np.float32),
        source=np.zeros(POOL, np.int8),
        blind=frozenset(),
        confirmed=Confirmed(
            np.arange(POOL, len(urls)),
            truth,
            np.ones_like(truth, bool),
            ["Ada Lovelace"] * CONFIRMED,
            ["2026-11-12T10:00:00Z"] * CONFIRMED,
            places,
        ),
        scale=Scale.of(embeddings),
        trust=Trust(0.5, 0.5),
    )
    orders = services.orders(1)
    orders.save(Order(about, np.arange(POOL), np.zeros(POOL)))
    services.grounds(1).save(grounds)
    orders.activate(name)


def _webhooks_meanwhile(client: httpx.Client, url: str, paths: list[str], requests: int) -> float:
    """Return the p99 of webhooks, in milliseconds, while four annotators keep opening pictures."""
    stop = threading.Event()

    def open_pictures(place: int) -> None:
        with httpx.Client(base_url=url, timeout=60) as own:
            while not stop.is_set():
                for path in paths[place::4]:
                    own.get(path)
                    if stop.is_set():
                        break

    with ThreadPoolExecutor(4) as pool:
        for place in range(4):
            pool.submit(open_pictures, place)
        try:
            return _webhooks(client, requests)
        finally:
            stop.set()


def _webhooks(client: httpx.Client, requests: int) -> float:
    """Send webhooks and return the p99 of their times, in milliseconds."""
    return float(np.percentile([webhook(client, number) for number in range(1, requests + 1)], 99))
