"""Put the figures of `runs/bench.json` into the page on speed, between two marks, and draw the curves of growth.

`make docs` runs it. Without that file, or after a quick run, whose figures mean little, the page stays as it is. The
figures are kept beside the page in `speed.json`, so that a run of one part alone leaves those of the others.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from studies.figures import LOOK

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- figures: begin, from runs/bench.json -->", "<!-- figures: end -->"
PICTURE = Path("images") / "speed-growth.png"
STEP = re.compile(r"^(import|first pass|refresh|fine-tune) of ([\d,]+) frames$")
MARKERS = ("o", "s", "^", "D")
Bench = Mapping[str, Any]
Curves = Mapping[str, Sequence[tuple[int, float]]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Render the page and its picture."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--bench", type=Path, default=ROOT / "runs" / "bench.json", help="what `make bench` wrote")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder of the page speed.md")
    options = parser.parse_args(arguments)
    if not options.bench.is_file():
        print(f"docs/speed.md stays as it is: {options.bench} is not there")
        return 0
    bench = json.loads(options.bench.read_text(encoding="utf-8"))
    if bench["quick"]:
        print("docs/speed.md stays as it is: the figures are those of a quick run")
        return 0
    kept = options.docs / "speed.json"
    if kept.is_file():
        bench = merged(json.loads(kept.read_text(encoding="utf-8")), bench)
    kept.write_text(json.dumps(bench, indent=1) + "\n", encoding="utf-8")
    found = curves(bench["measured"])
    if found:
        picture = options.docs / PICTURE
        picture.parent.mkdir(exist_ok=True)
        with rc_context(LOOK):
            drawn(found).savefig(picture, dpi=110)
    page = options.docs / "speed.md"
    page.write_text(filled(page.read_text(encoding="utf-8"), bench), encoding="utf-8")
    return 0


def merged(kept: Bench, bench: Bench) -> Bench:
    """Return the figures that were kept, with those of each part that was measured since in their place."""
    parts = {**kept["parts"], **bench["parts"]}
    order = list(parts)
    joined: dict[str, Any] = {"quick": False, "parts": parts}
    for kind in ("measured", "bars"):
        rows = [*(row for row in kept[kind] if row["part"] not in bench["parts"]), *bench[kind]]
        joined[kind] = sorted(rows, key=lambda row: order.index(row["part"]))
    return joined


def filled(page: str, bench: Bench) -> str:
    """The page with the figures between its marks; what is written by hand stays."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{section(bench)}\n{END}{after}"


def section(bench: Bench) -> str:
    """Write the figures of each machine: the bars, the curves, and everything that was measured."""
    by_machine: dict[str, list[str]] = defaultdict(list)
    for part, circumstances in bench["parts"].items():
        by_machine[_named(circumstances)].append(part)
    return "\n\n".join(
        paragraph for machine, parts in by_machine.items() for paragraph in _paragraphs(bench, machine, parts)
    )


def _named(circumstances: Mapping[str, Any]) -> str:
    machine, versions = circumstances["machine"], circumstances["versions"]
    named = ", ".join(f"{name} {release}" for name, release in versions.items())
    return f"{machine['cores']} cores ({machine['processor']}, {machine['instructions']}), with {named}"


def _paragraphs(bench: Bench, machine: str, parts: Sequence[str]) -> Iterator[str]:
    bars, rows = ([row for row in bench[kind] if row["part"] in parts] for kind in ("bars", "measured"))
    days = sorted({bench["parts"][part]["ended"][:10] for part in parts})
    yield f"Measured on {' and '.join(days)} on {machine}."
    yield "\n".join(_bars(bars))
    if curves(rows):
        yield f"![Seconds of each step by the number of frames]({PICTURE.as_posix()})"
    yield "Everything that was measured there:"
    yield "\n".join(_rows(rows))


def _bars(bars: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "| what | 0.1.0 | now | bar | holds |\n|---|---|---|---|---|"
    for one in bars:
        earlier = "" if one["earlier"] is None else number(one["earlier"])
        sign = "≥" if one["at_least"] else "≤"
        holds = "yes" if one["holds"] else "**no**"
        yield f"| {one['name']} | {earlier} | {number(one['value'])} | {sign} {number(one['bar'])} | {holds} |"


def _rows(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "| what | median | ± | unit | note |"
    yield "|---|---|---|---|---|"
    for one in rows:
        spread = number(one["spread"] / 2) if one["spread"] else ""
        yield f"| {one['what']} | {number(one['median'])} | {spread} | {one['unit']} | {one['note']} |"


def number(value: float) -> str:
    """Format a figure with three significant digits, or with all its digits before the decimal point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def curves(rows: Sequence[Mapping[str, Any]]) -> Curves:
    """Return the seconds of each step by number of frames, as the part ``growth`` measured them."""
    found: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for one in rows:
        match = STEP.match(one["what"])
        if match:
            found[match[1]].append((int(match[2].replace(",", "")), one["median"]))
    return {name: sorted(points) for name, points in found.items()}


def drawn(found: Curves) -> Figure:
    """Draw the curves, beside a line on which twice the frames take twice the time."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for (name, points), marker in zip(found.items(), MARKERS, strict=False):
        frames, seconds = zip(*points, strict=True)
        axes.plot(frames, seconds, marker=marker, label=name)
    lowest = min(point for points in found.values() for point in points)
    ends = [lowest[0], max(point[0] for points in found.values() for point in points)]
    axes.plot(ends, [lowest[1] * end / lowest[0] for end in ends], ":", color="0.4", label="proportional")
    axes.set(xscale="log", yscale="log", xlabel="frames", ylabel="seconds")
    axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    sys.exit(main())
