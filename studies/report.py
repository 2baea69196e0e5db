"""The report that a person reads: one HTML file with everything inside."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from ml_backend.store.versions import write_aside
from studies.paper import SYMPTOMS, TABLE_1, TABLE_2
from studies.plan import STRATEGIES

TEMPLATE = Path(__file__).with_name("report.html")
DASH = "–"
PAPER_NAMES = {"random": "random", "mle": "MLE", "lc": "LC", "mlm": "MLM"}
ITERATIONS = 10
Row = Mapping[str, Any]
Cells = Sequence[Any]


def write(study: Mapping[str, Any], folder: Path) -> Path:
    """Write ``folder``/report.html from a study and the PNG files below ``folder``/figures; returns its path."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    content = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        study=study,
        number=number,
        table=table,
        image=lambda name: _image(folder / name),
        picture=lambda name, caption: _picture(folder / "figures" / f"{name}.png", caption),
        summary_head=tuple(_SUMMARY),
        summary_rows=[[_summary_cell(row, key) for key in _SUMMARY.values()] for row in study["summary"]],
        data_head=("data", "clips", "patients", "frames", "a frame every", "batch", "iterations", "frames with"),
        data_rows=[_data_row(row) for row in study["data"]],
        table_1=[_table_1(study, *place) for place in _places(study)],
        table_2=[_table_2(study, *place) for place in _places(study)],
        ablation_head=("part", "variant", "data", "protocol", "mean exact", "final exact", "manual share"),
        ablation_rows=_ablation(study["ablation"]),
        rare_head=("variant", "data", "protocol", "exact match", *(f"{one}: acc / sens / spec" for one in SYMPTOMS)),
        rare_rows=_rare(study["rare"]),
        calibration_head=("data", "symptom", "temperature", "error before", "error after"),
        calibration_rows=_calibration(study["calibration"]),
        settings_rows=list(study["settings"].items()),
    )
    path = folder / "report.html"
    write_aside(path, content)
    return path


def number(value: float | None, digits: int = 2) -> str:
    """A figure as people read it; a dash where it is undefined."""
    return DASH if value is None else f"{value:.{digits}f}"


def table(head: Cells, rows: Iterable[Cells | Row]) -> Markup:
    """An HTML table; a row that is a mapping has ``cells`` and a ``kind``, the class that it is shown in."""
    lines = [Markup("<tr>") + Markup("").join(Markup("<th>{}</th>").format(cell) for cell in head) + Markup("</tr>")]
    body = []
    for row in rows:
        cells, kind = (row["cells"], row["kind"]) if isinstance(row, Mapping) else (row, "")
        inside = Markup("").join(Markup("<td>{}</td>").format(cell) for cell in cells)
        body.append(Markup('<tr class="{}">{}</tr>').format(kind, inside))
    return Markup('<div class="scroll"><table><thead>{}</thead><tbody>{}</tbody></table></div>').format(
        lines[0], Markup("\n").join(body)
    )


_SUMMARY = {
    "data": "data",
    "protocol": "protocol",
    "strategy": "strategy",
    "seeds": "seeds",
    "mean exact match": "mean_exact",
    "final": "final_exact",
    "all labels": "full_data_exact",
    "labels": "final_share",
    "labels to reach MLM's final": "label_share_to_reach_mlm_final",
    "effusion sensitivity at 20%": "effusion_sensitivity_at_20",
    "manual, plain": "manual_share_plain",
    "manual, validated": "manual_share_validated",
}


def _summary_cell(row: Row, key: str) -> str:
    value = row.get(key)
    return str(value) if isinstance(value, str | int) else number(value, 3)


def _data_row(row: Row) -> list[Any]:
    positives = ", ".join(f"{symptom} {count}" for symptom, count in row["positives"].items())
    every = f"{row['every_seconds']:.2f} s"
    counts = [row[key] for key in ("clips", "patients", "frames")]
    return [row["name"], *counts, every, row["k_max"], row["rounds"], positives]


def _places(study: Mapping[str, Any]) -> list[tuple[str, str]]:
    there = {(run["data"], run["protocol"]) for run in study["runs"]}
    every = [(one["name"], protocol) for one in study["data"] for protocol in ("frames", "patients")]
    return [place for place in every if place in there]


def _table_1(study: Mapping[str, Any], data: str, protocol: str) -> tuple[str, Cells, list[Cells | Row]]:
    def here(rows: Iterable[Row]) -> list[Row]:
        return [row for row in rows if (row["data"], row["protocol"]) == (data, protocol)]

    symptoms = next(list(one["symptoms"]) for one in study["data"] if one["name"] == data)
    head = ("method", *symptoms, "exact match", "labels", "seeds")
    rows: list[Cells | Row] = []

    def add(name: str, chosen: Sequence[Row], share: float, paper: str | None) -> None:
        if chosen:
            cells = [_three([row["symptoms"].get(symptom, {}) for row in chosen]) for symptom in symptoms]
            exact = _spread([row["exact"] for row in chosen], 100, 1)
            rows.append([name, *cells, exact, f"{100 * share:.1f}%", len(chosen)])
        if paper is not None and paper in TABLE_1:
            figures, labels = TABLE_1[paper]
            by_symptom = dict(zip(SYMPTOMS, figures, strict=True))
            cells = [" / ".join(f"{value:g}" for value in by_symptom[symptom]) for symptom in symptoms]
            rows.append({"kind": "paper", "cells": [f"{paper}, the paper", *cells, DASH, f"{labels:g}%", DASH]})

    compared = here(study["methods"])
    for method in ("VGG16", "ResNet34", "ResNet50", "ResNet101", "POCOVID-Net", "NNBD-style"):
        chosen = [row for row in compared if row["method"] == method]
        shown = f"{method} ({chosen[0]['weights']})" if chosen else method
        add(shown, chosen, 1.0, method.removesuffix("-style"))
    add("MSML", here(study["full"]), 1.0, "MSML")
    for strategy in STRATEGIES:
        runs = [run for run in here(study["runs"]) if run["strategy"] == strategy]
        paper = f"MSML + TSAL ({PAPER_NAMES[strategy]})" if strategy in PAPER_NAMES else None
        last = [run["rounds"][-1] for run in runs]
        add(f"MSML + TSAL ({strategy})", last, last[0]["share"] if last else 0.0, paper)
    leaks = ", a random split of frames that leaks near-duplicates" if protocol == "frames" else ""
    return f"{data}, {protocol}{leaks}", head, rows


def _table_2(study: Mapping[str, Any], data: str, protocol: str) -> tuple[str, Cells, list[Cells | Row]]:
    rows: list[Cells | Row] = []
    for strategy, validators in (("mlm", ("plain", "table", "strengths")), ("adaptive", ("plain", "table", "chosen"))):
        runs = [
            run
            for run in study["runs"]
            if (run["data"], run["protocol"], run["strategy"]) == (data, protocol, strategy)
        ]
        for validator in validators:
            if runs:
                cells = [_spread([_manual(run, place, validator) for run in runs], 100) for place in range(ITERATIONS)]
                rows.append([f"{strategy}, {validator}", *cells])
    rows.insert(0, ["by hand only", *(["100"] * ITERATIONS)])
    for name, shares in TABLE_2.items():
        padded = [*(f"{share:g}" for share in shares), *([DASH] * (ITERATIONS - len(shares)))]
        rows.append({"kind": "paper", "cells": [f"{name}, the paper", *padded]})
    return f"{data}, {protocol}", ("iteration", *range(1, ITERATIONS + 1)), rows


def _manual(run: Row, place: int, validator: str) -> float | None:
    if place >= len(run["rounds"]):
        return None
    manual = run["rounds"][place]["manual"]
    return float(manual[validator]) if manual else 1.0


def _ablation(rows: Sequence[Row]) -> list[Cells | Row]:
    return [
        [
            *names,
            *(_spread([row[key] for row in chosen], digits=3) for key in ("mean_exact", "final_exact", "manual_share")),
        ]
        for names, chosen in _grouped(rows, ("part", "variant", "data", "protocol"))
    ]


def _rare(rows: Sequence[Row]) -> list[Cells | Row]:
    return [
        [
            *names,
            _spread([row["exact"] for row in chosen], digits=3),
            *(_three([row["symptoms"].get(symptom, {}) for row in chosen]) for symptom in SYMPTOMS),
        ]
        for names, chosen in _grouped(rows, ("variant", "data", "protocol"))
    ]


def _calibration(rows: Sequence[Row]) -> list[Cells | Row]:
    return [
        [
            *names,
            *(_spread([row[key] for row in chosen], digits=3) for key in ("temperature", "ece_before", "ece_after")),
        ]
        for names, chosen in _grouped(rows, ("data", "symptom"))
    ]


def _grouped(rows: Sequence[Row], keys: Sequence[str]) -> list[tuple[tuple[str, ...], list[Row]]]:
    names = dict.fromkeys(tuple(str(row[key]) for key in keys) for row in rows)
    return [(name, [row for row in rows if tuple(str(row[key]) for key in keys) == name]) for name in names]


def _three(figures: Sequence[Mapping[str, float | None]]) -> str:
    kinds = ("accuracy", "sensitivity", "specificity")
    return " / ".join(_spread([one.get(kind) for one in figures], 100) for kind in kinds)


def _spread(values: Sequence[float | None], times: float = 1.0, digits: int = 0) -> str:
    """Mean ± standard deviation of what is defined."""
    known = [times * value for value in values if value is not None]
    if not known:
        return DASH
    spread = f"±{np.std(known):.{digits}f}" if len(known) > 1 else ""
    return f"{np.mean(known):.{digits}f}{spread}"


def _picture(path: Path, caption: str) -> Markup:
    if not path.is_file():
        return Markup("")
    return Markup("<figure>{}<figcaption>{}</figcaption></figure>").format(_image(path), caption)


def _image(path: Path) -> Markup:
    content = base64.b64encode(path.read_bytes()).decode()
    return Markup('<img alt="{}" src="data:image/png;base64,{}">').format(escape(path.stem), content)
