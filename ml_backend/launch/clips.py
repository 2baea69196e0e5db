"""The clips that a demo shows, and what is known of them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import InvalidRequest
from ml_backend.setup.label_configuration import column, render
from ml_backend.studio.configuration import Configuration
from ml_backend.tsal.split import held_out

TEST_SHARE = 0.25


@dataclass(frozen=True)
class Clips:
    """Clips and what is known of them: ``labels`` maps a clip's name to its (l,) uint8 combination."""

    folder: Path
    symptoms: tuple[str, ...]
    patients: dict[str, str]
    labels: dict[str, NDArray[np.uint8]]


def read_clips(folder: Path, table: Path) -> Clips:
    """Read a table of clips: file, patient, a column of 0 and 1 for each symptom, and labelled (1 where it is missing).

    A symptom without a column is left out; so are the labels of clips that are not labelled or not there.

    Raises:
        InvalidRequest: naming what to change in the table.
    """
    symptoms = Configuration.parse(render()).label_names
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidRequest(f"{table} cannot be read: {error}") from None
    columns = {symptom: column(symptom) for symptom in symptoms}
    known = tuple(symptom for symptom in symptoms if rows and columns[symptom] in rows[0])
    if len(known) < 2 or "file" not in rows[0] or "patient" not in rows[0]:
        raise InvalidRequest(
            f"{table} needs rows, and the columns file, patient and two or more of {', '.join(columns.values())}"
        )
    labels = {
        row["file"]: np.array([_label(table, row, columns[symptom]) for symptom in known], np.uint8)
        for row in rows
        if row.get("labelled", "1") == "1" and (folder / row["file"]).is_file()
    }
    return Clips(folder, known, {row["file"]: row["patient"] for row in rows}, labels)


def _label(table: Path, row: dict[str, str], name: str) -> int:
    if row[name] not in ("0", "1"):
        raise InvalidRequest(f"{table}: {row['file']} has {row[name]!r} in the column {name}; write 0 or 1")
    return int(row[name])


def held_out_clips(clips: Clips, seed: int) -> set[str]:
    """Clips of the patients who never enter the project: each symptom with and without, on both sides, if it can be.

    Raises:
        InvalidRequest: where all clips are of one patient.
    """
    names = sorted(clips.labels)
    truth = np.array([clips.labels[name] for name in names])
    patients = [clips.patients[name] for name in names]
    if len(set(patients)) < 2:
        raise InvalidRequest("the simulated annotator needs clips of two patients or more: one is kept for the test")

    def missing(side: NDArray[np.bool_]) -> int:
        return sum(len(np.unique(values)) < 2 for values in truth[side].T)

    splits = [held_out(patients, TEST_SHARE, seed * 1000 + attempt) for attempt in range(200)]
    best = min(
        (split for split in splits if 0 < split.sum() < len(names)), key=lambda one: missing(one) + missing(~one)
    )
    return {name for name, held in zip(names, best, strict=True) if held}
