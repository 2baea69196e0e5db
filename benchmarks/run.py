"""Every speed claim of this project, each against the plain way it replaces, side by side in one run.

The plain way is what a backend usually does: the whole network for every frame every time, one frame or one API call at
a time. Where the plain way would take hours it is measured on fewer frames and scaled; the row says so.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import timeit
from collections.abc import Callable
from datetime import datetime, timezone
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rq import Worker

from benchmarks import (
    evidence,
    importing,
    large_pools,
    lead_page,
    memory_refresh,
    serving,
    studio_push,
    whole_loop,
    workload,
)
from benchmarks.own_process import in_own_process
from benchmarks.report import Report
from ml_backend.frames.frame import Frame
from ml_backend.frames.predictor import Predictor
from ml_backend.frames.scores import concatenate
from ml_backend.launch import serve
from ml_backend.launch.label_studio import wait_until
from ml_backend.launch.processes import Processes, embedded_redis, tsal
from ml_backend.loop import score as scoring
from ml_backend.msml import backbones, finetune
from ml_backend.msml import frames as msml_frames
from ml_backend.msml.network import Network, Precision, Tail
from ml_backend.msml.network import build as build_network
from ml_backend.services import Services
from ml_backend.settings import load
from ml_backend.store.features import FeatureStore
from ml_backend.store.versions import VersionStore
from ml_backend.tsal import metrics
from ml_backend.tsal.acquisition import score
from ml_backend.tsal.batch import candidates, diverse
from ml_backend.tsal.correlation import build
from ml_backend.tsal.split import held_out

ROOT = Path(__file__).resolve().parents[1]
GFLOP_A_FRAME = 8.2  # ResNet50 at 224 x 224, a multiplication and an addition counted as two
WAIT_SECONDS = 120.0
POOL = 6836  # frames, as many as the paper's data set


def main() -> int:
    """Run the benchmarks, print a table and write `runs/bench.json`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help="few frames: shows that it runs, its figures mean little")
    parser.add_argument("--only", nargs="*", help="names of the parts to run")
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "bench.json")
    options = parser.parse_args()
    report = Report()
    parts: dict[str, Callable[[Report, bool, Path], None]] = {
        "selection": selection,
        "large-pool": large_pools.large_pool,
        "core-set": large_pools.against_core_set,
        "augmentation": augmentation,
        "network": network_parts,
        "memory": memory,
        "workers": workers,
        "serving": serving.serving,
        "evidence": evidence.evidence,
        "lead-page": lead_page.lead_page,
        "push": push,
        "first-pass": memory_refresh.first_pass,
        "refresh": memory_refresh.refresh,
        "import": importing.importing,
        "whole-loop": whole_loop.whole_loop,
    }
    for name, part in parts.items():
        if options.only and name not in options.only:
            continue
        print(f"\n{name}", flush=True)
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            part(report, options.quick, Path(folder))
        print(f"{name} took {time.perf_counter() - began:.0f} s", flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(_result(report, options.quick), indent=1), encoding="utf-8")
    print(f"\nwritten: {options.output}")
    return 0


def selection(report: Report, quick: bool, folder: Path) -> None:
    """Strategies and the nearest row of the table on 1,000,000 frames of 4 symptoms, a diverse batch of 100,000."""
    count = 50_000 if quick else 1_000_000
    rng = np.random.default_rng(0)
    probabilities = rng.random((count, 4), dtype=np.float32)
    table = build((rng.random((500, 4)) < 0.5).astype(np.uint8), rng.random((500, 4)))
    slowest = 0.0
    for strategy in ("mlm", "lc", "mle", "binmin"):
        seconds = _repeat(lambda strategy=strategy: score(probabilities, strategy, rng).argsort(kind="stable"), 5)  # type: ignore[misc]
        slowest = max(slowest, report.row(f"{strategy}: order of {count:,}", "s", seconds))
    nearest = report.row(f"nearest table row of {count:,}", "s", _repeat(lambda: table.nearest(probabilities), 3))
    pool, clips = probabilities[: count // 10], np.arange(count // 10) // 50

    def diverse_batch() -> None:
        scores = score(pool, "mlm-diverse", rng)
        rows = candidates(scores, 100)
        features = rng.random((len(rows), 2048), dtype=np.float32)  # the product reads those of the candidates only
        diverse(scores[rows], features, clips[rows], np.zeros(len(rows)), 100, rng)

    batch = report.row(f"mlm-diverse: 100 of {len(pool):,}", "s", _repeat(diverse_batch, 3))
    report.bar("select 100 of 1,000,000 x 4, slowest strategy, seconds", slowest, 0.5, at_least=False)
    report.bar("nearest table row of 1,000,000 frames, seconds", nearest, 1.0, at_least=False)
    report.bar("diverse batch of 100 from 100,000 frames, seconds", batch, 20, at_least=False)


def network_parts(report: Report, quick: bool, folder: Path) -> None:
    """First pass, rescoring and a whole iteration with ResNet50, cached against uncached, in float32 and bfloat16."""
    contents = workload.pictures(16 if quick else 64, 0)
    precisions: tuple[Precision, ...] = ("float32", "bfloat16") if _has_bfloat16() else ("float32",)
    rescoring = {
        precision: OnePrecision(report, quick, folder / precision, contents, precision).measure()
        for precision in precisions
    }
    plain = rescoring["float32"][0]
    precision, (_, cached) = rescoring.popitem()
    name = f"rescoring {POOL:,} frames, cached in {precision} as the product does against the plain float32 network"
    report.bar(name, plain / cached, 20, at_least=True)


class OnePrecision:
    """The network in one precision, with a pool to rescore: each step keeps its rows in the report."""

    def __init__(self, report: Report, quick: bool, folder: Path, contents: list[bytes], precision: Precision) -> None:
        self.report, self.quick, self.precision, self.contents = report, quick, precision, contents
        self.times = 1 if quick else 3
        self.settings = load(backbone="resnet50", weights="random", precision=precision, data_dir=folder)
        self.features = FeatureStore(folder / "features", 40_000_000_000)
        self.predictor = Predictor(self.settings, workload.Files(contents), self.features)
        self.network = self.predictor.network(4)
        self.plain = _as_the_library_has_it(precision)
        self.plain_frames = 16 if quick else 128
        self.pool = workload.frames(64 if quick else POOL, "pool")
        self.store = VersionStore(folder / "project")

    def measure(self) -> tuple[float, float]:
        """Take every step; returns the seconds of rescoring the pool, uncached and cached."""
        self.first_pass()
        frame = self.whole_network()
        cached, plain = self.rescoring(), frame * len(self.pool)
        name = f"rescoring {POOL:,} frames, cached against uncached, both in {self.precision}"
        self.report.bar(name, plain / cached, 20, at_least=True)
        gain = self.uncached_iteration(frame) / self.cached_iteration()
        name = f"one whole iteration, cached against uncached, both in {self.precision}"
        self.report.bar(name, gain, 10, at_least=True)
        return plain, cached

    def row(self, what: str, unit: str, values: list[float], note: str = "") -> float:
        """Keep a measurement of this precision; returns its median."""
        return self.report.row(f"{self.precision}: {what}", unit, values, note)

    def first_pass(self) -> None:
        """Fetch, decode, trunk, quantise, store; against what the machine's matrix products allow."""
        ceiling = self.row("matrix products", "GFLOP/s", _matrix_rate(self.precision, self.quick)) / GFLOP_A_FRAME
        count, numbers = 32 if self.quick else 256, itertools.count()
        list(self.predictor.activations(workload.frames(16, "warm"), 4))
        seconds = _repeat(
            lambda: list(self.predictor.activations(workload.frames(count, f"first-{next(numbers)}"), 4)), self.times
        )
        speed = self.row("first pass", "frames/s", [count / one for one in seconds])
        name = f"first pass against the matrix-product rate, {self.precision}"
        self.report.bar(name, speed / ceiling, 0.85, at_least=True)

    def whole_network(self) -> float:
        """The plain way: the library's whole network, each frame decoded each time; returns the seconds of a frame."""

        def whole() -> None:
            for start in range(0, self.plain_frames, 32):
                batch = self.pixels(range(start, min(start + 32, self.plain_frames)))
                self.plain.probabilities(self.plain.activations(batch))

        milliseconds = [1000 * one / self.plain_frames for one in _repeat(whole, self.times)]
        return self.row("whole network, a frame", "ms", milliseconds) / 1000

    def pixels(self, numbers: range) -> NDArray[np.uint8]:
        """Frames decoded anew."""
        return np.stack([msml_frames.decode(self.contents[number % len(self.contents)]) for number in numbers])

    def rescoring(self) -> float:
        """Score the pool from the cache; returns the seconds."""
        workload.fill(self.predictor, self.features, self.pool, 1)
        self.manifest = workload.version(self.store, self.network, self.settings)
        seconds = _repeat(lambda: list(self.predictor.scores(self.pool, self.manifest, self.store)), self.times)
        return self.row(f"rescore {len(self.pool):,} frames from the cache", "s", seconds)

    @property
    def iteration(self) -> tuple[int, int, int]:
        """Of one iteration: labelled frames, those among them that are new, epochs."""
        return (16, 4, 1) if self.quick else (1000, 100, 10)

    def cached_iteration(self) -> float:
        """Fine-tune, renew the table, rescore the pool and order it, as the product does; returns the seconds."""
        count, new, epochs = self.iteration
        labelled, views = workload.frames(count, "labelled"), self.settings.views
        workload.fill(self.predictor, self.features, labelled[new:], views)
        list(self.predictor.activations(labelled[:new], 4))  # they were scored before anybody confirmed them
        truth, trainee = workload.labels(count, 3), self.predictor.fresh(4)

        def iteration() -> None:
            chunks = list(self.predictor.activations(labelled, 4, views))
            readable = [frame for chunk in chunks for frame in chunk.frames]
            bank = self.predictor.bank(readable, [digest for chunk in chunks for digest in chunk.digests], 4)
            finetune.finetune(trainee, bank.sample, truth, epochs=epochs, minimum_steps=0)
            build(truth, np.concatenate([trainee.probabilities(chunk.activations) for chunk in chunks]))
            scores = concatenate(list(self.predictor.scores(self.pool, self.manifest, self.store)), 4)
            score(scores.probabilities, "mlm", np.random.default_rng(0)).argsort(kind="stable")

        return self.row("one iteration, cached", "s", _repeat(iteration, 1))

    def uncached_iteration(self, frame: float) -> float:
        """The same with the whole network, scaled from some training steps and ``frame`` seconds for each frame."""
        count, _, epochs = self.iteration
        steps, truth = 2 if self.quick else 6, workload.labels(32, 4)
        sample = finetune.from_frames(self.plain, self.pixels(range(32)))
        seconds = _repeat(lambda: finetune.finetune(self.plain, sample, truth, epochs=steps, minimum_steps=0), 1)
        step = self.row("a training step of 32 frames, whole network", "s", [one / steps for one in seconds])
        whole = step * epochs * count / 32 + frame * (count + len(self.pool))
        note = f"scaled from {steps} training steps and {self.plain_frames} frames"
        return self.row("one iteration, uncached", "s", [whole], note)


def _as_the_library_has_it(precision: Precision) -> Network:
    """ResNet50 with random weights, untouched: no normalisation folded into the convolutions before it."""
    backbone, trunk, body = backbones.load("resnet50", backbones.RANDOM)
    return Network(backbone, trunk, Tail(body, backbone.features, 4), precision).to(memory_format=torch.channels_last)


def augmentation(report: Report, quick: bool, folder: Path) -> None:
    """A bank of views against augmentation on the fly and none at all: exact match on patients never trained on."""
    clips = ROOT.parent / "shared" / "data" / "pocus"
    if not clips.is_dir():
        print(f"  skipped: {clips} is not there", flush=True)
        return
    pixels, truth, patients = workload.labelled_frames(clips, every=16 if quick else 2)
    network = build_network("efficientnet_lite0", truth.shape[1])
    start = network.trainable_state()
    steps = 2 if quick else 100
    banks = {
        views: np.stack([network.activations(msml_frames.views(one, views, bytes([views]))) for one in pixels])
        for views in (1, load().views)
    }
    ways: dict[str, tuple[list[float], list[float]]] = {}
    for seed in range(1 if quick else 3):
        held = held_out(patients, 0.3, seed)
        rows = np.flatnonzero(~held)
        samples = {
            "no augmentation": finetune.from_bank(banks[1][rows]),
            f"bank of {load().views} views": finetune.from_bank(banks[load().views][rows]),
            "on the fly": finetune.from_frames(network, pixels[rows]),
        }
        for way, sample in samples.items():
            network.load_trainable_state(start)
            started = time.perf_counter()
            finetune.finetune(network, sample, truth[rows], epochs=1, minimum_steps=steps, seed=seed)
            seconds = time.perf_counter() - started
            plain = (network.probabilities(banks[1][held][:, 0]) > 0.5).astype(np.uint8)
            kept = ways.setdefault(way, ([], []))
            kept[0].append(metrics.exact_match(truth[held], plain) or 0.0)
            kept[1].append(seconds)
    for way, (exact, taken) in ways.items():
        report.row(
            f"{way}: exact match on other patients, {len(exact)} splits", "", exact, f"mean {np.mean(exact):.3f}"
        )
        report.row(f"{way}: fine-tune of {steps} steps", "s", taken)


def memory(report: Report, quick: bool, folder: Path) -> None:
    """Anonymous memory of a scorer for small and large pools, each in a process of its own."""
    small, large = (50, 100) if quick else (1000, 50_000)
    peaks = {}
    for count in (small, large):
        output = in_own_process("benchmarks.scorer_memory", count, folder)
        peaks[count] = report.row(f"anonymous memory scoring {count:,} frames", "MiB", [float(output) / 2**20])
    report.bar(
        "anonymous memory of the scorer, 1,000 against 50,000 frames, MiB apart",
        abs(peaks[large] - peaks[small]),
        100,
        at_least=False,
    )


def workers(report: Report, quick: bool, folder: Path) -> None:
    """The first pass of a pool by one and by two RQ workers of one thread each; the results must be the same."""
    count = 16 if quick else 1536
    contents = workload.pictures(16, 1)
    root = folder / "files"
    root.mkdir()
    for number in range(count):
        # Each frame needs content of its own, or the cache would know it; a JPEG file may have any bytes after its end.
        (root / f"{number}.jpg").write_bytes(contents[number % len(contents)] + number.to_bytes(4, "big"))
    results = {}
    for number in (1, 2):
        data = folder / f"data{number}"
        command, url = embedded_redis(folder / f"redis{number}")
        common = {
            "label_studio_token": "0" * 40,
            "document_root": root,
            "backbone": "resnet50",
            "weights": "random",
            "compute_threads": 1,
        }
        settings = load(**common, data_dir=data, redis_url=url, scoring_workers=number)
        with Processes(lambda name, line: None) as processes:
            processes.start("redis", command, {})
            serve.wait_for_redis(url)
            helpers = number if number > 1 else 0
            for place in range(helpers):
                processes.start(f"worker{place}", tsal("worker"), serve.environment(settings))
            services = Services(settings)
            network = services.predictor.network(4)
            manifest = workload.version(services.versions(1), network, settings)
            queue = services.queue(scoring.QUEUE)
            wait_until(
                lambda: Worker.count(queue=queue) >= helpers,  # noqa: B023  it is waited for here
                WAIT_SECONDS,
                "the workers do not run",
                processes,
            )
            pool = [Frame(place, f"/data/local-files/?d={place}.jpg") for place in range(count)]
            started = time.perf_counter()
            results[number], _ = scoring.score(services, 1, pool, manifest, lambda *_: None)
            report.row(f"first pass of {count} frames, {number} worker(s)", "s", [time.perf_counter() - started])
    difference = float(np.abs(results[1].probabilities - results[2].probabilities).max())
    report.row("largest difference of a probability between 1 and 2 workers", "", [difference])


def push(report: Report, quick: bool, folder: Path) -> None:
    """A new order to a real Label Studio on SQLite; the plain way is one call a task."""
    count = 100 if quick else 10_000
    seconds, requests, single = studio_push.measure(folder, count)
    report.row(f"pushing a new order of {count:,} tasks", "s", [seconds])
    report.row("requests for it", "", [float(requests)])
    report.row("one prediction by a call of its own", "s", single)
    report.row(f"{count:,} predictions one by one", "s", [statistics.median(single) * count], "scaled")
    report.bar("pushing a new order, 10,000 tasks on SQLite, seconds", seconds, 30, at_least=False)
    report.bar("pushing a new order, requests", float(requests), 60, at_least=False)


def _repeat(call: Callable[[], Any], times: int) -> list[float]:
    return timeit.repeat(call, number=1, repeat=times)


def _matrix_rate(precision: str, quick: bool) -> list[float]:
    """GFLOP/s of large matrix products."""
    size = 1024 if quick else 2048
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
    first, second = torch.randn(size, size).to(kind), torch.randn(size, size).to(kind)
    first @ second
    return [2 * size**3 / one / 1e9 for one in _repeat(lambda: first @ second, 5 if quick else 15)]


def _has_bfloat16() -> bool:
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def _result(report: Report, quick: bool) -> dict[str, Any]:
    return {
        "quick": quick,
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "platform": platform.platform()},
        "versions": {
            "python": platform.python_version(),
            **{name: installed(name) for name in ("torch", "numpy")},
        },
        "measured": report.measured,
        "bars": report.bars,
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


if __name__ == "__main__":
    sys.exit(main())
