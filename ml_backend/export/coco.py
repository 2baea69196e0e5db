"""COCO: a file for each part of the split, with the symptoms as categories.

A symptom belongs to the whole picture, so it stands there as an annotation whose box is the whole picture: readers of
COCO expect a box, and drop annotations without one or fail. Absent symptoms have no annotation. What is not known to be
absent stands in the image's ``unknown_category_ids``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_backend.export.dataset import Dataset
from ml_backend.export.rows import Row
from ml_backend.export.table import columns
from ml_backend.tsal.split import PARTS

FOLDER = "coco"
TO_FILL_IN = "to be filled in"


def write_coco(folder: Path, dataset: Dataset) -> None:
    """Write the files; the paths of the pictures in them are relative to ``folder``."""
    (folder / FOLDER).mkdir()
    for part in PARTS:
        rows = dataset.rows.of_part(part)
        if rows:
            text = json.dumps(coco(rows, dataset), ensure_ascii=False, indent=1)
            (folder / FOLDER / f"{part}.json").write_text(text + "\n", encoding="utf-8")


def coco(rows: Sequence[Row], dataset: Dataset) -> dict[str, Any]:
    """Return what the file of these rows holds; their pictures' sizes must be known."""
    shared = [one for one in columns(()) if one.name not in ("task", "image")]
    images = [
        {
            "id": row.task,
            "file_name": row.image,
            **_size(row),
            "license": 1,
            **{one.name: one.of(row) for one in shared},
            "unknown_category_ids": [place for place, told in _numbered(row) if told is None],
        }
        for row in rows
    ]
    present = [(row, place) for row in rows for place, told in _numbered(row) if told]
    return {
        "info": {"description": f"Lung ultrasound frames of project {dataset.project}, part {rows[0].split}"},
        "licenses": [{"id": 1, "name": dataset.licence or TO_FILL_IN, "url": ""}],
        "categories": [
            {"id": place, "name": name, "supercategory": "symptom"}
            for place, name in enumerate(dataset.symptoms, start=1)
        ],
        "images": images,
        "annotations": [_annotation(number, row, place) for number, (row, place) in enumerate(present, start=1)],
    }


def _annotation(number: int, row: Row, category: int) -> dict[str, Any]:
    size = _size(row)
    width, height = size["width"], size["height"]
    return {
        "id": number,
        "image_id": row.task,
        "category_id": category,
        "bbox": [0, 0, width, height],
        "area": width * height,
        "segmentation": [],
        "iscrowd": 0,
    }


def _numbered(row: Row) -> list[tuple[int, int | None]]:
    """What is told of each category, by its number."""
    return list(enumerate(row.label.symptoms, start=1))


def _size(row: Row) -> Mapping[str, int]:
    assert row.size is not None
    return {"width": row.size[0], "height": row.size[1]}
