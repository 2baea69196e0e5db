"""Every speed claim of this project, each against the plain way it replaces, side by side in one run.

The plain way is what a backend usually does: the whole network for every frame every time, one frame or one API call at
a time. Where the plain way would take hours it is measured on fewer frames and scaled; the row says so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import torch

from benchmarks import (
    alternatives,
    augmentation,
    command,
    demo,
    evidence,
    growth,
    importing,
    large_pools,
    lead_page,
    memory_refresh,
    network,
    roofline,
    scoring,
    selection,
    serving,
    studio_push,
    whole_loop,
    year,
)
from benchmarks.report import Report
from ml_backend.store.files import write_aside

ROOT = Path(__file__).resolve().parents[1]
PARTS: dict[str, Callable[[Report, bool, Path], None]] = {
    "selection": selection.selection,
    "large-pool": large_pools.large_pool,
    "core-set": large_pools.against_core_set,
    "augmentation": augmentation.augmentation,
    "network": network.network_parts,
    "roofline": roofline.roofline,
    "memory": scoring.memory,
    "workers": scoring.workers,
    "serving": serving.serving,
    "evidence": evidence.evidence,
    "lead-page": lead_page.lead_page,
    "push": studio_push.push,
    "first-pass": memory_refresh.first_pass,
    "refresh": memory_refresh.refresh,
    "import": importing.importing,
    "command": command.command,
    "alternatives": alternatives.alternatives,
    "year": year.year,
    "growth": growth.growth,
    "demo": demo.demo,
    "whole-loop": whole_loop.with_lite0,
    "whole-loop-resnet50": whole_loop.with_resnet50,
}


def main() -> int:
    """Run the benchmarks, print a table and write `runs/bench.json`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="few frames: only shows that it runs; the figures mean little"
    )
    parser.add_argument(
        "--only", nargs="*", help="parts to run; other parts keep the figures of earlier runs, even on another machine"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "bench.json")
    options = parser.parse_args()
    chosen = [name for name in PARTS if not options.only or name in options.only]
    report = _begun(options.output, options.quick, set(PARTS) - set(chosen))
    for name in chosen:
        report.part = name
        print(f"\n{name}", flush=True)
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            PARTS[name](report, options.quick, Path(folder))
        print(f"{name} took {time.perf_counter() - began:.0f} s", flush=True)
        ended = datetime.now(timezone.utc).isoformat(timespec="seconds")
        report.parts[name] = {"ended": ended, "machine": _machine(), "versions": _versions()}
        report.sort(list(PARTS))
        write_aside(options.output, json.dumps(_result(report, options.quick), indent=1))  # after each: it takes long
    print(f"\nwritten: {options.output}")
    return 0


def _begun(path: Path, quick: bool, others: set[str]) -> Report:
    """Start a report with the figures of the ``others``, if earlier runs of this kind have left them."""
    report = Report()
    earlier = json.loads(path.read_text(encoding="utf-8")) if others and path.exists() else {}
    if earlier.get("quick") == quick:
        report.parts = {
            part: circumstances for part, circumstances in earlier.get("parts", {}).items() if part in others
        }
        report.measured = [row for row in earlier["measured"] if row["part"] in report.parts]
        report.bars = [row for row in earlier["bars"] if row["part"] in report.parts]
    return report


def _result(report: Report, quick: bool) -> dict[str, Any]:
    return {"quick": quick, "parts": report.parts, "measured": report.measured, "bars": report.bars}


def _machine() -> dict[str, Any]:
    instructions = torch.backends.cpu.get_cpu_capability()
    return {"processor": _processor(), "instructions": instructions, "cores": os.cpu_count()}


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: installed(name) for name in ("torch", "numpy")}}


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


if __name__ == "__main__":
    sys.exit(main())
