"""A project to export: eight patients with a clip each, of whom some are held out, and what an export of it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ml_backend.export.dataset import Dataset
from ml_backend.export.export import Wanted, export
from ml_backend.services import Services
from tests.installation import PROJECT, task_with_frame
from tests.loop.test_order import TASKS, Installation
from tests.loop.test_remember import services

AT = "2026-03-01T10:00:00.000000Z"
SEED = 32  # with it, the patients fall into all three parts
HOLD_OUT = 0.3
PART_OF = ("test", "train", "test", "train", "validation", "validation", "train", "train")
"""The part of each patient's frames."""


def patient(task: int) -> str:
    """The patient of two frames, under a name that must not get out."""
    return f"Muster{task // 2}"


def of_patients(installed: Installation, **changes: object) -> Services:
    """Name patient, clip and time of every frame, and hold some patients out."""
    for task in TASKS:
        data = {"patient": patient(task), "clip": f"{patient(task)}/Sweep.mp4", "time": task / 2}
        installed.studio.task_data[task] = task_with_frame(installed.folder, task, **data)["data"]
    return services(installed, **{"hold_out": HOLD_OUT, "seed": SEED} | changes)


def answer(installed: Installation, task: int, labels: list[int], by: int | None = 1, **fields: object) -> int:
    """Add an answer to a task."""
    number = 100 * (by or 0) + task
    installed.studio.confirm(task, labels, number, AT, by)
    place = len(installed.studio.annotations) - 1
    installed.studio.annotations[place] = replace(installed.studio.annotations[place], **fields)  # type: ignore[arg-type]
    return number


def exported(made: Services, folder: Path, *formats: str, **changes: object) -> Dataset:
    """Export a project, all labels in CSV and with copies unless something else is wanted."""
    made.folder(PROJECT).mkdir(parents=True, exist_ok=True)
    fields: dict[str, object] = {"formats": formats or ("csv",), "only": "all", "copied": True}
    return export(made, PROJECT, folder, Wanted(**fields | changes), lambda done, total: None)[0]  # type: ignore[arg-type]


def content(folder: Path) -> Mapping[str, bytes]:
    """Every file below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
