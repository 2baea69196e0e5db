"""The study's figures as PNG, to be read in any colour vision and in black and white."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.stats import t as student

from ml_backend.tsal.reliability import BINS

Study = Mapping[str, Any]
Row = Mapping[str, Any]
Dashes = tuple[int, tuple[float, ...]]
SOLID: Dashes = (0, ())
RESOLUTION = 150
LOOK: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.grid": True,
    "grid.color": "0.9",
    "axes.axisbelow": True,
}


@dataclass(frozen=True)
class Style:
    """How one line looks: any of the three tells it from the others."""

    colour: str
    dashes: Dashes
    marker: str


# The colours of Okabe and Ito: told apart by every kind of colour vision.
STYLES: Mapping[str, Style] = {
    "random": Style("#000000", (0, (1, 1.2)), "o"),
    "mle": Style("#E69F00", (0, (4, 1.5)), "s"),
    "lc": Style("#56B4E9", (0, (6, 2, 1, 2)), "^"),
    "mlm": Style("#D55E00", SOLID, "D"),
    "mlm-diverse": Style("#009E73", (0, (9, 2)), "v"),
    "adaptive": Style("#0072B2", (0, (9, 2, 1, 2, 1, 2)), "P"),
    "cover": Style("#CC79A7", (0, (3, 1)), "X"),
    "cover-memory": Style("#999999", (0, (3, 1, 1, 1)), "*"),
}
FULL = Style("#000000", (0, (10, 5)), "")
DEFAULTS: Mapping[str, Style] = {
    "by hand": Style("#000000", (0, (1, 1.2)), "o"),
    "plain": Style("#D55E00", (0, (4, 1.5)), "s"),
    "table": Style("#56B4E9", SOLID, "D"),
    "strengths": Style("#009E73", (0, (6, 2, 1, 2)), "^"),
    "memory": Style("#CC79A7", (0, (3, 1)), "X"),
    "chosen": Style("#0072B2", (0, (9, 2)), "P"),
}
"""Where a frame's default annotation comes from, by the name in `manual`."""
DEFAULT_NAMES = {
    "by hand": "by hand only",
    "plain": "plain pseudo-labels",
    "table": "confidence validation",
    "strengths": "confidence validation, strengths kept",
    "memory": "memory, network and table, whichever is surest",
    "chosen": "what adaptive chose",
}
BATCHES_OF = ("mlm", "adaptive", "cover")
"""The strategies whose batches Table II is shown for: the paper's, the one that chooses the validator, the default."""
BEFORE, AFTER = Style("#D55E00", SOLID, "o"), Style("#0072B2", (0, (4, 1.5)), "s")
FIFTHS = (0, 0.2, 0.4, 0.6, 0.8, 1)
STRATEGY_NAMES: Mapping[str, str] = {"mle": "MLE", "lc": "LC", "mlm": "MLM"}
"""How the paper writes its strategies; the others are called as they are."""
BARS = (("#FFFFFF", ""), ("#56B4E9", "///"), ("#E69F00", "..."), ("#009E73", "xx"))


def write(study: Study, folder: Path) -> dict[str, Path]:
    """Draw every figure that the study has numbers for to ``folder/figures``; returns the files by name.

    The names are `accuracy-`, `by-hand-`, `reliability-` or `ablation-`, then data set and protocol.
    """
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    kinds: Sequence[tuple[str, str, Callable[[Study, str, str], Figure]]] = (
        ("accuracy", "runs", curves),
        ("by-hand", "runs", by_hand),
        ("reliability", "calibration", reliability),
        ("ablation", "ablation", ablation),
    )
    written: dict[str, Path] = {}
    for kind, part, draw in kinds:
        for data, protocol in dict.fromkeys((row["data"], row["protocol"]) for row in study[part]):
            name = f"{kind}-{data}-{protocol}"
            written[name] = folder / "figures" / f"{name}.png"
            with rc_context(LOOK):
                draw(study, data, protocol).savefig(written[name], dpi=RESOLUTION)
    return written


def mean_and_deviation(values: Iterable[float | None]) -> tuple[float | None, float | None]:
    """Mean and standard deviation (n - 1) of the values that are known; None where they are too few."""
    known = [float(value) for value in values if value is not None]
    return fmean(known) if known else None, stdev(known) if len(known) > 1 else None


def t_interval(values: Iterable[float | None]) -> tuple[float, float] | None:
    """The 95% interval of the mean share over the seeds by Student's t, within [0, 1]; None of fewer than two."""
    known = [float(value) for value in values if value is not None]
    half = half_width(known)
    return None if half is None else (max(0.0, fmean(known) - half), min(1.0, fmean(known) + half))


def half_width(values: Sequence[float]) -> float | None:
    """Half the 95% interval of a mean by Student's t; None of fewer than two values."""
    if len(values) < 2:
        return None
    return float(student.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))


def strategy_name(strategy: str) -> str:
    """Name a strategy as readers of the paper know it."""
    return STRATEGY_NAMES.get(strategy, strategy)


def here(rows: Iterable[Row], data: str, protocol: str) -> list[Row]:
    """Pick the rows of one data set and protocol."""
    return [row for row in rows if (row["data"], row["protocol"]) == (data, protocol)]


def curves(study: Study, data: str, protocol: str) -> Figure:
    """Fig. 5: accuracy per symptom, exact match and macro AUC by labelled frames; a line with a band per strategy."""
    runs, full = here(study["runs"], data, protocol), here(study["full"], data, protocol)
    panels: list[tuple[str, Callable[[Row], float | None], float]] = [
        (f"{symptom}: accuracy (%)", _accuracy_of(symptom), 100) for symptom in runs[0]["rounds"][0]["symptoms"]
    ]
    panels += [("exact match (%)", lambda row: row["exact"], 100), ("macro AUC", lambda row: row["auc"], 1)]
    columns = math.ceil(len(panels) / 2)
    figure = Figure(figsize=(10, 6.4), layout="constrained")
    grid = figure.subplots(2, columns, sharex=True, squeeze=False).ravel()
    for axes, (title, read, factor) in zip(grid, panels, strict=False):
        axes.set_title(title)
        for strategy, style in STYLES.items():
            chosen = [run["rounds"] for run in runs if run["strategy"] == strategy]
            _line(axes, chosen, read, factor, strategy_name(strategy), style)
        level, _ = mean_and_deviation(read(row) for row in full)
        if level is not None:
            axes.axhline(level * factor, color=FULL.colour, linestyle=FULL.dashes, linewidth=1, label="all labels")
    for axes in grid[len(panels) :]:
        axes.remove()
    for axes in grid[len(panels) - columns : len(panels)]:
        axes.set_xlabel("labelled frames")
        axes.tick_params(labelbottom=True)
    _legend_below(figure, grid[0])
    return figure


def by_hand(study: Study, data: str, protocol: str) -> Figure:
    """Table II drawn: percent of each batch labelled by hand, mean of the seeds, a line per default annotation."""
    runs = here(study["runs"], data, protocol)
    shown = [name for name in BATCHES_OF if any(run["strategy"] == name for run in runs)]
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    grid = figure.subplots(1, max(1, len(shown)), sharey=True, squeeze=False).ravel()
    for axes, strategy in zip(grid, shown, strict=False):
        rounds = [run["rounds"] for run in runs if run["strategy"] == strategy]
        for name in defaults(strategy, rounds):
            shares = [
                mean_and_deviation(labelled_by_hand(row, name) for row in rows)[0]
                for rows in zip(*rounds, strict=False)
            ]
            heights = [math.nan if share is None else 100 * share for share in shares]
            mark = (len(axes.lines) % 3, 3)
            axes.plot(
                range(1, len(heights) + 1), heights, label=DEFAULT_NAMES[name], markevery=mark, **look(DEFAULTS[name])
            )
        axes.set(title=f"batches of {strategy_name(strategy)}", xlabel="iteration", ylim=(-3, 105))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    grid[0].set_ylabel("labelled by hand (%)")
    _legend_below(figure, grid[-1])
    return figure


def defaults(strategy: str, runs: Iterable[Sequence[Row]]) -> list[str]:
    """Name the ways to a default annotation that these rounds know; a choice is one only where there was one."""
    known = {"by hand"} | {name for rounds in runs for row in rounds for name in row["manual"] or ()}
    return [name for name in DEFAULTS if name in known and (name != "chosen" or strategy == "adaptive")]


def labelled_by_hand(row: Row, default: str) -> float | None:
    """Share of a round's batch, in [0, 1], that is labelled by hand with this default; all of it in the first round."""
    share: float | None = 1.0 if default == "by hand" or row["manual"] is None else row["manual"][default]
    return share


def reliability(study: Study, data: str, protocol: str) -> Figure:
    """Observed share against predicted probability of each symptom, before and after its temperature; seeds pooled."""
    rows = here(study["calibration"], data, protocol)
    symptoms = list(dict.fromkeys(row["symptom"] for row in rows))
    figure = Figure(figsize=(max(6.0, 2.6 * len(symptoms)), 3.7), layout="constrained")
    grid = figure.subplots(1, len(symptoms), sharex=True, sharey=True, squeeze=False).ravel()
    for axes, symptom in zip(grid, symptoms, strict=True):
        chosen = [row for row in rows if row["symptom"] == symptom]
        axes.plot([0, 1], [0, 1], color="0.5", linewidth=0.8, label="as it should be")
        errors = []
        for when, style in (("before", BEFORE), ("after", AFTER)):
            error, _ = mean_and_deviation(row[f"ece_{when}"] for row in chosen)
            errors.append("–" if error is None else f"{error:.3f}")
            points = _pooled([one for row in chosen for one in row[f"bins_{when}"]])
            axes.plot(points[:, 0], points[:, 1], label=f"{when} the temperature", **look(style))
        axes.set(title=f"{symptom}\nerror {errors[0]} before, {errors[1]} after", xlabel="predicted probability")
        axes.set(aspect="equal", xlim=(-0.04, 1.04), ylim=(-0.04, 1.04), xticks=FIFTHS, yticks=FIFTHS)
    grid[0].set_ylabel("share of frames that show it")
    _legend_below(figure, grid[0])
    return figure


def ablation(study: Study, data: str, protocol: str) -> Figure:
    """Bars of every variant of every part: exact match over the rounds and at the end, share labelled by hand."""
    rows = here(study["ablation"], data, protocol)
    variants = list(dict.fromkeys((row["part"], row["variant"]) for row in rows))
    parts = list(dict.fromkeys(part for part, _ in variants))
    places = [-(number + 0.7 * parts.index(part)) for number, (part, _) in enumerate(variants)]
    panels = {
        "mean_exact": "exact match, mean of the rounds (%)",
        "final_exact": "exact match at the end (%)",
        "manual_share": "labelled by hand (%)",
    }
    figure = Figure(figsize=(10, 0.9 + 0.3 * len(variants) + 0.2 * len(parts)), layout="constrained")
    for axes, (key, title) in zip(figure.subplots(1, 3, sharey=True), panels.items(), strict=True):
        before: dict[str, int] = {}
        for place, (part, variant) in zip(places, variants, strict=True):
            colour, hatch = BARS[before.get(part, 0) % len(BARS)]
            before[part] = before.get(part, 0) + 1
            values = (row[key] for row in rows if (row["part"], row["variant"]) == (part, variant))
            _bar(axes, place, mean_and_deviation(values), colour, hatch)
        axes.set(title=title, xlim=(0, 125), xticks=range(0, 101, 25))
        axes.grid(visible=False, axis="y")
        axes.set_yticks(places, [f"{part}: {variant}" for part, variant in variants])
        axes.tick_params(axis="y", length=0)
    return figure


def _accuracy_of(symptom: str) -> Callable[[Row], float | None]:
    def read(row: Row) -> float | None:
        value: float | None = row["symptoms"].get(symptom, {}).get("accuracy")
        return value

    return read


def _line(
    axes: Axes,
    runs: Sequence[Sequence[Row]],
    read: Callable[[Row], float | None],
    factor: float,
    label: str,
    style: Style,
) -> None:
    """Draw the mean over the seeds and a band of one standard deviation, as far as all seeds go."""
    if not runs:
        return
    rounds = list(zip(*runs, strict=False))
    across = [fmean(row["labelled"] for row in rows) for rows in rounds]
    found = [mean_and_deviation(read(row) for row in rows) for rows in rounds]
    middle = factor * np.array([math.nan if mean is None else mean for mean, _ in found])
    spread = factor * np.array([deviation or 0.0 for _, deviation in found])
    # Markers on every third round, from another one for each strategy: where lines meet, each is still seen.
    axes.plot(across, middle, label=label, markevery=(len(axes.lines) % 3, 3), **look(style))
    lower, upper = np.clip(middle - spread, 0, factor), np.clip(middle + spread, 0, factor)
    # Many bands lie on each other: pale inside, and edged, so that each can be followed.
    edge: dict[str, Any] = {"edgecolor": (style.colour, 0.5), "linestyle": style.dashes, "linewidth": 0.6}
    axes.fill_between(across, lower, upper, facecolor=(style.colour, 0.07), **edge)


def look(style: Style) -> dict[str, Any]:
    """How matplotlib draws a line of this style."""
    return {
        "color": style.colour,
        "linestyle": style.dashes,
        "marker": style.marker,
        "markersize": 4.5,
        "markeredgecolor": "white",
        "markeredgewidth": 0.4,
        "linewidth": 1.4,
    }


def _bar(axes: Axes, place: float, found: tuple[float | None, float | None], colour: str, hatch: str) -> None:
    mean, deviation = found
    if mean is None:
        axes.text(1, place, "–", va="center")
        return
    bar: dict[str, Any] = {"color": colour, "hatch": hatch, "edgecolor": "black", "linewidth": 0.8}
    error = None if deviation is None else 100 * deviation
    axes.barh(place, 100 * mean, height=0.8, xerr=error, error_kw={"capsize": 2, "linewidth": 1}, **bar)
    axes.text(100 * mean + (error or 0) + 2, place, f"{100 * mean:.1f}", va="center")


def _pooled(bins: Iterable[Sequence[float]]) -> NDArray[np.float64]:
    """Put the bins of all seeds together, by their frames; (bins, 2) mean probability and observed share."""
    sums = np.zeros((BINS, 3))
    for mean, share, count in bins:
        sums[min(int(mean * BINS), BINS - 1)] += (mean * count, share * count, count)
    held = sums[sums[:, 2] > 0]
    points: NDArray[np.float64] = held[:, :2] / held[:, 2:]
    return points


def _legend_below(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    columns = math.ceil(len(labels) / 2)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=4.5, frameon=False)
