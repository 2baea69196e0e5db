"""The report that a person reads: one HTML file with its figures inside, which needs no network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from ml_backend.store.files import write_aside
from studies import new_patients_table, tables
from studies.figures import Row, Study, here, mean_and_deviation, strategy_name
from studies.plan import POOL
from studies.tables import percent

TEMPLATE = Path(__file__).with_name("report.html")


def write(study: Study, folder: Path) -> Path:
    """Write ``folder/report.html`` from a study and the PNG files that `figures.write` left; returns its path.

    A figure that is not there is said to be missing. All text is escaped, and the page forbids itself every address.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        study=study,
        tables=tables,
        new_patients=new_patients_table.table(study),
        places=tables.places(study),
        answers=answers(study),
        pooled=any(row["protocol"] == POOL for row in study["summary"]),
        gaps=gaps(study),
        reached=sum(one["holds"] is True for one in study["targets"]),
        embedded=lambda name: _embedded(folder / name),
    )
    write_aside(folder / "report.html", page)
    return folder / "report.html"


def answers(study: Study) -> list[tuple[str, str]]:
    """What came out: a data set with its protocol, and in words which way of choosing frames did best there."""
    found = []
    for data, protocol in tables.places(study):
        rows = [one for one in here(study["summary"], data, protocol) if one["mean_exact"] is not None]
        if rows:
            runs = here(study["runs"], data, protocol)
            found.append((f"{data}, {protocol}", " ".join(_answer(rows, runs))))
    return found


def _answer(rows: Sequence[Row], runs: Sequence[Row]) -> list[str]:
    by_strategy = {one["strategy"]: one for one in rows}
    best = max(rows, key=lambda one: one["mean_exact"])
    others = [
        f"{percent(by_strategy[name]['mean_exact'])}% with {strategy_name(name)}"
        for name in ("mlm", "random")
        if name in by_strategy and name != best["strategy"]
    ]
    against = f", against {' and '.join(others)}" if others else ""
    chance = best["strategy"] == "random"
    opening = "No choice of frames does better than chance" if chance else f"Choosing by {_name(best)} does best"
    sentences = [
        f"{opening}: on average over the rounds every symptom is right in {percent(best['mean_exact'])}% of the test "
        f"frames{against}."
    ]
    if "random" in by_strategy and not chance:
        ahead, seeds = _ahead(runs, best["strategy"], "random")
        sentences.append(f"It is ahead of random with {ahead} of {seeds} seeds.")
    others_means = [one["mean_exact"] for one in rows if one is not best]
    deviation = mean_and_deviation(tables.mean_exact(run) for run in tables.of(runs, best["strategy"]))[1]
    if others_means and deviation is not None and best["mean_exact"] - max(others_means) < deviation:
        sentences.append(
            f"The next best strategy is {percent(best['mean_exact'] - max(others_means))} points behind, and seeds of "
            f"one strategy differ by {percent(deviation)}: which of the two is better cannot be told."
        )
    mlm = by_strategy.get("mlm", {}).get("label_share_to_reach_mlm_final")
    mine = best["label_share_to_reach_mlm_final"]
    if mlm is not None and mine is not None and mine < mlm:
        sentences.append(f"It comes where MLM ends with {percent(mine)}% of the labels; MLM needs {percent(mlm)}%.")
    end = max(rows, key=lambda one: one["final_exact"] or 0)
    sentences.append(
        f"After the last batch {_name(end)} is best with {percent(end['final_exact'])}%; training on all labels gives "
        f"{percent(end['full_data_exact'])}%."
    )
    return sentences


def _ahead(runs: Sequence[Row], strategy: str, other: str) -> tuple[int, int]:
    """With how many seeds a strategy has the higher mean over the rounds, and of how many."""
    means = [{run["seed"]: tables.mean_exact(run) for run in tables.of(runs, name)} for name in (strategy, other)]
    pairs = [(mean, means[1].get(seed)) for seed, mean in means[0].items()]
    known = [(mine, theirs) for mine, theirs in pairs if mine is not None and theirs is not None]
    return sum(mine > theirs for mine, theirs in known), len(known)


def gaps(study: Study) -> list[str]:
    """How far apart the protocols are, a sentence per data set that has both."""
    found = []
    for data in [one["name"] for one in study["data"]]:
        frames, patients = (
            mean_and_deviation(row["exact"] for row in here(study["full"], data, protocol))[0]
            for protocol in ("frames", "patients")
        )
        if frames is not None and patients is not None:
            found.append(
                f"On {data}, the network that has seen all labels gets every symptom right in {percent(frames)}% of "
                f"the test frames when frames are divided at random, and in {percent(patients)}% when patients are: "
                f"a difference of {percent(frames - patients)} points."
            )
    return found


def _name(row: Row) -> str:
    return strategy_name(row["strategy"])


def _embedded(path: Path) -> str | None:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode() if path.is_file() else None
