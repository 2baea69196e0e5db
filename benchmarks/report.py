"""What the benchmarks report: rows, and bars that hold or not."""

from __future__ import annotations

import statistics
from typing import Any


class Report:
    """Rows for people and for `runs/bench.json`."""

    def __init__(self) -> None:
        self.measured: list[dict[str, Any]] = []
        self.bars: list[dict[str, Any]] = []

    def row(self, what: str, unit: str, values: list[float], note: str = "") -> float:
        """Keep a measurement; returns its median."""
        median = statistics.median(values)
        spread = (max(values) - min(values)) if len(values) > 1 else 0.0
        self.measured.append({"what": what, "unit": unit, "median": median, "spread": spread, "note": note})
        print(f"  {what:<66} {median:>12,.3f} {unit:<9} ±{spread / 2:,.3f}  {note}", flush=True)
        return median

    def bar(self, name: str, value: float, bar: float, *, at_least: bool, earlier: float | None = None) -> None:
        """Keep a bar and whether it holds; ``earlier`` is what release 0.1.0 reached in the same run."""
        holds = value >= bar if at_least else value <= bar
        self.bars.append(
            {"name": name, "value": value, "bar": bar, "at_least": at_least, "holds": holds, "earlier": earlier}
        )
        print(
            f"{'HOLDS' if holds else 'MISSED'}  {name}: {value:,.3f} ({'≥' if at_least else '≤'} {bar:,.3f})",
            flush=True,
        )
