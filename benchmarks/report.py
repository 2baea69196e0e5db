"""What the benchmarks report: rows, and bars that hold or not."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any


class Report:
    """Collects rows for people and for `runs/bench.json`, each with its ``part``.

    ``parts`` holds, for each part that has ended, when that was (``ended``), on which ``machine``, and with which
    ``versions``.
    """

    def __init__(self) -> None:
        self.part = ""
        self.parts: dict[str, dict[str, Any]] = {}
        self.measured: list[dict[str, Any]] = []
        self.bars: list[dict[str, Any]] = []

    def row(self, what: str, unit: str, values: list[float], note: str = "") -> float:
        """Keep a measurement; returns its median."""
        median = statistics.median(values)
        spread = (max(values) - min(values)) if len(values) > 1 else 0.0
        row = {"part": self.part, "what": what, "unit": unit, "median": median, "spread": spread, "note": note}
        self.measured.append(row)
        print(f"  {what:<66} {median:>12,.3f} {unit:<9} ±{spread / 2:,.3f}  {note}", flush=True)
        return median

    def bar(self, name: str, value: float, bar: float, *, at_least: bool, earlier: float | None = None) -> None:
        """Keep a bar and whether it holds; ``earlier`` is what release 0.1.0 reached in the same run."""
        holds = value >= bar if at_least else value <= bar
        row = {"part": self.part, "name": name, "value": value, "bar": bar}
        self.bars.append({**row, "at_least": at_least, "holds": holds, "earlier": earlier})
        print(
            f"{'HOLDS' if holds else 'MISSED'}  {name}: {value:,.3f} ({'≥' if at_least else '≤'} {bar:,.3f})",
            flush=True,
        )

    def sort(self, parts: Sequence[str]) -> None:
        """Sort everything in the order of the ``parts``."""
        self.parts = {part: self.parts[part] for part in parts if part in self.parts}
        self.measured.sort(key=lambda row: parts.index(row["part"]))
        self.bars.sort(key=lambda row: parts.index(row["part"]))
