"""The protocol `pool` in `study.json`: means over the seeds with their intervals, and what was aimed at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from studies.figures import t_interval
from studies.peers import PEERS
from studies.plan import POOL
from studies.pool import STRATEGIES
from studies.team import CLIPS

Row = dict[str, Any]
GOALS = (0.95, 0.97, 0.99)
OURS = "cover"

_BARS = {
    ("blues", "known", "decisions_to_97"): 0.06,
    ("blues", "hidden", "decisions_to_97"): 0.20,
    ("blues", "sweeps", "decisions_to_97"): 0.10,
    ("pocus", "known", "decisions_to_97"): 0.08,
    ("pocus", "hidden", "decisions_to_97"): 0.11,
    ("breathing", "known", "decisions_to_97"): 0.12,
    ("blues", "known", "certificate_decisions"): 0.11,
    ("blues", "hidden", "certificate_decisions"): 0.30,
    ("blues", "known", "corrections_per_frame"): 0.05,
}
"""The largest share of the pool that is aimed at, by data set, clips and figure."""

_OF_ALL = {"calibration_error": 0.03, "certificate_wrong": 0.05}
_OF_BEST_PEER, _OF_RANDOM = 0.9, 0.5


def summary(runs: Sequence[Row]) -> list[Row]:
    """A row per data set, kind of clips and strategy.

    ``pool_accuracy``: mean over the seeds as (share answered, share right). ``decisions_to_95`` and so on: share of the
    pool answered until so much of it is right, None where a seed never came there. ``corrections_per_frame`` and
    ``calibration_error`` are taken at 97%, or at the end; ``certificate_decisions`` counts all answers, as a share of
    the pool, and ``certificate_wrong`` is the share of all draws after which more was wrong than certified.
    """
    rows = []
    for data in sorted({run["data"] for run in runs}):
        for clips in CLIPS:
            for strategy in STRATEGIES:
                key = (data, clips, strategy)
                chosen = [run for run in runs if (run["data"], run["clips"], run["strategy"]) == key]
                if chosen:
                    rows.append({"data": data, "protocol": POOL, "strategy": strategy, "clips": clips} | _row(chosen))
    return rows


def targets(rows: Sequence[Row]) -> list[Row]:
    """What was aimed at with cover, and whether it holds."""
    found = []
    for row in rows:
        if row["strategy"] != OURS:
            continue
        here = [one for one in rows if (one["data"], one["clips"]) == (row["data"], row["clips"])]
        place = f"{row['data']}, pool, clips {row['clips']}"
        bars = {figure: bar for (data, clips, figure), bar in _BARS.items() if (data, clips) == _kind(row)}
        for figure, bar in (bars | _OF_ALL).items():
            found.append(_target(f"{place}: {figure.replace('_', ' ')}", row[figure], bar))
        mine = row["decisions_to_97"]
        for name, others, bar in (("the best peer's", PEERS, _OF_BEST_PEER), ("random's", ("random",), _OF_RANDOM)):
            theirs = [one["decisions_to_97"] for one in here if one["strategy"] in others]
            known = [value for value in theirs if value is not None]
            if known and mine is not None:
                found.append(_target(f"{place}: decisions to 97 of {name}", mine / min(known), bar))
    return found


def _kind(row: Row) -> tuple[str, str]:
    """Data set and clips by which a bar is found; every set of phantoms that breathe is called breathing-something."""
    return (row["data"].split("-")[0], row["clips"])


def _row(runs: Sequence[Row]) -> Row:
    figures: dict[str, list[float | None]] = {
        f"decisions_to_{round(100 * goal)}": [_reached(run["rounds"], goal) for run in runs] for goal in GOALS
    }
    at = [_at(run["rounds"], 0.97) for run in runs]
    figures["corrections_per_frame"] = [row["corrected"] / run["pool"] for row, run in zip(at, runs, strict=True)]
    figures["calibration_error"] = [row["calibration_error"] for row in at]
    proved = [run["certificate"] for run in runs]
    figures["certificate_decisions"] = [one and one["decisions"] for one in proved]
    figures["certificate_error"] = [one and one["error"] for one in proved]
    draws = sum(one["draws"] for one in proved if one)
    wrong = sum(one["wrong"] for one in proved if one)
    return (
        {"seeds": len(runs), "pool_accuracy": _curve([run["rounds"] for run in runs])}
        | {name: _mean(values) for name, values in figures.items()}
        | {"certificate_wrong": wrong / draws if draws else None, "certificate_draws": draws}
        | {"intervals": {name: None if None in values else t_interval(values) for name, values in figures.items()}}
    )


def _curve(runs: Sequence[Sequence[Mapping[str, Any]]]) -> list[tuple[float, float]]:
    """Mean accuracy by share answered, at the refreshes of the longest run; a run that has ended stays where it was."""
    longest = max(runs, key=len)
    return [
        (row["share"], fmean(run[min(place, len(run) - 1)]["accuracy"] for run in runs))
        for place, row in enumerate(longest)
    ]


def _reached(rounds: Iterable[Mapping[str, Any]], goal: float) -> float | None:
    return next((float(row["share"]) for row in rounds if row["accuracy"] >= goal), None)


def _at(rounds: Sequence[Mapping[str, Any]], goal: float) -> Mapping[str, Any]:
    """The first refresh at which the goal is reached, or the last."""
    return next((row for row in rounds if row["accuracy"] >= goal), rounds[-1])


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean, None where a value is missing."""
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def _target(name: str, value: float | None, bar: float) -> Row:
    holds = value is not None and value <= bar
    reason = "never reached within the budget" if value is None else ""
    return {"name": name, "value": value, "bar": bar, "direction": "at most", "holds": holds, "reason": reason}
