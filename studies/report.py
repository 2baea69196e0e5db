"""The report that a person reads: one HTML file with its figures inside, which needs no network."""

from __future__ import annotations

import base64
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from ml_backend.store.versions import write_aside
from studies import tables
from studies.figures import BATCHES_OF, Row, Study, here, mean_and_deviation
from studies.tables import STRATEGY_NAMES, percent

TEMPLATE = Path(__file__).with_name("report.html")


def write(study: Study, folder: Path) -> Path:
    """Write ``folder/report.html`` from a study and the PNG files that `figures.write` left; returns its path.

    A figure that is not there is said to be missing. All text is escaped, and the page forbids itself every address.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        study=study,
        tables=tables,
        places=tables.places(study),
        batches_of=BATCHES_OF,
        answers=answers(study),
        gaps=gaps(study),
        reached=sum(one["holds"] is True for one in study["targets"]),
        percent=percent,
        embedded=lambda name: _embedded(folder / name),
    )
    write_aside(folder / "report.html", page)
    return folder / "report.html"


def answers(study: Study) -> list[tuple[str, str]]:
    """What came out: a data set with its protocol, and a sentence."""
    found = []
    for data, protocol in tables.places(study):
        rows = [one for one in here(study["summary"], data, protocol) if one["mean_exact"] is not None]
        if rows:
            ranked = sorted(rows, key=lambda one: -one["mean_exact"])
            means = ", ".join(f"{_name(one)} {percent(one['mean_exact'])}%" for one in ranked)
            end = max(rows, key=lambda one: one["final_exact"] or 0)
            sentence = (
                f"frames of which every symptom is right, mean of the rounds: {means}. After the last batch "
                f"{_name(end)} is best with {percent(end['final_exact'])}%; all labels give "
                f"{percent(end['full_data_exact'])}%."
            )
            found.append((f"{data}, {protocol}", sentence))
    return found


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
    strategy: str = row["strategy"]
    return STRATEGY_NAMES.get(strategy, strategy)


def _embedded(path: Path) -> str | None:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode() if path.is_file() else None
