"""What bounds the first pass: matrix products or memory in each step, and the work beside the network."""

from __future__ import annotations

import hashlib
import itertools
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

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
    steps = _steps_of(network)
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
    seconds = sum(max(one.operations / rate, one.bytes / width) for one in steps) / TRUNK_BATCH
    seconds += beside / 1000 / (os.cpu_count() or 1)
    operations, moved = (sum(figures) / TRUNK_BATCH for figures in zip(*steps, strict=True))
    note = f"{operations / 1e9:.2f} GFLOP and {moved / 1e6:.1f} MB a frame"
    bound = report.row("first pass at most, by its steps and the work beside them", "frames/s", [1 / seconds], note)
    report.bar(f"first pass against its roofline, {precision}", speed / bound, 0.9, at_least=True)


class Step(NamedTuple):
    """The cost of one step of the trunk for a batch: operations of its matrix products, and bytes read and written."""

    operations: float
    bytes: int


def _steps_of(network: Network) -> list[Step]:
    """Return the steps of the trunk as it computes: fused, where it can be."""
    images = torch.zeros(TRUNK_BATCH, 224, 224, 3, dtype=torch.uint8)
    stages, watch = network._computing_stages(), _Steps()
    with torch.no_grad(), network._autocast(network.trunk_precision), watch:
        maps = network._normalised(images)
        for stage in stages:
            maps = stage.layers(maps)
    return watch.steps


class _Steps(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the cost of each step, except those that move nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps: list[Step] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), named: dict[str, Any] | None = None
    ) -> Any:
        result = function(*arguments, **(named or {}))
        if not function.is_view:
            moved = [one for one in tree_leaves((arguments, named, result)) if isinstance(one, torch.Tensor)]
            operations = 0.0
            if "convolution" in str(function):
                packed = [one for one in moved if one.is_mkldnn]  # weights, if the step is fused
                (weights,) = packed or [arguments[1]]
                operations = 2.0 * result.numel() * weights.shape[1:].numel()
            self.steps.append(Step(operations, sum(one.numel() * one.element_size() for one in moved)))
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
