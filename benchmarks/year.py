"""A project after a year: how long a look of the sidecar takes, and whether memory grows with the frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.own_process import in_own_process
from benchmarks.report import Report
from ml_backend.launch import serve
from ml_backend.launch.processes import Processes, embedded_redis

NOTE = "simulated store, Label Studio answers at once"
MEBIBYTE = 2**20


def year(report: Report, quick: bool, folder: Path) -> None:
    """Measure a million frames and 200 versions, each of which learnt 100 more answers, and 10,000 frames and 50."""
    large, small, versions, few = (3000, 1500, 10, 10) if quick else (1_000_000, 10_000, 200, 50)
    found = {}
    for frames, count in ((small, few), (large, versions)):
        found[frames] = _measured(folder / str(frames), frames, count)
        what = f"{frames:,} frames, {count} versions"
        for kind, seconds in found[frames]["sidecar"]["seconds"].items():
            report.row(f"{what}: a look, {kind}", "s", seconds, NOTE)
        for part in ("sidecar", "backend"):
            report.row(f"{what}: peak memory of the {part}", "MiB", [found[frames][part]["peak"] / MEBIBYTE], NOTE)
        sidecar, alone = found[frames]["sidecar"], f"{NOTE}; of a large project in a process of its own"
        report.row(f"{what}: the lead's page, suspects left out", "s", [sidecar["page"]], alone)
        report.row(f"{what}: peak memory of the lead's page", "MiB", [sidecar["peak of the page"] / MEBIBYTE], alone)
    looks = found[large]["sidecar"]["seconds"]
    del looks["first"]  # once after a start it lists the whole pool, as long as Label Studio takes for that
    slowest = max(max(seconds) for seconds in looks.values())
    report.bar("a look at 1,000,000 frames and 200 versions, the slowest, seconds", slowest, 2, at_least=False)
    for part in ("sidecar", "backend"):
        apart = (found[large][part]["peak"] - found[small][part]["peak"]) / MEBIBYTE
        name = f"peak memory of the {part}, 10,000 against 1,000,000 frames, MiB apart"
        report.bar(name, apart, 100, at_least=False)


def _measured(folder: Path, frames: int, versions: int) -> dict[str, Any]:
    """Write a project, and measure sidecar and backend in processes of their own."""
    in_own_process("benchmarks.year_store", folder, frames, versions)
    found = {}
    with Processes(lambda name, line: None) as processes:
        command, url = embedded_redis(folder / "redis")
        processes.start("redis", command, {})
        serve.wait_for_redis(url)
        for part in ("sidecar", "backend"):
            found[part] = json.loads(in_own_process("benchmarks.year_look", folder, frames, versions, url, part))
    return found
