"""The clips that a demo shows, and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import InvalidRequest
from ml_backend.ingest.clip_table import column, read_clip_table
from ml_backend.setup.label_configuration import render
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
    """Read a table of clips (see `read_clip_table`); labels of clips that are not in ``folder`` are left out."""
    symptoms = Configuration.parse(render()).label_names
    found = read_clip_table(table, symptoms)
    if not found.rows or len(found.symptoms) < 2:
        columns = ", ".join(column(symptom) for symptom in symptoms)
        raise InvalidRequest(f"{table} needs rows, and two or more of the columns {columns}")
    labels = {
        row.file: np.array(row.labels, np.uint8)
        for row in found.rows
        if row.labels is not None and (folder / row.file).is_file()
    }
    return Clips(folder, found.symptoms, found.patients, labels)


def held_out_clips(clips: Clips, seed: int) -> set[str]:
    """Clips of the patients who never enter the project: each symptom with and without, on both sides, if it can be."""
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
