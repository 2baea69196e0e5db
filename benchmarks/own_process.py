"""Measure in a process of its own, so that its memory is measured alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def in_own_process(module: str, *arguments: object) -> str:
    """Run one of our modules in a process of its own; returns what it prints."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout  # noqa: S603


def peak_bytes() -> int:
    """The most memory that this process has had, what is mapped from files included."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return 1024 * int(status["VmHWM"].split()[0])
