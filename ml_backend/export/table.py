"""The table of an export: its columns, and the table as CSV."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ml_backend.export.dataset import Dataset
from ml_backend.export.rows import Row

FILE = "labels.csv"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
LABEL = "label_"
"""How the names of the columns begin that hold labels."""
Value = int | float | str | bool | None


@dataclass(frozen=True)
class Column:
    """A column: its name, the type of its values as Arrow calls it, what it means, and its value for a row."""

    name: str
    type: Literal["int64", "int8", "float64", "string", "bool"]
    meaning: str
    of: Callable[[Row], Value]


def columns(symptoms: Sequence[str]) -> list[Column]:
    """Return the columns of the table; values that do not apply are None."""
    return [
        Column("task", "int64", "number of the task in Label Studio", lambda row: row.task),
        Column("image", "string", "the picture: its path in this folder, or its address", lambda row: row.image),
        Column("split", "string", "train, validation or test: by patient", lambda row: row.split),
        Column("patient", "string", "pseudonym of the patient", lambda row: row.patient),
        Column("clip", "string", "pseudonym of the clip", lambda row: row.clip),
        Column("time", "float64", "time of the frame in its clip, in seconds", lambda row: row.time),
        *(_label(place, name) for place, name in enumerate(symptoms)),
        Column("source", "string", "where the label comes from", lambda row: row.label.source),
        Column(
            "method",
            "string",
            "what the machine's label rests on; of an imported label, the table",
            lambda row: row.label.method or None,
        ),
        Column("annotator", "string", "who submitted it", lambda row: row.annotator or None),
        Column("at", "string", "when it was given (ISO 8601)", lambda row: row.label.at or None),
        Column("confidence", "float64", "how sure the machine was, 0 to 1", lambda row: row.label.confidence),
        Column("version", "string", "the model version that made it", lambda row: row.label.version or None),
        Column("audited", "bool", "whether the frame was drawn at random for an audit", lambda row: row.audited),
        Column("certificate", "int64", "number of the certificate that covers it", lambda row: row.label.certificate),
    ]


def write_csv(folder: Path, dataset: Dataset) -> None:
    """Write the table as CSV, UTF-8; values that do not apply are empty, texts like formulas get an apostrophe."""
    wanted = columns(dataset.symptoms)
    with (folder / FILE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([one.name for one in wanted])
        writer.writerows(list(_cells(wanted, row)) for row in dataset.rows.rows)


def _label(place: int, name: str) -> Column:
    return Column(
        LABEL + name, "int8", f"{name}: 1 present, 0 absent, empty unknown", lambda row: row.label.symptoms[place]
    )


def _cells(wanted: Sequence[Column], row: Row) -> Iterator[Value]:
    for column in wanted:
        value = column.of(row)
        if column.type == "bool":
            yield str(value).lower()
        else:
            yield _text(value) if isinstance(value, str) else value


def _text(value: str) -> str:
    """Return a text that no spreadsheet takes for a formula, to compute or fetch what it says."""
    # A carriage return would end the row for many readers, and not every release of Python quotes it.
    return ("'" if value.startswith(_FORMULA) else "") + value.replace("\r", " ")
