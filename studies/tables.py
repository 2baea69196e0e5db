"""The report's tables: what stands in which cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from studies import paper
from studies.figures import (
    BATCHES_OF,
    DEFAULT_NAMES,
    Row,
    Study,
    defaults,
    here,
    labelled_by_hand,
    mean_and_deviation,
    strategy_name,
)
from studies.plan import COMPARED, POOL, PROTOCOLS, STRATEGIES

UNDEFINED = "–"
MINUS = "−"
MEASURES = ("accuracy", "sensitivity", "specificity")


@dataclass(frozen=True)
class Cell:
    """One cell: its text, the paper's number beside it, and how many columns it spans."""

    text: str
    paper: str = ""
    span: int = 1


@dataclass(frozen=True)
class Table:
    """A table: ``name`` is its address in the page, ``heads`` its rows of column names, ``wide`` where it lies across.

    The first ``words`` columns hold words, the others numbers; the first cell of a row names the row.
    """

    name: str
    caption: str
    heads: Sequence[Sequence[Cell]]
    rows: Sequence[Sequence[Cell]]
    words: int = 1
    wide: bool = False
    notes: Sequence[str] = field(default=())


def places(study: Study) -> list[tuple[str, str]]:
    """Every data set with every protocol that has results."""
    there = {(row["data"], row["protocol"]) for kind in ("runs", "full", "methods") for row in study[kind]}
    every = [(data["name"], protocol) for data in study["data"] for protocol in PROTOCOLS]
    return [place for place in every if place in there]


def percent(value: float | None, digits: int = 1) -> str:
    """A share in [0, 1] as percent, without the sign of percent; below zero with a minus, which is no dash."""
    return UNDEFINED if value is None else f"{100 * value:.{digits}f}".replace("-", MINUS)


def spread(values: Iterable[float | None], digits: int = 1, factor: float = 100) -> str:
    """Mean ± standard deviation, n - 1, of what is defined; without the deviation where only one value is."""
    mean, deviation = mean_and_deviation(values)
    if mean is None:
        return UNDEFINED
    text = f"{factor * mean:.{digits}f}"
    return text if deviation is None else f"{text}±{factor * deviation:.{digits}f}"


def mean_exact(run: Row) -> float | None:
    """Exact match of one run, mean of its rounds."""
    return mean_and_deviation(row["exact"] for row in run["rounds"])[0]


def last(runs: Iterable[Row]) -> list[Row]:
    """The figures of each run after its last batch."""
    return [run["rounds"][-1] for run in runs]


def of(runs: Iterable[Row], strategy: str) -> list[Row]:
    """The runs of one strategy."""
    return [run for run in runs if run["strategy"] == strategy]


def targets(study: Study) -> Table:
    """What was aimed at, in percent or points, and whether it was reached, in words."""
    rows = []
    for one in study["targets"]:
        outcome = {True: "reached", False: "MISSED", None: "not measured"}[one["holds"]]
        reason = one["reason"] or ("" if one["holds"] else "no reason is recorded")
        bar = f"{one['direction']} {percent(one['bar'])}"
        rows.append([one["name"], percent(one["value"]), bar, outcome, reason])
    return _table("targets", "Targets, in percent or percentage points.", _TARGET_HEAD, rows)


def summary(study: Study) -> Table:
    """A row per data set, protocol and strategy."""
    rows = []
    for one in (row for row in study["summary"] if row["protocol"] in PROTOCOLS):
        rows.append(
            [
                *(one["data"], one["protocol"], strategy_name(one["strategy"]), one["seeds"]),
                *(_with_interval(one, key) for key in ("mean_exact", "final_exact", *_SUMMARY)),
            ]
        )
    head = ["data", "protocol", "strategy", "seeds", "exact match, mean of the rounds", "exact match at the end"]
    caption = "Summary, in percent: mean, and its 95% interval over the seeds (Student’s t) where there are several."
    return _table("summary", caption, [*head, *_SUMMARY.values()], rows, words=3)


def pool(study: Study) -> Table:
    """A row per data set, kind of clips and strategy of the protocol `pool`."""
    rows = []
    for one in (row for row in study["summary"] if row["protocol"] == POOL):
        cells = [one["data"], one["clips"], strategy_name(one["strategy"]), one["seeds"]]
        cells += [_with_interval(one, key) for key in _POOL if key != "certificate_wrong"]
        wrong = UNDEFINED if one["certificate_wrong"] is None else percent(one["certificate_wrong"])
        rows.append([*cells, f"{wrong} of {one['certificate_draws']}"])
    caption = "Decisions, in percent of the pool: mean, and its 95% interval over the seeds (Student’s t)."
    return _table("pool", caption, ["data", "clips", "strategy", "seeds", *_POOL.values()], rows, words=3)


_POOL = {
    "decisions_to_95": "to 95% right",
    "decisions_to_97": "to 97%",
    "decisions_to_99": "to 99%",
    "corrections_per_frame": "corrections until 97%",
    "calibration_error": "calibration error at 97%",
    "certificate_decisions": "to a certificate of 3% at 95%",
    "certificate_error": "wrong in the certified pool",
    "certificate_wrong": "draws whose certificate was wrong, %",
}
_TARGET_HEAD = ["target", "measured", "aimed at", "outcome", "why, where missed"]
_SUMMARY = {
    "full_data_exact": "exact match, all labels",
    "final_share": "labels at the end",
    "label_share_to_reach_mlm_final": "labels to reach MLM’s end",
    "effusion_sensitivity_at_20": "effusion sensitivity at 20% of the labels",
    "manual_share_plain": "by hand, plain pseudo-labels",
    "manual_share_validated": "by hand, validated",
    "manual_audit_plain": "by hand of audit frames, plain",
    "manual_audit_validated": "by hand of audit frames, validated",
}


def data(study: Study) -> Table:
    """What the study was done on."""
    head = ["data", "clips", "patients", "frames", "seconds between frames", "frames a batch", "rounds", "frames with"]
    rows = [
        [
            *(one[key] for key in ("name", "clips", "patients", "frames")),
            f"{one['every_seconds']:.2f}",
            *(one[key] for key in ("k_max", "rounds")),
            ", ".join(f"{symptom}: {count}" for symptom, count in one["positives"].items()),
        ]
        for one in study["data"]
    ]
    return _table("data", "Data sets.", head, rows)


def protocols(study: Study) -> Table:
    """Exact match and macro AUC by both protocols, side by side."""
    rows = []
    for name in [one["name"] for one in study["data"]]:
        for method in ("MSML, all labels", *STRATEGIES):
            by_protocol = []
            for protocol in PROTOCOLS:
                runs = of(here(study["runs"], name, protocol), method)
                by_protocol.append(last(runs) if method in STRATEGIES else here(study["full"], name, protocol))
            if any(by_protocol):
                exact = [[row["exact"] for row in found] for found in by_protocol]
                (frames, _), (patients, _) = (mean_and_deviation(values) for values in exact)
                gap = None if frames is None or patients is None else frames - patients
                areas = [spread([row["auc"] for row in found], 3, 1) for found in by_protocol]
                rows.append([name, strategy_name(method), *(spread(values) for values in exact), percent(gap), *areas])
    head = [*("data", "labels chosen by"), *(f"exact match (%), {name}" for name in PROTOCOLS)]
    head += ["difference (points)", *(f"macro AUC, {name}" for name in PROTOCOLS)]
    caption = "Both protocols side by side, after the last batch: mean ± standard deviation over the seeds."
    return _table("protocols", caption, head, rows, words=2)


def table_i(study: Study, data: str, protocol: str) -> Table:
    """Table I for one data set and protocol, the paper's numbers beside ours."""
    symptoms = next(one["symptoms"] for one in study["data"] if one["name"] == data)
    rows: list[Sequence[Cell]] = []
    missing: dict[str, list[str]] = {}
    for method in _TABLE_I_ROWS:
        found = _results(study, data, protocol, method)
        ours = f"MSML + TSAL ({strategy_name(method)})" if method in STRATEGIES else method
        printed = paper.TABLE_I.get(method.removesuffix("-style"))
        for weights, results in found.items() or [(None, [])]:
            cells = [Cell(ours), Cell(weights or "not run")]
            for symptom in symptoms:
                cells += _triple(results, symptom, printed)
            cells += [
                Cell(spread(row["exact"] for row in results)),
                Cell(spread((row["auc"] for row in results), 3, 1)),
                Cell(percent(_share(results)), f"{printed.share:g}" if printed else ""),
            ]
            rows.append(cells)
        if not found:
            missing.setdefault(_why_not(study, method), []).append(ours)
    heads = [
        [Cell(""), Cell(""), *(Cell(symptom, span=3) for symptom in symptoms), Cell("all symptoms", span=2), Cell("")],
        [Cell("method"), Cell("weights"), *(Cell(one) for _ in symptoms for one in ("acc.", "sens.", "spec."))],
    ]
    heads[1] += [Cell("exact match"), Cell("macro AUC"), Cell("labels")]
    notes = [f"Not run: {', '.join(names)}: {reason}." for reason, names in missing.items()]
    leaks = ", a random split of frames, which leaks near-duplicates" if protocol == "frames" else ""
    caption = f"Table I, {data}, {protocol}{leaks}. Percent, but for the AUC; {_seeds(study, data, protocol)}"
    return Table(f"table-1-{data}-{protocol}", caption, heads, rows, words=2, wide=True, notes=notes)


_TABLE_I_ROWS = (*COMPARED, *STRATEGIES[:3], "MSML", *STRATEGIES[3:])


def table_ii(study: Study, data: str, protocol: str) -> Table:
    """Table II for one data set and protocol: percent of each batch labelled by hand, the paper's beside ours."""
    runs = here(study["runs"], data, protocol)
    iterations = max((len(run["rounds"]) for run in runs), default=0)
    rows = []
    for strategy in BATCHES_OF:
        rounds = [run["rounds"] for run in of(runs, strategy)]
        for name in defaults(strategy, rounds) if rounds else ():
            printed = paper.TABLE_II.get(name, ()) if strategy == "mlm" else ()
            cells = [Cell(strategy_name(strategy)), Cell(DEFAULT_NAMES[name])]
            for place in range(iterations):
                values = [labelled_by_hand(run[place], name) for run in rounds if place < len(run)]
                beside = f"{printed[place]:g}" if place < len(printed) else ""
                cells.append(Cell(percent(mean_and_deviation(values)[0], 0), beside))
            later = [mean_and_deviation(labelled_by_hand(row, name) for row in run[1:])[0] for run in rounds]
            rows.append([*cells, Cell(spread(later))])
    numbers = [str(place + 1) for place in range(iterations)]
    caption = f"Table II, {data}, {protocol}: percent of each batch labelled by hand, mean of the seeds, by iteration."
    head = [Cell(text) for text in ("batches of", "default annotation", *numbers, "mean from the second on")]
    return Table(f"table-2-{data}-{protocol}", caption, [head], rows, words=2, wide=True)


def choices(study: Study) -> Table:
    """How often `adaptive` chose which strategy and which validator."""
    rows = []
    for name, protocol in places(study):
        runs = of(here(study["runs"], name, protocol), "adaptive")
        batches = [row for run in runs for row in run["rounds"] if row["validator"] is not None]
        if batches:
            rows.append([name, protocol, *(_counted(row[key] for row in batches) for key in ("strategy", "validator"))])
    head = ["data", "protocol", "strategies, batches", "validators, batches"]
    return _table("choices", "What adaptive chose, from the second batch on.", head, rows, words=4)


def ablation(study: Study) -> Table:
    """What each part buys."""
    head = [
        "part",
        "variant",
        "data",
        "protocol",
        "exact match, mean of the rounds",
        "exact match at the end",
        "by hand",
    ]
    rows = [
        [*names, *(spread(row[key] for row in found) for key in ("mean_exact", "final_exact", "manual_share"))]
        for names, found in _grouped(study["ablation"], ("part", "variant", "data", "protocol"))
    ]
    return _table("ablation", "Each part on and off, in percent.", head, rows, words=4)


def rare(study: Study) -> Table:
    """What mends the sensitivity to rare symptoms."""
    symptoms = list(dict.fromkeys(symptom for row in study["rare"] for symptom in row["symptoms"]))
    rows = []
    for names, found in _grouped(study["rare"], ("data", "protocol", "variant")):
        cells = [Cell(name) for name in names]
        for symptom in symptoms:
            cells += _triple(found, symptom, None)
        rows.append([*cells, Cell(spread(row["exact"] for row in found))])
    heads = [
        [Cell("", span=3), *(Cell(symptom, span=3) for symptom in symptoms), Cell("")],
        [Cell(text) for text in ("data", "protocol", "training")],
    ]
    heads[1] += [*(Cell(one) for _ in symptoms for one in ("acc.", "sens.", "spec.")), Cell("exact match")]
    caption = "Rare symptoms, at 20% of the labels, in percent."
    return Table("rare", caption, heads, rows, words=3, wide=True)


def calibration(study: Study) -> Table:
    """Expected calibration error before and after a temperature per symptom."""
    rows = []
    for names, found in _grouped(study["calibration"], ("data", "protocol", "symptom")):
        temperature = spread((row["temperature"] for row in found), 2, 1)
        rows.append([*names, temperature, *(spread((row[key] for row in found), 3, 1) for key in _ERRORS)])
    head = ["data", "protocol", "symptom", "temperature", "error before", "error after"]
    return _table("calibration", "Expected calibration error, from 0 (none) to 1.", head, rows, words=3)


_ERRORS = ("ece_before", "ece_after")


def settings(study: Study) -> Table:
    """Settings, versions and the machine."""
    rows = [["setting", name, value] for name, value in study["settings"].items()]
    rows += [["version", name, value] for name, value in study["versions"].items()]
    rows += [["machine", name, value] for name, value in study["machine"].items()]
    return _table("settings", "Settings, versions, machine.", ["kind", "name", "value"], rows, words=3)


def _table(name: str, caption: str, head: Sequence[str], rows: Sequence[Sequence[Any]], words: int = 1) -> Table:
    cells = [[Cell(UNDEFINED if value is None else str(value)) for value in row] for row in rows]
    return Table(name, caption, [[Cell(text) for text in head]], cells, words)


def _with_interval(row: Row, key: str) -> str:
    interval = row["intervals"].get(key)
    return percent(row[key]) + (f" ({percent(interval[0])} to {percent(interval[1])})" if interval else "")


def _results(study: Study, data: str, protocol: str, method: str) -> dict[str, list[Row]]:
    """The figures of each seed after all labels, or after the last batch, by the weights that were started from."""
    if method in STRATEGIES:
        rows = [run | run["rounds"][-1] for run in of(here(study["runs"], data, protocol), method)]
    else:
        kind = "full" if method == "MSML" else "methods"
        rows = [row for row in here(study[kind], data, protocol) if row["method"] == method]
    by_weights: dict[str, list[Row]] = {}
    for row in rows:
        by_weights.setdefault(row["weights"], []).append(row)
    return by_weights


def _triple(results: Sequence[Row], symptom: str, printed: paper.Row | None) -> list[Cell]:
    known = dict(zip(paper.SYMPTOMS, printed.figures, strict=True)) if printed else {}
    beside = [f"{value:g}" for value in known.get(symptom, ())] or [""] * len(MEASURES)
    return [
        Cell(spread(row["symptoms"].get(symptom, {}).get(measure) for row in results), text)
        for measure, text in zip(MEASURES, beside, strict=True)
    ]


def _share(results: Sequence[Row]) -> float | None:
    return fmean(row.get("share", 1.0) for row in results) if results else None


def _why_not(study: Study, method: str) -> str:
    reasons = [str(one["reason"]) for one in study["not_run"] if one["method"] == method]
    return reasons[0] if reasons else "it was not part of this study"


def _seeds(study: Study, data: str, protocol: str) -> str:
    seeds = {row["seed"] for kind in ("runs", "full", "methods") for row in here(study[kind], data, protocol)}
    return f"mean ± standard deviation over the seeds {', '.join(map(str, sorted(seeds)))}."


def _counted(names: Iterable[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in Counter(names).most_common())


def _grouped(rows: Iterable[Row], keys: Sequence[str]) -> list[tuple[tuple[str, ...], list[Mapping[str, Any]]]]:
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(str(row[key]) for key in keys), []).append(row)
    return list(groups.items())
