"""The first pass, rescoring and a whole iteration, cached against uncached, in float32 and bfloat16."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import workload
from benchmarks.rates import has_bfloat16, matrix_rate
from benchmarks.report import Report
from benchmarks.timing import repeat
from ml_backend.frames.predictor import Predictor
from ml_backend.frames.scores import concatenate
from ml_backend.msml import backbones, finetune
from ml_backend.msml import frames as msml_frames
from ml_backend.msml.network import Network, Precision, Tail
from ml_backend.settings import load
from ml_backend.store.features import FeatureStore
from ml_backend.store.versions import VersionStore
from ml_backend.tsal.acquisition import score
from ml_backend.tsal.correlation import build

GFLOP_A_FRAME = 8.2  # ResNet50 at 224 x 224, a multiplication and an addition counted as two
POOL = 6836  # frames, as many as the paper's data set


def network_parts(report: Report, quick: bool, folder: Path) -> None:
    """First pass, rescoring and a whole iteration with ResNet50, cached against uncached, in float32 and bfloat16."""
    contents = workload.pictures(16 if quick else 64, 0)
    precisions: tuple[Precision, ...] = ("float32", "bfloat16") if has_bfloat16() else ("float32",)
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
        self.plain = as_the_library_has_it(precision)
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
        ceiling = self.row("matrix products", "GFLOP/s", matrix_rate(self.precision, self.quick)) / GFLOP_A_FRAME
        count, numbers = 32 if self.quick else 256, itertools.count()
        list(self.predictor.activations(workload.frames(16, "warm"), 4))
        seconds = repeat(
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

        milliseconds = [1000 * one / self.plain_frames for one in repeat(whole, self.times)]
        return self.row("whole network, a frame", "ms", milliseconds) / 1000

    def pixels(self, numbers: range) -> NDArray[np.uint8]:
        """Frames decoded anew."""
        return np.stack([msml_frames.decode(self.contents[number % len(self.contents)]) for number in numbers])

    def rescoring(self) -> float:
        """Score the pool from the cache; returns the seconds."""
        workload.fill(self.predictor, self.features, self.pool, 1)
        self.manifest = workload.version(self.store, self.network, self.settings)
        seconds = repeat(lambda: list(self.predictor.scores(self.pool, self.manifest, self.store)), self.times)
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

        return self.row("one iteration, cached", "s", repeat(iteration, 1))

    def uncached_iteration(self, frame: float) -> float:
        """The same with the whole network, scaled from some training steps and ``frame`` seconds for each frame."""
        count, _, epochs = self.iteration
        steps, truth = 2 if self.quick else 6, workload.labels(32, 4)
        sample = finetune.from_frames(self.plain, self.pixels(range(32)))
        seconds = repeat(lambda: finetune.finetune(self.plain, sample, truth, epochs=steps, minimum_steps=0), 1)
        step = self.row("a training step of 32 frames, whole network", "s", [one / steps for one in seconds])
        whole = step * epochs * count / 32 + frame * (count + len(self.pool))
        note = f"scaled from {steps} training steps and {self.plain_frames} frames"
        return self.row("one iteration, uncached", "s", [whole], note)


def as_the_library_has_it(precision: Precision) -> Network:
    """ResNet50 with random weights, untouched: no normalisation folded into the convolutions before it."""
    backbone, trunk, body = backbones.load("resnet50", backbones.RANDOM)
    return Network(backbone, trunk, Tail(body, backbone.features, 4), precision).to(memory_format=torch.channels_last)
