"""`tsal import-labels`: labels that a team has already, as annotations with their origin."""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer

from ml_backend.progress import Progress

Table = Annotated[Path, typer.Argument(metavar="CSV", help="Table of labels.")]
Project = Annotated[int, typer.Option(metavar="ID", help="Number of the project in Label Studio.")]
WholeClips = Annotated[
    bool, typer.Option("--whole-clips", help="A row that names a clip and no frame of it holds for all its frames.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be imported.")]


def import_labels(table: Table, project: Project, whole_clips: WholeClips = False, dry_run: DryRun = False) -> None:
    """Import labels that you have already as annotations of frames that are in the project.

    The table names each frame (column image, file or clip, with frame or time where it is a clip) and has a column for
    each symptom: 0, 1, yes, no, true, false, or nothing if it was not assessed. The columns annotator and date are
    kept.

    A frame that has an annotation already stays as it is. The annotations say that they were imported, from which file
    and when. Whether they are learnt from is the setting TSAL_IMPORTED.

    Ends with 1 if a row could not be used (the others are imported), with 2 if the table could not be used. Running it
    again imports nothing twice.
    """
    from ml_backend.ingest.labels.plan import carry_out, plan
    from ml_backend.services import Services
    from ml_backend.settings import load
    from ml_backend.studio.keys import DataKeys

    settings = load()
    services = Services(settings)
    configuration = services.configuration(services.studio.project(project).label_config)

    def audited() -> Collection[int]:
        finish = services.finishes(project).open()
        return finish.drawn if finish else ()

    planned = plan(
        services.studio,
        project,
        table,
        configuration,
        DataKeys.of(settings),
        audited(),
        whole_clips,
    )
    if not dry_run:
        with Progress("import", "frame") as progress:
            planned = carry_out(services.studio, planned, configuration, audited, progress.at)
    for line, problem in planned.problems.items():
        print(f"{table}, line {line} {problem}", file=sys.stderr)
    print("\n".join(planned.lines(dry_run)))
    if planned.rows and settings.imported != "train":
        print("They are kept apart: set TSAL_IMPORTED=train, for the worker and the sidecar too, to learn from them.")
    if planned.problems:
        raise typer.Exit(1)
