"""The table of clips, `clips.csv`: which patient each file shows, and the symptoms of those that are labelled."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ml_backend.errors import InvalidRequest

_DELIMITERS = (",", ";", "\t")  # what spreadsheets write, depending on the country


@dataclass(frozen=True)
class ClipRow:
    """One clip: its file, its patient (empty: unknown), and a 0 or 1 for each symptom (None: not labelled)."""

    file: str
    patient: str
    labels: tuple[int, ...] | None


@dataclass(frozen=True)
class ClipTable:
    """The rows of a table; ``labels`` of a row follow ``symptoms``, those of the symptoms asked for that it records."""

    symptoms: tuple[str, ...]
    rows: tuple[ClipRow, ...]

    @property
    def patients(self) -> dict[str, str]:
        """The patient of each file whose patient is known."""
        return {row.file: row.patient for row in self.rows if row.patient}


def column(symptom: str) -> str:
    """The name that a symptom has in a table and as the file of its example: `Pleural lesion` -> `pleural_lesion`."""
    return re.sub(r"[^a-z0-9]+", "_", symptom.lower()).strip("_")


def read_clip_table(path: Path, symptoms: Sequence[str] = ()) -> ClipTable:
    """Read a table with the columns ``file`` and ``patient``, one for each symptom (see `column`), and ``labelled``.

    ``file`` is a file's name or its path below the imported folder, with slashes or backslashes. Symptoms without a
    column are left out. A clip is labelled if ``labelled`` is 1 or there is no such column. Columns are separated by
    commas, semicolons or tabs. InvalidRequest names the line and the column that cannot be used.
    """
    with opened(path) as table:
        there = table.fieldnames or ()
        if missing := {"file", "patient"} - set(there):
            raise InvalidRequest(
                f"{path}: the column {' and the column '.join(sorted(missing))} is missing; the first line names the "
                f"columns, and has {', '.join(there) or 'none'}"
            )
        recorded = tuple(symptom for symptom in symptoms if column(symptom) in there)
        rows: dict[str, ClipRow] = {}
        for cells in table:
            if None in cells:
                raise InvalidRequest(
                    f"{path}, line {table.line_num} has more values than there are columns; put a value that contains "
                    f"“{table.reader.dialect.delimiter}” in quotes"
                )
            row = _row(f"{path}, line {table.line_num}", cells, recorded)
            if row.file in rows:
                raise InvalidRequest(f"{path}, line {table.line_num}: {row.file} is listed twice: remove one line")
            if row.file:
                rows[row.file] = row
    return ClipTable(recorded, tuple(rows.values()))


@contextmanager
def opened(path: Path) -> Iterator[csv.DictReader[str]]:
    """Open a table for a ``with`` block that reads its rows: UTF-8, separated by commas, semicolons or tabs.

    Names of columns are in lower case; a cell that a row lacks is empty. InvalidRequest where the file cannot be read,
    or in the block turns out not to be such a table.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InvalidRequest(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path} is not UTF-8 ({error.reason}): save it as “CSV UTF-8”") from error
    head = text.partition("\n")[0]
    lines = io.StringIO(text)  # str.splitlines would also end lines at form feeds and the like
    table = csv.DictReader(lines, delimiter=max(_DELIMITERS, key=head.count), restval="", strict=True)
    try:
        table.fieldnames = [name.strip().lower() for name in table.fieldnames or ()]
        yield table
    except csv.Error as error:
        raise InvalidRequest(f"{path}, line {table.line_num}: {error}") from error


def _row(where: str, cells: dict[str, str], symptoms: Sequence[str]) -> ClipRow:
    file, patient = cells["file"].strip().replace("\\", "/").removeprefix("./"), cells["patient"].strip()
    where = f"{where}: {file}"
    labelled = _flag(where, "labelled", cells["labelled"] or "0") if "labelled" in cells else 1
    if not (file and labelled and symptoms):
        return ClipRow(file, patient, None)
    if not patient:
        raise InvalidRequest(f"{where} is labelled and has no patient; name one, because clips are split by patient")
    return ClipRow(file, patient, tuple(_flag(where, column(name), cells[column(name)]) for name in symptoms))


def _flag(where: str, name: str, value: str) -> int:
    if value.strip() not in ("0", "1"):
        raise InvalidRequest(f"{where} has {value!r} in the column {name}; write 0 or 1")
    return int(value)
