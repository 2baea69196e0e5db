"""From the results of all parts to `study.json`: figures by their kind, the summary, what was aimed at and missed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from studies.figures import t_interval
from studies.plan import ABLATIONS, COVERS, NEW_PATIENTS, RARE, STRATEGIES, Part

EFFUSION = "Pleural effusion"
EARLY_SHARE = 0.2
FIRST_ROUNDS = 5
NO_TICKS = "No round after the first had ticks: its batches hold too few frames to train a version."
_VALIDATORS = {
    "plain": "plain pseudo-labels",
    "table": "the paper's table",
    "strengths": "the table that keeps strengths",
    "validated": "the one that adaptive chose",
}
WORTH = 0.01  # a smaller difference of calibration error or sensitivity is no reason to change anything
Row = dict[str, Any]


def collect(parts: Sequence[Part], results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sort the results by kind, as `study.json` has them."""
    by_kind: dict[str, list[Row]] = defaultdict(list)
    for part, result in zip(parts, results, strict=True):
        by_kind[part.kind].append(dict(result))
    runs = [row | {"strategy": row["what"]} for row in by_kind["run"]]
    pools = [dict(row) for row in by_kind["pool"]]
    own = [row for row in runs if row["strategy"] == "mlm-diverse"]
    sides = {(row["data"], row["protocol"], row["seed"]) for row in by_kind["rare"] + by_kind["ablation"]}
    plain = [row for row in own if _place(row) in sides]
    calibrated = [
        {key: row[key] for key in ("data", "protocol", "seed")} | symptom
        for row in by_kind["calibration"]
        for symptom in row["symptoms"]
    ]
    return {
        "runs": runs,
        "pool": pools,
        "full": [row | {"method": "MSML"} for row in by_kind["full"]],
        "methods": [row | {"method": row["what"], "share": 1.0} for row in by_kind["compared"]],
        "ablation": _ablation(by_kind["ablation"], plain, by_kind["trained layers"], runs),
        "rare": _rare(by_kind["rare"], plain),
        "calibration": calibrated,
        "new_patients": [
            {key: row[key] for key in ("data", "seed")} | way for row in by_kind[NEW_PATIENTS] for way in row["ways"]
        ],
        "maps": [drawn for row in by_kind["maps"] for drawn in row["maps"]],
    }


def summary(collected: Mapping[str, Any]) -> list[Row]:
    """A row per data set, protocol and strategy: means over the seeds, None where undefined, and their intervals.

    ``intervals`` holds the 95% interval of each mean by Student's t over the seeds, None with a single one.
    """
    rows = []
    for data, protocol in sorted({(run["data"], run["protocol"]) for run in collected["runs"]}):
        chosen = [run for run in collected["runs"] if (run["data"], run["protocol"]) == (data, protocol)]
        full = [row["exact"] for row in collected["full"] if (row["data"], row["protocol"]) == (data, protocol)]
        goal = _mean(run["rounds"][-1]["exact"] for run in chosen if run["strategy"] == "mlm")
        for strategy in STRATEGIES:
            runs = [run for run in chosen if run["strategy"] == strategy]
            if not runs:
                continue
            figures = {"full_data_exact": full} | _by_seed(runs)
            rows.append(
                {"data": data, "protocol": protocol, "strategy": strategy, "seeds": len(runs)}
                | {name: _mean(values) for name, values in figures.items()}
                | {"label_share_to_reach_mlm_final": _reached(runs, goal)}
                | {"intervals": {name: t_interval(values) for name, values in figures.items()}}
            )
    return rows


def _by_seed(runs: Sequence[Row]) -> dict[str, list[float | None]]:
    """The figures of a strategy that have one value a seed.

    Shares labelled by hand are of whole batches, as the paper has them, and of their audit frames, which are a uniform
    sample and do not depend on the strategy.
    """
    figures = {
        "mean_exact": [_mean(_curve(run)) for run in runs],
        "final_exact": [run["rounds"][-1]["exact"] for run in runs],
        "final_share": [run["rounds"][-1]["share"] for run in runs],
        "effusion_sensitivity_at_20": [_effusion(run) for run in runs],
    }
    for name in ("plain", "table", "strengths", "memory", "validated"):
        validator = "chosen" if name == "validated" else name
        figures[f"manual_share_{name}"] = [_manual(run, validator) for run in runs]
        figures[f"manual_audit_{name}"] = [_manual(run, validator, "manual_audit") for run in runs]
    return figures


def targets(collected: Mapping[str, Any]) -> list[Row]:
    """What was aimed at, per data set, protocol `frames`, whether it holds, and where not, what the figures say why."""
    found: list[Row] = []
    rows = summary(collected)
    for data in sorted({row["data"] for row in rows}):
        by = {row["strategy"]: row for row in rows if (row["data"], row["protocol"]) == (data, "frames")}
        if not {"mlm", "mlm-diverse", "random", "adaptive"} <= by.keys():
            continue
        mlm, own, chance, adaptive = (by[name] for name in ("mlm", "mlm-diverse", "random", "adaptive"))
        best = max(row["mean_exact"] for name, row in by.items() if name not in ("adaptive", *COVERS))
        shares = [adaptive[f"manual_share_{name}"] for name in ("plain", "table", "strengths")]
        least = None if None in shares else min(shares)
        reached = own["label_share_to_reach_mlm_final"]
        add = _adder(found, data)
        blind, lost = _blind(collected, data), _lost(collected, data, own)
        below = mlm["full_data_exact"] - mlm["final_exact"]
        add("MLM's final exact match below full data's", below, 0.02, False, blind)
        for name, other in (("MLM", mlm), ("random", chance)):
            ahead = own["mean_exact"] - other["mean_exact"]
            room = f"{name} leaves {own['full_data_exact'] - other['mean_exact']:.3f} to full data. {lost}"
            add(f"mlm-diverse's mean exact match above {name}'s", ahead, 0.08, True, room)
        share = reached / mlm["final_share"] if reached is not None else None
        name = "labels that mlm-diverse needs for MLM's final exact match, of MLM's"
        add(name, share, 0.6, False, f"Its curve ends at {own['final_exact']:.3f}, MLM's at {mlm['final_exact']:.3f}.")
        less = _difference(mlm["manual_share_table"], mlm["manual_share_plain"])
        name = "manual share with confidence validation above plain pseudo-labels' (MLM)"
        add(name, less, 0.0, False, _together(collected, data))
        if own["effusion_sensitivity_at_20"] is not None:
            sensitivity = own["effusion_sensitivity_at_20"]
            few = _positives(collected, data, EFFUSION)
            add("pleural-effusion sensitivity at 20% of the labels (mlm-diverse)", sensitivity, 0.5, True, few)
        spread = f"Single seeds of one strategy differ by {_deviation(collected, data, 'adaptive'):.3f}."
        lag = best - adaptive["mean_exact"]
        add("adaptive's mean exact match below the best single strategy's", lag, 0.01, False, spread)
        above = adaptive["mean_exact"] - chance["mean_exact"]
        add("adaptive's mean exact match above random's", above, 0.02, True, f"{lost} {spread}")
        more = _difference(adaptive["manual_share_validated"], least)
        late = "It learns which validator serves best from batches that were labelled already."
        late = NO_TICKS if more is None else late
        add("adaptive's manual share above the best validator's", more, 0.01, False, late)
    return found


def decisions(collected: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, str]:
    """What the numbers say about the product's defaults, in words."""
    words: dict[str, str] = {}
    before, after = (_mean(row[f"ece_{when}"] for row in collected["calibration"]) for when in ("before", "after"))
    if before is not None and after is not None:
        gain = "helps" if after < before - WORTH else "changes little" if after < before + WORTH else "harms"
        words["calibration"] = (
            f"A temperature per label, fitted on held-out patients, {gain} on other patients: expected calibration "
            f"error {before:.3f} before and {after:.3f} after, over all symptoms and seeds. So the margin should use "
            + (
                "the corrected probabilities."
                if after < before - WORTH
                else "the probabilities as the network gives them."
            )
        )
    by_place: dict[str, list[str]] = defaultdict(list)
    for data, protocol in sorted({(row["data"], row["protocol"]) for row in rows}):
        here = {
            row["strategy"]: row["mean_exact"] for row in rows if (row["data"], row["protocol"]) == (data, protocol)
        }
        if None in here.values() or "adaptive" not in here:  # nobody in the test, or not all was run
            continue
        best = max(here, key=lambda name: here[name])
        by_place["strategy"].append(f"{data}, {protocol}: {best} ({here[best]:.3f}, adaptive {here['adaptive']:.3f})")
        row = next(
            one for one in rows if (one["data"], one["protocol"], one["strategy"]) == (data, protocol, "adaptive")
        )
        shares = {name: row[f"manual_share_{name}"] for name in ("plain", "table", "strengths", "validated")}
        if None not in shares.values():
            listed = ", ".join(f"{_VALIDATORS[name]} {value:.2f}" for name, value in shares.items())
            by_place["validator"].append(f"{data}, {protocol}: {listed}")
    if by_place["strategy"]:
        words["strategy"] = "Highest mean exact match: " + "; ".join(by_place["strategy"]) + "."
    if by_place["validator"]:
        words["validator"] = (
            "Share of each batch labelled by hand under adaptive selection, by what made the pseudo-labels: "
            + "; ".join(by_place["validator"])
            + "."
        )
    variants = {row["variant"] for row in collected["rare"]}
    figures: list[str] = []
    sensitivities: dict[str, float] = {}
    for variant in sorted(variants):
        chosen = [row for row in collected["rare"] if row["variant"] == variant]
        sensitivity = _mean(row["symptoms"].get(EFFUSION, {}).get("sensitivity") for row in chosen)
        accuracy = _mean(figure["accuracy"] for row in chosen for figure in row["symptoms"].values())
        if sensitivity is not None and accuracy is not None:
            sensitivities[variant] = sensitivity
            figures.append(f"{variant}: pleural-effusion sensitivity {sensitivity:.2f}, mean accuracy {accuracy:.3f}")
    if figures:
        words["rare"] = "At 20% of the labels, " + "; ".join(figures) + "."
        plain, weighted = (sensitivities.get(variant) for variant, _ in RARE)
        if plain is not None and weighted is not None and weighted < plain + WORTH:
            words["rare"] += " Positive weights do not mend it, so the plain loss stays."
    return words


def _adder(found: list[Row], data: str) -> Any:
    def add(name: str, value: float | None, bar: float, at_least: bool, reason: str) -> None:
        holds = None if value is None else bool(value >= bar - 1e-9 if at_least else value <= bar + 1e-9)
        direction = "at least" if at_least else "at most"
        name = f"{data}: {name}"
        shown = "" if holds else reason.strip()
        found.append(
            {"name": name, "value": value, "bar": bar, "direction": direction, "holds": holds, "reason": shown}
        )

    return add


def _blind(collected: Mapping[str, Any], data: str) -> str:
    """Where MLM's last version is furthest below full data: the symptoms that its margin does not ask about."""
    full = _accuracies([row for row in collected["full"] if (row["data"], row["protocol"]) == (data, "frames")])
    last = {name: _accuracies([row["rounds"][-1] for row in _of(collected, data, name)]) for name in ("mlm", "mle")}
    common = full.keys() & last["mlm"].keys()
    if not common:
        return ""
    worst = max(sorted(common), key=lambda symptom: full[symptom] - last["mlm"][symptom])
    words = (
        "The margin compares the healthy label with the strongest other one and does not ask which others are there: "
        f"MLM is furthest below full data in {worst}, accuracy {last['mlm'][worst]:.3f} against {full[worst]:.3f}"
    )
    entropy = last["mle"].get(worst)
    return (
        f"{words}; MLE, which looks at every label, ends there at {entropy:.3f}."
        if entropy is not None
        else words + "."
    )


def _lost(collected: Mapping[str, Any], data: str, own: Row) -> str:
    """How much of what mlm-diverse lacks to full data is lost in its first five rounds."""
    curves = [_curve(run) for run in _of(collected, data, "mlm-diverse")]
    length = min(len(curve) for curve in curves)
    missing = np.maximum(own["full_data_exact"] - np.mean([curve[:length] for curve in curves], axis=0), 0.0)
    if missing.sum() == 0:
        return ""
    return (
        f"{missing[:FIRST_ROUNDS].sum() / missing.sum():.0%} of what mlm-diverse lacks to full data is lost in its "
        f"first {FIRST_ROUNDS} rounds."
    )


def _together(collected: Mapping[str, Any], data: str) -> str:
    """Why the table does as it does on this set: compare it with the one that keeps strengths."""
    shares = {
        name: _mean(_manual(run, name) for run in _of(collected, data, "mlm"))
        for name in ("plain", "table", "strengths")
    }
    if None in shares.values():
        return NO_TICKS
    listed = ", ".join(f"{_VALIDATORS[name]} {share:.3f}" for name, share in shares.items())
    return (
        "Rows of the table are divided by their sum and forget how strong the probabilities were, which costs most "
        f"where symptoms come together: {listed}."
    )


def _positives(collected: Mapping[str, Any], data: str, symptom: str) -> str:
    found = _mean(_early(run)["exact"] for run in _of(collected, data, "mlm-diverse"))
    return "" if found is None else f"{symptom} is rare; with so few labels {found:.3f} of all frames are right."


def _deviation(collected: Mapping[str, Any], data: str, strategy: str) -> float:
    means = [_curve(run).mean() for run in _of(collected, data, strategy)]
    return float(np.std(means, ddof=1)) if len(means) > 1 else 0.0


def _of(collected: Mapping[str, Any], data: str, strategy: str) -> list[Row]:
    return [
        run
        for run in collected["runs"]
        if (run["data"], run["protocol"], run["strategy"]) == (data, "frames", strategy)
    ]


def _accuracies(rows: Sequence[Row]) -> dict[str, float]:
    """Mean accuracy of each symptom."""
    symptoms = rows[0]["symptoms"] if rows else {}
    return {symptom: float(np.mean([row["symptoms"][symptom]["accuracy"] for row in rows])) for symptom in symptoms}


def _ablation(changed: Sequence[Row], plain: Sequence[Row], layers: Sequence[Row], runs: Sequence[Row]) -> list[Row]:
    rows: list[Row] = []
    for part, variant, options in ABLATIONS:
        chosen = [row for row in changed if row["what"] == f"{part}: {variant}"] if options else plain
        rows += [_shown(row, part, variant, "chosen") for row in chosen]
    for row in runs:
        if row["strategy"] == "mlm":
            rows.append(_shown(row, "confidence validation", "off", "plain"))
            rows.append(_shown(row, "confidence validation", "on", "table"))
            rows.append(_shown(row, "rule (9)", "with", "table"))
            rows.append(_shown(row, "rule (9)", "without", "table without rule (9)"))
    rows += [
        {key: row[key] for key in ("data", "protocol", "seed")}
        | {"part": "trained layers", "variant": row["what"], "mean_exact": None}
        | {"final_exact": row["exact"], "manual_share": None}
        for row in layers
    ]
    return rows


def _shown(row: Row, part: str, variant: str, validator: str) -> Row:
    return {key: row[key] for key in ("data", "protocol", "seed")} | {
        "part": part,
        "variant": variant,
        "mean_exact": _mean([_curve(row).mean()]),
        "final_exact": row["rounds"][-1]["exact"],
        "manual_share": _manual(row, validator),
    }


def _rare(changed: Sequence[Row], plain: Sequence[Row]) -> list[Row]:
    rows = []
    for variant, options in RARE:
        for row in [one for one in changed if one["what"] == variant] if options else plain:
            early = _early(row)
            rows.append(
                {key: row[key] for key in ("data", "protocol", "seed")}
                | {"variant": variant, "exact": early["exact"], "symptoms": early["symptoms"]}
            )
    return rows


def _place(row: Row) -> tuple[str, str, int]:
    return (row["data"], row["protocol"], row["seed"])


def _curve(run: Row) -> Any:
    return np.array([one["exact"] for one in run["rounds"]], float)


def _manual(run: Row, validator: str, sample: str = "manual") -> float | None:
    return _mean(one[sample].get(validator) for one in run["rounds"] if one.get(sample))


def _early(run: Row) -> Row:
    """The first round with a fifth of the pool labelled, or the last."""
    found: Row = next((one for one in run["rounds"] if one["share"] >= EARLY_SHARE), run["rounds"][-1])
    return found


def _effusion(run: Row) -> float | None:
    value: float | None = _early(run)["symptoms"].get(EFFUSION, {}).get("sensitivity")
    return value


def _reached(runs: Sequence[Row], goal: float | None) -> float | None:
    """The share of labels with which the strategies' mean curve reaches the goal, None where it never does."""
    length = min(len(run["rounds"]) for run in runs)
    curve = np.mean([_curve(run)[:length] for run in runs], axis=0)
    share = np.mean([[one["share"] for one in run["rounds"][:length]] for run in runs], axis=0)
    if goal is None or not (curve >= goal).any():
        return None
    return float(share[int(np.argmax(curve >= goal))])


def _difference(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def _mean(values: Any) -> float | None:
    """The mean of what is defined."""
    known = [float(value) for value in values if value is not None and not np.isnan(value)]
    return float(np.mean(known)) if known else None
