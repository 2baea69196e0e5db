"""Fine-tune on cached activations until killed, as a worker does; prints a line once it has begun."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from benchmarks import workload
from ml_backend.frames.predictor import Predictor
from ml_backend.loop.work import NICENESS
from ml_backend.msml import finetune
from ml_backend.settings import load
from ml_backend.store.features import FeatureStore


def main(folder: Path) -> None:
    """Train without end."""
    settings = load(backbone="resnet50", weights="random", data_dir=folder)
    features = FeatureStore(folder / "features", 4_000_000_000)
    predictor = Predictor(settings, workload.Files(workload.pictures(16, 0)), features)
    labelled = workload.frames(64, "labelled")
    workload.fill(predictor, features, labelled, settings.views)
    chunks = list(predictor.activations(labelled, len(workload.NAMES), settings.views))
    readable = [frame for chunk in chunks for frame in chunk.frames]
    bank = predictor.bank(readable, [digest for chunk in chunks for digest in chunk.digests], len(workload.NAMES))
    os.nice(NICENESS)  # only now, or on a busy machine it would never begin
    print("training", flush=True)
    while True:
        network = predictor.fresh(len(workload.NAMES))
        finetune.finetune(network, bank.sample, workload.labels(len(readable), 0), epochs=50)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
