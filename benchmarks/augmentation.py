"""A bank of augmented views, against augmentation on the fly and none."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from benchmarks import workload
from benchmarks.report import Report
from ml_backend.msml import finetune
from ml_backend.msml import frames as msml_frames
from ml_backend.msml.build import build as build_network
from ml_backend.settings import load
from ml_backend.tsal import metrics
from ml_backend.tsal.split import held_out


def augmentation(report: Report, quick: bool, folder: Path) -> None:
    """Compare a bank of views with augmentation on the fly and none, by exact match on patients never trained on."""
    clips = workload.ROOT.parent / "shared" / "data" / "pocus"
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
