"""Score a pool of cached frames in this process and print the peak of its anonymous memory, in bytes."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from benchmarks import workload
from ml_backend.frames.predictor import Predictor
from ml_backend.frames.scores import concatenate
from ml_backend.settings import load
from ml_backend.store.features import FeatureStore
from ml_backend.store.versions import VersionStore


def main(count: int, folder: Path) -> None:
    """Score ``count`` frames; records are left in ``folder`` for the next call."""
    settings = load(backbone="resnet50", weights="random", data_dir=folder)
    features = FeatureStore(folder / "features", 40_000_000_000)
    predictor = Predictor(settings, workload.Files(workload.pictures(16, 0)), features)
    network = predictor.network(len(workload.NAMES))
    pool = workload.frames(count, "pool")
    workload.fill(predictor, features, pool, 1)
    store = VersionStore(folder / "project")
    manifest = workload.version(store, network, settings)
    peak, process = 0, psutil.Process()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.02):
            used = process.memory_info()
            peak = max(peak, used.rss - used.shared)

    watcher = threading.Thread(target=watch)
    watcher.start()
    concatenate(list(predictor.scores(pool, manifest, store)), len(workload.NAMES))
    done.set()
    watcher.join()
    print(peak)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
