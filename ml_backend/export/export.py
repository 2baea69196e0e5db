"""Export a project: gather, make rows, and write them in the formats that were asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from ml_backend.errors import InvalidRequest
from ml_backend.export import card
from ml_backend.export.coco import write_coco
from ml_backend.export.dataset import Dataset
from ml_backend.export.gather import Gathered, gather
from ml_backend.export.names import address, export_key, names_of
from ml_backend.export.parquet import require_pyarrow, write_imagefolder, write_parquet
from ml_backend.export.pictures import with_pictures
from ml_backend.export.rows import Only, Row, Rows
from ml_backend.export.table import write_csv
from ml_backend.services import Services
from ml_backend.store.files import read_json
from ml_backend.store.replaced import replaced, require_free

FORMATS: Mapping[str, Callable[[Path, Dataset], None]] = {
    "csv": write_csv,
    "parquet": write_parquet,
    "coco": write_coco,
    "imagefolder": write_imagefolder,
}
"""Every format: what writes it into a folder."""
MARK = "export.json"
"""The file by which a folder is known as an export."""
NUMBER = 1
"""Number of the form of exports, in `MARK`."""
WHAT = "an export"
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Wanted:
    """What is to be exported.

    ``copied``: copy the pictures, or refer to them; ``as_in_tasks``: name patients and clips as the tasks do;
    ``names``: name annotators.
    """

    formats: tuple[str, ...]
    only: Only
    copied: bool
    as_in_tasks: bool = False
    names: bool = False
    licence: str = ""


def formats_of(named: Sequence[str]) -> tuple[str, ...]:
    """Read the names of formats, also several with commas between them; InvalidRequest for an unknown one."""
    chosen = [name.strip().lower() for text in named for name in text.split(",") if name.strip()]
    for name in chosen:
        if name not in FORMATS:
            raise InvalidRequest(f"there is no format {name!r}; choose among {', '.join(FORMATS)}")
    return tuple(name for name in FORMATS if name in chosen)


def export(
    services: Services, project: int, folder: Path, wanted: Wanted, report: Report
) -> tuple[Dataset, dict[int, str]]:
    """Export a project into ``folder``; return what was written, and why pictures could not be read, by task.

    Raises InvalidRequest for wishes that do not go together, ExtraMissing, NotWritten, and StudioUnavailable and
    StudioRefused as Label Studio answers. The folder is then as it was.
    """
    _require_possible(services, wanted)
    require_free(folder, is_export, WHAT)
    about = gather(services, project, details=wanted.only == "all")
    _require_certificate(project, about, wanted)
    dataset = _dataset(services, project, about, wanted)
    with replaced(folder, is_export, WHAT) as place:
        dataset, lost = _with_images(services, dataset, wanted, place, report)
        for name in wanted.formats:
            FORMATS[name](place, dataset)
        (place / card.FILE).write_text(card.card(dataset), encoding="utf-8")
        (place / MARK).write_text(_mark(dataset), encoding="utf-8")
    return dataset, lost


def is_export(folder: Path) -> bool:
    """Whether a folder holds an earlier export."""
    try:
        return "export" in (read_json(folder / MARK) or {})
    except ValueError:
        return False


def _require_possible(services: Services, wanted: Wanted) -> None:
    if not wanted.formats:
        raise InvalidRequest(f"choose a --format among {', '.join(FORMATS)}")
    if "imagefolder" in wanted.formats and not wanted.copied:
        raise InvalidRequest("the format imagefolder holds the pictures: choose --frames copy, or another format")
    if wanted.names and services.settings.hide_names:
        raise InvalidRequest("TSAL_HIDE_NAMES hides the annotators' names: leave out --names, or unset it")
    if {"parquet", "imagefolder"} & set(wanted.formats):
        require_pyarrow()


def _require_certificate(project: int, about: Gathered, wanted: Wanted) -> None:
    if wanted.only == "certified" and about.certificate is None:
        raise InvalidRequest(
            f"project {project} has no valid certificate: make one with `tsal finish`, or choose --only people or all"
        )


def _dataset(services: Services, project: int, about: Gathered, wanted: Wanted) -> Dataset:
    settings = services.settings
    people = services.studio.people() if wanted.names else None
    names = names_of(export_key(settings.data_dir), wanted.as_in_tasks, people)
    return Dataset(
        project=project,
        about=about,
        rows=Rows.of(about.material, wanted.only, names, settings.hold_out, settings.seed),
        only=wanted.only,
        formats=wanted.formats,
        copied=wanted.copied,
        hold_out=settings.hold_out,
        seed=settings.seed,
        licence=wanted.licence,
    )


def _with_images(
    services: Services, dataset: Dataset, wanted: Wanted, place: Path, report: Report
) -> tuple[Dataset, dict[int, str]]:
    """Copy the pictures, or write down where they are; COCO wants their sizes in any case."""
    found = {row.task: row for row in dataset.rows.rows}
    shown: dict[int, str] = {}
    if not wanted.copied:
        of_task = {frame.task: frame for frame in dataset.about.material.frames}
        shown = {task: address(of_task[task], wanted.as_in_tasks) for task in found}
    lost: dict[int, str] = {}
    if wanted.copied or "coco" in wanted.formats:
        read = with_pictures(
            dataset.rows.rows, services.fetcher, services.settings.fetch_workers, place if wanted.copied else None
        )
        with closing(read):  # what still writes must have ended before the folder is removed after an error
            for done, (row, why) in enumerate(read, start=1):
                if why:
                    lost[row.task] = why
                found[row.task] = row
                report(done, len(found))
    rows: dict[int, Row] = {
        task: row if wanted.copied else replace(row, image=shown[task])
        for task, row in found.items()
        if task not in lost
    }
    return replace(dataset, rows=dataset.rows.with_images(rows)), lost


def _mark(dataset: Dataset) -> str:
    """What a program can read of an export, and by which the next one knows it."""
    certificate = dataset.about.certificate
    told = {
        "export": NUMBER,
        "project": dataset.project,
        "symptoms": dataset.symptoms,
        "only": dataset.only,
        "formats": dataset.formats,
        "frames": len(dataset.rows.rows),
        "left_out": dict(sorted(dataset.rows.left_out.items())),
        "certificate": certificate.number if certificate else None,
        "version": dataset.about.version or None,
        "hold_out": dataset.hold_out,
        "seed": dataset.seed,
    }
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"
