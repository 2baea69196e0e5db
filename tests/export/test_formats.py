"""Every format, read by the library that people read it with, and compared with what people answered."""

from __future__ import annotations

import contextlib
import csv
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet
from pycocotools.coco import COCO

from ml_backend.export.dataset import Dataset
from ml_backend.export.table import LABEL, columns
from tests.export.projects import PART_OF, answer, exported, of_patients
from tests.installation import CONFIGURATION
from tests.loop.test_order import TASKS, Installation, folder, installed, predictor, studio
from tests.studio_stand_in import one_thread

__all__ = ["folder", "installed", "one_thread", "predictor", "studio"]
NAMES = CONFIGURATION.label_names
TRUTH = {task: [int(task % 3 == 0), int(task % 2 == 0), int(task % 3 > 0)] for task in TASKS}
TRUTH[7] = [0, 0, 0]


@pytest.fixture
def written(installed: Installation, tmp_path: Path) -> tuple[Dataset, Path]:
    """A project that people have answered whole; in the validation part nobody knows who."""
    made = of_patients(installed)
    for task in TASKS:
        answer(installed, task, TRUTH[task], by=None if PART_OF[task // 2] == "validation" else 1)
    return exported(made, tmp_path / "out", "csv", "parquet", "coco", "imagefolder"), tmp_path / "out"


def pixels(installed: Installation, task: int) -> Any:
    return np.asarray(Image.open(installed.folder / "files" / f"{task}.png"))


def test_csv_is_read_by_pandas(installed: Installation, written: tuple[Dataset, Path]) -> None:
    table = pd.read_csv(written[1] / "labels.csv").set_index("task")
    assert list(table.index) == list(TASKS)
    for task in TASKS:
        row = table.loc[task]
        assert [row[LABEL + name] for name in NAMES] == TRUTH[task]
        assert row["split"] == PART_OF[task // 2]
        assert row["time"] == task / 2
        assert (np.asarray(Image.open(written[1] / row["image"])) == pixels(installed, task)).all()
    assert table["audited"].dtype == bool
    assert table["annotator"].isna().tolist() == [PART_OF[task // 2] == "validation" for task in TASKS]


@pytest.mark.parametrize("name", ["=cmd|'/C calc'!A0", "@SUM(1)", "+1+1", "-1+1", "\t=1", "\r=1"])
def test_no_name_is_a_formula_in_a_spreadsheet(installed: Installation, tmp_path: Path, name: str) -> None:
    made = of_patients(installed)
    for task in TASKS:
        installed.studio.task_data[task] = {**installed.studio.task_data[task], "patient": name}
        answer(installed, task, TRUTH[task])
    exported(made, tmp_path / "out", "csv", "parquet", as_in_tasks=True, names=True)
    with (tmp_path / "out" / "labels.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    place = rows[0].index("patient")
    assert {row[place] for row in rows[1:]} == {"'" + name.replace("\r", " ")}
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for row in rows for cell in row)
    assert set(parquet.read_table(tmp_path / "out" / "labels.parquet")["patient"].to_pylist()) == {name}


def test_parquet_is_read_by_pyarrow_and_pandas(written: tuple[Dataset, Path]) -> None:
    dataset, to = written
    table = parquet.read_table(to / "labels.parquet")
    assert [(field.name, field.type) for field in table.schema] == [
        (one.name, pyarrow.type_for_alias(one.type)) for one in columns(dataset.symptoms)
    ]
    rows = table.to_pylist()
    assert {row["task"]: [row[LABEL + name] for name in NAMES] for row in rows} == TRUTH
    assert rows == [{one.name: one.of(row) for one in columns(dataset.symptoms)} for row in dataset.rows.rows]
    frame = pd.read_parquet(to / "labels.parquet")
    assert frame.groupby("patient")["split"].nunique().max() == 1
    assert frame["certificate"].isna().all()


def test_coco_is_read_by_pycocotools(written: tuple[Dataset, Path]) -> None:
    _, to = written
    seen = set()
    for part in sorted(set(PART_OF)):
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(str(to / "coco" / f"{part}.json"))
        assert [one["name"] for one in coco.loadCats(coco.getCatIds())] == list(NAMES)
        for image in coco.loadImgs(coco.getImgIds()):
            task = image["id"]
            annotations = coco.loadAnns(coco.getAnnIds(imgIds=[task]))
            present = sorted(one["category_id"] for one in annotations)
            assert present == [place for place, told in enumerate(TRUTH[task], start=1) if told]
            assert PART_OF[task // 2] == image["split"] == part
            with Image.open(to / image["file_name"]) as picture:
                assert picture.size == (image["width"], image["height"])
            for one in annotations:
                assert one["bbox"] == [0, 0, image["width"], image["height"]]
                assert one["area"] == math.prod(one["bbox"][2:])
            seen.add(task)
        # Find the category by its name, then its images.
        (category,) = coco.getCatIds(catNms=["A-line"])
        assert set(coco.getImgIds(catIds=[category])) == {task for task in coco.getImgIds() if TRUTH[task][1]}
    assert seen == set(TASKS)


@pytest.mark.parametrize("whole", [False, True], ids=["frames", "folder"])
def test_the_folder_is_loaded_by_hugging_faces_datasets(
    installed: Installation,
    written: tuple[Dataset, Path],
    whole: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    _, to = written
    arguments = {"path": str(to)} if whole else {"path": "imagefolder", "data_dir": str(to / "frames")}
    loaded = datasets.load_dataset(**arguments, cache_dir=str(tmp_path / "cache"))
    rows = {row["task"]: (part, row) for part in loaded for row in loaded[part]}
    assert sorted(rows) == list(TASKS)
    for task, (part, row) in rows.items():
        assert part == row["split"] == PART_OF[task // 2]
        assert [row[LABEL + name] for name in NAMES] == TRUTH[task]
        assert (np.asarray(row["image"]) == pixels(installed, task)).all()
        assert row["certificate"] is None
