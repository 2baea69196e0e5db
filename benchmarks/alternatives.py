"""What a user would pick instead: the ML-backend examples' way to predict, and the pool loop of scikit-activeml."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import workload
from benchmarks.large_pools import made_up
from benchmarks.network import as_the_library_has_it
from benchmarks.report import Report
from benchmarks.timing import repeat
from ml_backend.frames.predictor import Predictor
from ml_backend.msml import frames as msml_frames
from ml_backend.settings import load
from ml_backend.store.features import FeatureStore
from ml_backend.store.versions import VersionStore
from ml_backend.tsal.cover import cover
from ml_backend.tsal.likeness import Places, Scale
from ml_backend.tsal.memory import TRUSTS, Nearest

BATCH, COMBINATIONS = 100, 9


def alternatives(report: Report, quick: bool, folder: Path) -> None:
    """Measure both on the same frames as ours, in the same run."""
    _a_request_a_task(report, quick, folder / "network")
    for count in (2000,) if quick else (10_000, 100_000):
        _pool_loop(report, made_up(folder / f"vectors-{count}", count), 2 if quick else 4)


def _a_request_a_task(report: Report, quick: bool, folder: Path) -> None:
    """Predict each frame as the examples do, alone and by the whole network; ours from the first pass on."""
    count = 16 if quick else 256
    contents = workload.pictures(16, 0)
    settings = load(backbone="resnet50", weights="random", data_dir=folder)
    predictor = Predictor(settings, workload.Files(contents), FeatureStore(folder / "features", 4_000_000_000))
    store, pool = VersionStore(folder / "project"), workload.frames(count, "pool")
    manifest = workload.version(store, predictor.network(len(workload.NAMES)), settings)
    plain = as_the_library_has_it("float32")

    def one_by_one() -> None:
        for number in range(count):
            pixels = msml_frames.decode(contents[number % len(contents)])[None]
            plain.probabilities(plain.activations(pixels))

    def ours() -> None:
        list(predictor.scores(pool, manifest, store))

    what, times = f"{count} frames, ResNet50", 1 if quick else 3
    note = "HTTP left out"
    theirs = report.row(f"a request a task, the whole network: {what}", "s", repeat(one_by_one, times), note)
    first = report.row(f"ours, the first time: {what}", "s", repeat(ours, 1), note)
    again = report.row(f"ours, each version after that: {what}", "s", repeat(ours, times), note)
    report.row("a request a task against ours, the first time", "times", [theirs / first])
    report.row("a request a task against ours, each version after that", "times", [theirs / again])


def _pool_loop(report: Report, pool: Places, rounds: int) -> None:
    """Learn 100 answers and choose 100 frames, round after round."""
    scale = Scale.of(pool.embeddings)
    truth = pool.clips % COMBINATIONS
    begun = np.sort(np.random.default_rng(0).choice(len(pool), BATCH, replace=False))
    theirs = _scikit_activeml(scale.units(pool.embeddings), truth, begun, rounds)
    ours = _memory(pool, scale, truth, begun, rounds)
    slow = report.row(f"scikit-activeml: fit and query {BATCH} of {len(pool):,}, a round", "s", theirs)
    fast = report.row(f"memory and cover: learn and choose {BATCH} of {len(pool):,}, a round", "s", ours)
    report.row(f"scikit-activeml's round against ours, {len(pool):,} frames", "times", [slow / fast])


def _scikit_activeml(
    directions: NDArray[np.float32], truth: NDArray[np.intp], begun: NDArray[np.intp], rounds: int
) -> list[float]:
    """Seconds of each round: a logistic regression on what is answered, margin sampling for the next batch."""
    from skactiveml.classifier import SklearnClassifier  # only here: the other parts run without it
    from skactiveml.pool import UncertaintySampling
    from sklearn.linear_model import LogisticRegression

    answers = np.full(len(truth), -1)
    asked = begun
    model = SklearnClassifier(
        LogisticRegression(max_iter=1000), classes=range(COMBINATIONS), missing_label=-1, random_state=0
    )
    strategy = UncertaintySampling(method="margin_sampling", missing_label=-1, random_state=0)

    def one() -> None:
        nonlocal asked
        answers[asked] = truth[asked]
        asked = strategy.query(directions, answers, model, fit_clf=True, batch_size=BATCH)

    return repeat(one, rounds)


def _memory(pool: Places, scale: Scale, truth: NDArray[np.intp], begun: NDArray[np.intp], rounds: int) -> list[float]:
    """Seconds of each round: the memory learns what is answered, cover chooses the next batch."""
    nearest, asked = Nearest(len(pool)), begun
    open_ = np.setdiff1d(np.arange(len(pool)), begun)

    def one() -> None:
        nonlocal asked, open_
        nearest.add(pool, pool[asked], truth[asked], scale, TRUSTS[0])
        asked = cover(pool, nearest.similarity, open_, BATCH, scale, TRUSTS[0], np.random.default_rng(0))
        open_ = np.setdiff1d(open_, asked)

    return repeat(one, rounds)
