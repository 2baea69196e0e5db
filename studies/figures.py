"""The figures as PNG: told apart by colour, by line and by marker, so that black and white print keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

Study = Mapping[str, Any]
Row = Mapping[str, Any]


class Style(NamedTuple):
    """How one line looks: a colour of Okabe and Ito's palette, a dash pattern, a marker."""

    colour: str
    line: Any
    marker: str


STYLES: Mapping[str, Style] = {
    "random": Style("#000000", ":", "x"),
    "mle": Style("#E69F00", "-.", "^"),
    "lc": Style("#009E73", (0, (1, 1)), "s"),
    "mlm": Style("#D55E00", "--", "o"),
    "mlm-diverse": Style("#0072B2", (0, (5, 1, 1, 1)), "D"),
    "adaptive": Style("#CC79A7", "-", "v"),
}
VALIDATORS: Mapping[str, Style] = {
    "plain": Style("#000000", ":", "x"),
    "table": Style("#D55E00", "--", "o"),
    "strengths": Style("#0072B2", "-.", "D"),
    "chosen": Style("#CC79A7", "-", "v"),
}
HATCHES = ("", "//", "..", "xx")
WIDTH = 11.0


def write(study: Study, folder: Path) -> dict[str, Path]:
    """Draw every figure that the study has results for below ``folder``/figures; paths by the figure's name."""
    below = folder / "figures"
    below.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Figure] = {}
    for data in [one["name"] for one in study["data"]]:
        for protocol in ("frames", "patients"):
            runs = _of(study["runs"], data, protocol)
            if runs:
                figures[f"curves-{data}-{protocol}"] = curves(runs, _of(study["full"], data, protocol))
                figures[f"manual-{data}-{protocol}"] = manual(runs)
            calibrated = _of(study["calibration"], data, protocol)
            if calibrated:
                figures[f"calibration-{data}-{protocol}"] = calibration(calibrated)
        ablated = [row for row in study["ablation"] if row["data"] == data]
        if ablated:
            figures[f"ablation-{data}"] = ablation(ablated)
    paths = {name: below / f"{name}.png" for name in figures}
    for name, figure in figures.items():
        figure.savefig(paths[name], dpi=110)
    return paths


def curves(runs: Sequence[Row], full: Sequence[Row]) -> Figure:
    """Fig. 5: exact match, macro AUC and the accuracy of each symptom against the number of labelled frames."""
    symptoms = list(runs[0]["rounds"][0]["symptoms"])
    panels = ["exact", "auc", *symptoms]
    figure, axes = _panels(len(panels), 3.1)
    for place, (panel, one) in enumerate(zip(panels, axes, strict=True)):
        for strategy, style in STYLES.items():
            chosen = [run for run in runs if run["strategy"] == strategy]
            if chosen:
                labelled = np.array([row["labelled"] for row in _shortest(chosen)["rounds"]])
                _band(one, labelled, _matrix(chosen, panel, len(labelled)), strategy, style)
        reached = [value for value in (_value(row, panel) for row in full) if value is not None]
        if reached:
            one.axhline(float(np.mean(reached)), color="0.35", linewidth=1.2, dashes=(8, 4), label="all labels")
        one.set_title({"exact": "exact match", "auc": "macro AUC"}.get(panel, f"accuracy, {panel}"))
        one.set_xlabel("labelled frames")
        if place == 0:
            figure.legend(*one.get_legend_handles_labels(), loc="outside lower center", ncols=7, frameon=False)
    return figure


def manual(runs: Sequence[Row]) -> Figure:
    """Table II as a figure: the share of each batch that would be labelled by hand, for MLM and for adaptive."""
    figure, axes = _panels(2, 3.3)
    for one, strategy in zip(axes, ("mlm", "adaptive"), strict=True):
        chosen = [run for run in runs if run["strategy"] == strategy]
        one.axhline(1.0, color="0.35", linewidth=1.2, dashes=(8, 4), label="everything by hand")
        for validator, style in VALIDATORS.items():
            if not chosen or (strategy == "mlm" and validator == "chosen"):
                continue
            rounds = len(_shortest(chosen)["rounds"])
            shares = np.array(
                [
                    [row["manual"][validator] if row["manual"] else 1.0 for row in run["rounds"][:rounds]]
                    for run in chosen
                ]
            )
            _band(one, np.arange(1, rounds + 1), shares, validator, style)
        one.set_title(f"labelled by hand, batches of {strategy}")
        one.set_xlabel("iteration")
        one.set_ylim(0, 1.05)
    handles, labels = axes[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    return figure


def calibration(rows: Sequence[Row]) -> Figure:
    """Reliability of each symptom before and after its temperature, all seeds together."""
    symptoms = list(dict.fromkeys(row["symptom"] for row in rows))
    figure, axes = _panels(len(symptoms), 3.1, columns=4)
    for one, symptom in zip(axes, symptoms, strict=True):
        one.plot([0, 1], [0, 1], color="0.6", linewidth=1)
        for when, style in (("before", STYLES["mlm"]), ("after", STYLES["mlm-diverse"])):
            bins = np.array([b for row in rows if row["symptom"] == symptom for b in row[f"bins_{when}"]], float)
            if not len(bins):
                continue
            place = np.minimum((bins[:, 0] * 10).astype(int), 9)
            points = []
            for number in np.unique(place):
                inside = bins[place == number]
                points.append(np.average(inside[:, :2], axis=0, weights=inside[:, 2]))
            mean, share = np.array(points).T
            one.plot(mean, share, color=style.colour, linestyle=style.line, marker=style.marker, label=when)
        one.set_title(symptom)
        one.set_xlabel("probability")
        one.set_ylim(-0.03, 1.03)
    axes[0].set_ylabel("share of frames that have it")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def ablation(rows: Sequence[Row]) -> Figure:
    """What each part buys: final exact match of both variants, by protocol."""
    measured = [row for row in rows if row["part"] not in ("confidence validation", "rule (9)")]
    parts = list(dict.fromkeys(row["part"] for row in measured))
    figure, axes = _panels(max(1, len(parts)), 3.0, columns=max(1, len(parts)))
    for one, part in zip(axes, parts, strict=False):
        chosen = [row for row in measured if row["part"] == part]
        variants = list(dict.fromkeys(row["variant"] for row in chosen))
        for place, variant in enumerate(variants):
            values = [row["final_exact"] for row in chosen if row["variant"] == variant]
            spread = float(np.std(values)) if len(values) > 1 else 0.0
            one.bar(
                place,
                float(np.mean(values)),
                yerr=spread,
                color=list(STYLES.values())[place + 1].colour,
                hatch=HATCHES[place % len(HATCHES)],
                edgecolor="black",
                capsize=4,
            )
        one.set_xticks(range(len(variants)), [variant.replace(" ", "\n") for variant in variants], fontsize="small")
        one.set_title(part)
        one.set_ylim(0, 1)
    axes[0].set_ylabel("exact match at the end")
    return figure


def _panels(count: int, height: float, columns: int = 3) -> tuple[Figure, list[Axes]]:
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(WIDTH, height * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    axes = [one for line in grid for one in line]
    for spare in axes[count:]:
        spare.set_visible(False)
    for one in axes:
        one.grid(color="0.9")
        one.set_axisbelow(True)
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes[:count]


def _band(one: Axes, x: NDArray[Any], values: NDArray[np.float64], name: str, style: Style) -> None:
    """A line of the mean over the runs (rows), with one standard deviation around it."""
    known = ~np.isnan(values).all(axis=0)
    mean, spread = np.nanmean(values[:, known], axis=0), np.nanstd(values[:, known], axis=0)
    every = max(1, len(x) // 7)
    one.fill_between(x[known], mean - spread, mean + spread, color=style.colour, alpha=0.12, linewidth=0)
    one.plot(
        x[known],
        mean,
        color=style.colour,
        linestyle=style.line,
        marker=style.marker,
        markevery=every,
        markersize=5,
        linewidth=1.6,
        label=name,
    )


def _matrix(runs: Sequence[Row], panel: str, rounds: int) -> NDArray[np.float64]:
    return np.array([[_value(row, panel) for row in run["rounds"][:rounds]] for run in runs], float)


def _value(row: Row, panel: str) -> float | None:
    value = row[panel] if panel in ("exact", "auc") else row["symptoms"].get(panel, {}).get("accuracy")
    return None if value is None else float(value)


def _shortest(runs: Sequence[Row]) -> Row:
    return min(runs, key=lambda run: len(run["rounds"]))


def _of(rows: Sequence[Row], data: str, protocol: str) -> list[Row]:
    return [row for row in rows if row["data"] == data and row["protocol"] == protocol]
