"""`tsal import-labels`: labels that a team already has, as annotations with their origin."""

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
    bool, typer.Option("--whole-clips", help="A row that names a clip but no frame holds for all frames of the clip.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be imported.")]


def import_labels(table: Table, project: Project, whole_clips: WholeClips = False, dry_run: DryRun = False) -> None:
    """Import labels that you already have, as annotations of frames in the project.

    The table names each frame (column image, file or clip, with frame or time if it is a clip) and has a column for
    each symptom: 0, 1, yes, no, true, false, or nothing if it was not assessed. The columns annotator and date are
    kept.

    A frame that already has an annotation stays as it is. The annotations say that they were imported, from which file
    and when. The setting TSAL_IMPORTED decides whether they are learnt from.

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
