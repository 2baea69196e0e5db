"""The table of labels that a team has already: a row a frame, or a row a clip, with a column for each symptom."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ml_backend.errors import InvalidRequest
from ml_backend.ingest.clip_table import column, opened

NAMES = ("image", "file", "clip")
"""Columns of which one names the frame, or its clip; the first that has a value in a row counts."""
PLACES = ("frame", "time")
"""Columns of which one says which frame of the clip it is."""
ABOUT = ("annotator", "date", "labelled")
_YES, _NO = ("1", "yes", "true"), ("0", "no", "false")


@dataclass(frozen=True)
class LabelRow:
    """A line of the table.

    ``name`` of a picture, a file or a clip; ``frame``: the frame's number in the clip; ``time`` in it, in seconds; both
    None where the row is about the picture or the whole clip. ``labels``: a 0 or 1 for each symptom.
    """

    line: int
    name: str
    labels: tuple[int, ...]
    frame: int | None = None
    time: float | None = None
    annotator: str = ""
    date: str = ""


@dataclass(frozen=True)
class LabelTable:
    """The rows of a table, and what is wrong with others, by line.

    ``not_assessed``: the number of lines without a label; ``ignored``: columns that mean nothing here.
    """

    rows: tuple[LabelRow, ...]
    problems: Mapping[int, str]
    not_assessed: int
    ignored: tuple[str, ...]


def read_label_table(path: Path, symptoms: Sequence[tuple[str, str]]) -> LabelTable:
    """Read a table of labels; ``symptoms``: name and stored value of each, and the column is called by one of them.

    A row with an empty symptom, or with 0 under ``labelled``, is not assessed. A value that cannot be used costs only
    its row. Raises InvalidRequest where the file cannot be read, or a column is missing.
    """
    with opened(path) as table:
        heads: dict[str, str] = {}
        for name in filter(column, table.fieldnames or ()):
            if column(name) in heads:
                raise InvalidRequest(f"{path} has the column {name} twice: remove one")
            heads[column(name)] = name
        columns = [_column(heads, both) for both in symptoms]
        missing = [name for (name, _), found in zip(symptoms, columns, strict=True) if found is None]
        known = [name for name in NAMES if name in heads]
        if missing or not known:
            what = f"columns for {', '.join(missing)}" if missing else f"a column {' or '.join(NAMES)}"
            raise InvalidRequest(
                f"{path} lacks {what}; the first line names the columns, and has {', '.join(heads.values()) or 'none'}."
                " A label needs an answer for every symptom of the project"
            )
        rows: list[LabelRow] = []
        problems: dict[int, str] = {}
        not_assessed = 0
        for cells in table:
            line = table.line_num
            try:
                row = _row(line, {column(name): value for name, value in cells.items() if name}, columns)
            except ValueError as error:
                problems[line] = str(error)
                continue
            if None in cells:
                problems[line] = "has more values than there are columns"
            elif row is None:
                not_assessed += 1
            else:
                rows.append(row)
    used = {*filter(None, columns), *NAMES, *PLACES, *ABOUT}
    return LabelTable(tuple(rows), problems, not_assessed, tuple(heads[name] for name in heads if name not in used))


def _column(heads: Mapping[str, str], both: tuple[str, str]) -> str | None:
    return next((column(name) for name in both if column(name) in heads), None)


def _row(line: int, cells: Mapping[str, str], columns: Sequence[str | None]) -> LabelRow | None:
    """Read a row, None where it is not assessed; raises ValueError with what is wrong."""
    values = [cells[name].strip() for name in columns if name is not None]
    if "" in values or (cells.get("labelled") or "1").strip() in _NO:
        return None
    labels = tuple(_flag(name or "", value) for name, value in zip(columns, values, strict=True))
    name = next((cells[one].strip() for one in NAMES if (cells.get(one) or "").strip()), "")
    if not name:
        raise ValueError(f"names no {' or '.join(NAMES)}")
    frame, time = (cells.get(one, "").strip() for one in PLACES)
    return LabelRow(
        line,
        name.replace("\\", "/").removeprefix("./"),
        labels,
        _number(frame) if frame else None,
        _seconds(time) if time and not frame else None,
        cells.get("annotator", "").strip(),
        cells.get("date", "").strip(),
    )


def _flag(name: str, value: str) -> int:
    if value.casefold() in _YES:
        return 1
    if value.casefold() in _NO:
        return 0
    raise ValueError(f"has {value!r} in the column {name}: write {', '.join((*_YES, *_NO))}, or nothing")


def _number(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"has {text!r} in the column frame: write a whole number")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise ValueError(f"has {text!r} in the column time: write seconds")
    return seconds
