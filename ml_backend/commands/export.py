"""`tsal export`: a project's frames and labels as a training set."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ml_backend.commands.command import Project, connected
from ml_backend.progress import Progress

if TYPE_CHECKING:
    from ml_backend.export.dataset import Dataset


class Only(str, Enum):
    """Which labels are exported."""

    people = "people"
    certified = "certified"
    all = "all"


class Frames(str, Enum):
    """What happens to the pictures."""

    copy = "copy"
    refer = "refer"


class Identifiers(str, Enum):
    """How patients and clips are named in the export."""

    hashed = "hashed"
    tasks = "tasks"


To = Annotated[
    Path,
    typer.Option("--to", metavar="FOLDER", help="Folder to write. An earlier export in it is replaced."),
]
Formats = Annotated[
    list[str],
    typer.Option(
        "--format",
        metavar="NAME",
        help="csv, parquet, coco or imagefolder. For several, repeat the option or use commas.",
    ),
]
Which = Annotated[
    Only,
    typer.Option(
        "--only",
        help="people: labels that a person confirmed. certified: those that a valid certificate covers. all: also "
        "those that were imported, accepted unseen, or given by the machine.",
    ),
]
Pictures = Annotated[
    Frames, typer.Option("--frames", help="Copy the pictures into the folder, or refer to their addresses.")
]
Named = Annotated[
    Identifiers,
    typer.Option(
        "--identifiers",
        help="hashed: patients and clips get pseudonyms. tasks: they keep their names in the tasks; choose this only "
        "if those names identify nobody.",
    ),
]
WithNames = Annotated[bool, typer.Option("--names", help="Name the annotators, who have pseudonyms otherwise.")]
Licence = Annotated[str, typer.Option("--licence", metavar="TEXT", help="What the data card says about the licence.")]


def export(
    to: To,
    project: Project = None,
    formats: Formats = ["csv"],  # noqa: B006 - typer reads the default, and nobody changes it
    only: Which = Only.people,
    frames: Pictures = Frames.copy,
    identifiers: Named = Identifiers.hashed,
    names: WithNames = False,
    licence: Licence = "",
) -> None:
    """Export a project's frames and labels as a training set, split by patient, with a data card.

    Patients that the project holds out are the test part and never in another part. The same state gives the same
    files, byte for byte. Pictures are copied without metadata.

    Ends with 1 if a picture could not be read (its frame is left out) or the folder could not be written (then nothing
    is left of it), with 2 if called wrongly, with 3 if pyarrow is needed and missing, with 4 or 5 if Label Studio does
    not answer or refuses.
    """
    from ml_backend.export.export import Wanted, formats_of
    from ml_backend.export.export import export as exported
    from ml_backend.logs import configure
    from ml_backend.services import Services
    from ml_backend.settings import load

    configure()
    wanted = Wanted(
        formats_of(formats), only.value, frames is Frames.copy, identifiers is Identifiers.tasks, names, licence
    )
    services = Services(load())
    number = connected(services, project)
    with Progress(f"project {number}", "frame") as progress:
        dataset, lost = exported(services, number, to, wanted, progress.at)
    _show(dataset, to)
    for task, why in lost.items():
        print(f"task {task}: {why}", file=sys.stderr)
    if lost:
        raise typer.Exit(1)


def _show(dataset: Dataset, to: Path) -> None:
    from ml_backend.export.card import FILE
    from ml_backend.tsal.split import PARTS

    parts = ", ".join(f"{len(dataset.rows.of_part(part))} {part}" for part in PARTS)
    print(f"project {dataset.project}: {len(dataset.rows.rows)} frames ({parts}) in {to}")
    for why, count in sorted(dataset.rows.left_out.items()):
        print(f"left out: {count} that {why}")
    print(f"the data card: {to / FILE}")
