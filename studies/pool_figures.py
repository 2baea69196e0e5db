"""The picture that the report leads with: right labels against human decisions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studies.figures import LOOK, RESOLUTION, SOLID, Row, Study, Style, look
from studies.plan import POOL
from studies.team import CLIPS

STYLES: dict[str, Style] = {
    "cover": Style("#0072B2", SOLID, "P"),
    "cover-memory": Style("#009E73", (0, (6, 2)), "v"),
    "random": Style("#000000", (0, (1, 1.2)), "o"),
    "mlm": Style("#D55E00", SOLID, "D"),
    "core-set": Style("#E69F00", (0, (4, 1.5)), "s"),
    "typiclust": Style("#56B4E9", (0, (6, 2, 1, 2)), "^"),
    "probcover": Style("#CC79A7", (0, (9, 2)), "X"),
    "badge": Style("#999999", (0, (9, 2, 1, 2, 1, 2)), "*"),
}
NAMES = {
    "cover": "cover, memory and network (ours)",
    "cover-memory": "cover, memory alone (ours)",
    "random": "random, memory",
    "mlm": "the paper's loop (MLM, table)",
    "core-set": "core-set, memory",
    "typiclust": "TypiClust, memory",
    "probcover": "ProbCover, memory",
    "badge": "BADGE, memory",
}
GOAL = 97


def write(study: Study, folder: Path) -> None:
    """Draw ``folder/figures/decisions.png``, where the study has the protocol `pool`."""
    if any(row["protocol"] == POOL for row in study["summary"]):
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        with rc_context(LOOK):
            decisions(study).savefig(folder / "figures" / "decisions.png", dpi=RESOLUTION)


def decisions(study: Study) -> Figure:
    """Share of the pool that is right by share that people answered: a row of panels per data set, one per clips."""
    rows = [row for row in study["summary"] if row["protocol"] == POOL]
    sets = list(dict.fromkeys(row["data"] for row in rows))
    figure = Figure(figsize=(10, 0.9 + 2.9 * len(sets)), layout="constrained")
    grid = figure.subplots(len(sets), len(CLIPS), sharex="row", sharey=True, squeeze=False)
    for line, data in zip(grid, sets, strict=True):
        for axes, clips in zip(line, CLIPS, strict=True):
            _panel(axes, [row for row in rows if (row["data"], row["clips"]) == (data, clips)])
            axes.set(title=f"{data}, clips {clips}", ylim=(50, 101))
        line[0].set_ylabel("right labels (% of the pool)")
    for axes in grid[-1]:
        axes.set_xlabel("answered by people (% of the pool)")
    handles: dict[str, Any] = {}
    for axes in grid.ravel():
        handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=4, handlelength=4.5, frameon=False
    )
    return figure


def _panel(axes: Axes, rows: list[Row]) -> None:
    axes.axhline(GOAL, color="0.5", linewidth=0.8)
    for row in rows:
        shares, right = zip(*row["pool_accuracy"], strict=True)
        style = STYLES[row["strategy"]]
        axes.plot(
            [100 * share for share in shares],
            [100 * share for share in right],
            label=NAMES[row["strategy"]],
            markevery=0.15,
            **look(style),
        )
