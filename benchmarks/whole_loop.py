"""What annotators wait for, and the memory it takes: a whole installation on a real Label Studio on SQLite."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.loop import Size, running
from benchmarks.releases import Release, release_0_1_0, this_release
from benchmarks.report import Report

STARTS, BATCHES = 3, 2
SIZE = Size(6836, 1000, 100, 25)
HALF = Size(3418, 500, 100, 25)


def with_lite0(report: Report, quick: bool, folder: Path) -> None:
    """Measure this release and 0.1.0 with EfficientNet-Lite0, one after the other."""
    _whole_loop(report, quick, folder, "efficientnet_lite0", SIZE, 0.5, 30.0)


def with_resnet50(report: Report, quick: bool, folder: Path) -> None:
    """Measure both with ResNet50 and random weights, on half as many frames to save time."""
    _whole_loop(report, quick, folder, "resnet50", HALF, 0.6, None)


def _whole_loop(
    report: Report, quick: bool, folder: Path, backbone: str, size: Size, share: float, seconds: float | None
) -> None:
    if quick:
        print("  skipped in a quick run: it takes minutes, and tests run whole installations too", flush=True)
        return
    earlier = release_0_1_0(folder / "0.1.0")
    found = {
        release.name: _measured(report, release, backbone, size, folder / f"loop-{release.name}")
        for release in (earlier, this_release())
        if release
    }
    _bars(report, backbone, found, share, seconds)


def _bars(report: Report, backbone: str, found: dict[str, Found], share: float, seconds: float | None) -> None:
    now, before = found["now"], found.get("0.1.0")

    def bar(name: str, field: str, most: float) -> None:
        earlier = getattr(before, field) if before else None
        report.bar(name, getattr(now, field), most, at_least=False, earlier=earlier)

    if before:
        ratio = now.retrained / before.retrained
        report.bar(f"{backbone}: last confirmation until the new order, against 0.1.0", ratio, share, at_least=False)
    if seconds:
        bar(f"{backbone}: last confirmation until the new order, seconds", "retrained", seconds)
        bar("memory of the three parts, idle, MB", "idle", 1000)
        bar("memory of the three parts, at work, MB", "peak", 2000)
        assert now.remembered is not None
        bar("25th confirmation until its neighbours' ticks are right, seconds", "remembered", 15)
    bar(f"{backbone}: `tsal serve` until healthy, seconds", "healthy", 5)


@dataclass(frozen=True)
class Found:
    """Figures of one release: seconds, and megabytes of resident memory summed over the three parts."""

    healthy: float
    retrained: float
    remembered: float | None
    idle: float
    peak: float


def _measured(report: Report, release: Release, backbone: str, size: Size, folder: Path) -> Found:
    """Run a release on a project of its own."""
    what = f"{release.name}, {backbone}"
    with running(release, backbone, size, folder) as loop:
        # A first start fills caches of the operating system; the second is what a restart costs.
        healthy = report.row(f"{what}: `serve` until healthy", "s", [loop.restart() for _ in range(STARTS)])
        report.row(f"{what}: first version and its order, {size.frames:,} frames", "s", [loop.first_version()])
        remembered = None
        if release.remembers:
            name = f"{what}: last of {size.refresh} confirmations until the memory's new order serves"
            remembered = report.row(name, "s", [loop.remember()])
        retrained = report.row(
            f"{what}: last confirmation of a batch until the new order serves",
            "s",
            [loop.retrain() for _ in range(BATCHES)],
        )
        loop.settle()
        idle, shared = loop.memory.now(), loop.memory.now(shared_once=True)
        report.row(f"{what}: memory, idle", "MB", [sum(idle.values())], _by_part(idle))
        report.row(f"{what}: memory, idle, shared pages counted once", "MB", [sum(shared.values())], _by_part(shared))
        peak = report.row(f"{what}: memory, most at work", "MB", [loop.memory.peak])
        once = [loop.memory.peak_shared_once]
        report.row(f"{what}: memory, most at work, shared pages counted once", "MB", once)
    return Found(healthy, retrained, remembered, sum(idle.values()), peak)


def _by_part(memory: dict[str, float]) -> str:
    return ", ".join(f"{part} {megabytes:.0f}" for part, megabytes in memory.items())
