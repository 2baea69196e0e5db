"""How long the command line takes to answer: a whole process, as a shell waits for it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.releases import release_0_1_0, this_release
from benchmarks.report import Report
from benchmarks.timing import repeat
from ml_backend.launch.processes import tsal

NOW, EARLIER = "`tsal --help`", "0.1.0: `scripts/serve.py --help`"


def command(report: Report, quick: bool, folder: Path) -> None:
    """`tsal --help`, beside `scripts/serve.py --help` of release 0.1.0, in turns."""
    commands = {NOW: (tsal("--help"), this_release().environment)}
    earlier = None if quick else release_0_1_0(folder / "0.1.0")
    if earlier:
        commands[EARLIER] = (earlier.script("serve", "--help"), earlier.environment)
    seconds: dict[str, list[float]] = {what: [] for what in commands}
    for _ in range(2 if quick else 9):
        for what, (words, variables) in commands.items():
            seconds[what] += repeat(lambda words=words, variables=variables: _run(words, variables), 1)  # type: ignore[misc]
    medians = {what: report.row(what, "s", values) for what, values in seconds.items()}
    earlier_seconds = medians.get(EARLIER)
    report.bar("`tsal --help`, the whole process, seconds", medians[NOW], 0.4, at_least=False, earlier=earlier_seconds)


def _run(words: Sequence[str], variables: Mapping[str, str]) -> None:
    subprocess.run(words, env=os.environ | variables, check=True, capture_output=True)  # noqa: S603  our own scripts
