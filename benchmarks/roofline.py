"""What bounds the first pass: its matrix products, its passes over memory, and its work beside the network."""

from __future__ import annotations

import hashlib
import itertools
import os
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import workload
from benchmarks.rates import has_bfloat16, matrix_rate, memory_rate
from benchmarks.report import Report
from benchmarks.timing import repeat
from ml_backend.frames.predictor import Predictor
from ml_backend.msml import frames as msml_frames
from ml_backend.msml.network import TRUNK_BATCH, Network
from ml_backend.settings import load
from ml_backend.store.features import FeatureStore
from ml_backend.store.quantised import quantise


def roofline(report: Report, quick: bool, folder: Path) -> None:
    """Compare the first pass of ResNet50 with the least time that its parts take on this machine, each at its best."""
    precision = "bfloat16" if has_bfloat16() else "float32"
    times, count = (1, 32) if quick else (5, 256)
    settings = load(backbone="resnet50", weights="random", precision=precision, data_dir=folder)
    contents = workload.pictures(16, 0)
    features = FeatureStore(folder / "features", 40_000_000_000)
    predictor = Predictor(settings, workload.Files(contents), features)
    network = predictor.network(4)
    list(predictor.activations(workload.frames(16, "warm"), 4))
    operations, traffic = _work_of(network)
    numbers = itertools.count()
    speed = report.row(
        f"first pass, {precision}",
        "frames/s",
        [
            count / one
            for one in repeat(
                lambda: list(predictor.activations(workload.frames(count, f"pass-{next(numbers)}"), 4)), times
            )
        ],
    )
    rate = report.row(f"matrix products, {precision}", "GFLOP/s", matrix_rate(precision, quick)) * 1e9
    width = report.row("a pass over memory", "GB/s", memory_rate(precision, times)) * 1e9
    beside = report.row(
        "work beside the network, a frame, on one core", "ms", _beside(network, features, contents, times)
    )
    seconds = operations / rate + traffic / width + beside / 1000 / (os.cpu_count() or 1)
    note = f"{operations / 1e9:.2f} GFLOP and {traffic / 1e6:.1f} MB a frame"
    bound = report.row(
        "first pass at most, by its matrix products, memory and other work", "frames/s", [1 / seconds], note
    )
    report.bar(f"first pass against its roofline, {precision}", speed / bound, 0.9, at_least=True)


def _work_of(network: Network) -> tuple[float, float]:
    """Operations of the trunk's convolutions, and bytes that its other steps read and write, for one frame."""
    images = torch.zeros(TRUNK_BATCH, 224, 224, 3, dtype=torch.uint8)
    traffic = _Traffic()
    with torch.no_grad(), network._autocast(network.trunk_precision):
        normalised = network._normalised(images)
        with FlopCounterMode(display=False) as operations:
            network.trunk(normalised)
        with traffic:
            network.trunk(network._normalised(images))
    return operations.get_total_flops() / TRUNK_BATCH, traffic.bytes / TRUNK_BATCH


class _Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that go in and out of every step but convolutions and those that move nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), named: dict[str, Any] | None = None
    ) -> Any:
        result = function(*arguments, **(named or {}))
        if "convolution" not in str(function) and not function.is_view:
            moved = [one for one in tree_leaves((arguments, named, result)) if isinstance(one, torch.Tensor)]
            self.bytes += sum(one.numel() * one.element_size() for one in moved)
        return result


def _beside(network: Network, features: FeatureStore, contents: list[bytes], times: int) -> list[float]:
    """Milliseconds for each frame of decoding, hashing, quantising and keeping, on one core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pixels = msml_frames.decode(contents[0])
        values = network.activations(pixels[None].repeat(len(contents), 0))
        numbers = itertools.count()

        def work() -> None:
            for content in contents:
                msml_frames.views(msml_frames.decode(content), 1, hashlib.sha256(content).digest())
            records = quantise(values)
            names = [hashlib.sha256(f"beside {next(numbers)}".encode()).digest() for _ in records]
            features.put_many(dict(zip(names, records, strict=True)))

        return [1000 * one / len(contents) for one in repeat(work, times)]
    finally:
        torch.set_num_threads(threads)
