"""`tsal connect`, `tsal doctor` and `tsal config`: an existing Label Studio and this installation find each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def connect(
    project: Annotated[int, typer.Option(metavar="ID", help="Number of the project in Label Studio.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be changed.")] = False,
) -> None:
    """Connect a project: check its configuration, register backend and webhook, set the sampling.

    Needs TSAL_LABEL_STUDIO_URL, TSAL_LABEL_STUDIO_TOKEN and TSAL_BACKEND_URL, and a running backend. A second run
    changes nothing.
    """
    from ml_backend.services import Services
    from ml_backend.settings import load
    from ml_backend.setup import connect as connecting

    connecting.connect(Services(load()), project, print, dry_run=dry_run)


def doctor(
    project: Annotated[
        int | None, typer.Option(metavar="ID", help="Only this project.", show_default="all connected")
    ] = None,
) -> None:
    """Check settings, machine, Label Studio and the connected projects.

    One line each: ok, or what to change. Changes nothing. Ends with 1 if something has to be changed.
    """
    from ml_backend.setup.doctor import findings

    well = True
    for finding in findings(project):
        print(finding, flush=True)
        well = well and finding.state != "change"
    if not well:
        raise typer.Exit(1)


def config(
    examples: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Your own example pictures.", show_default="the package's")
    ] = None,
    symptom: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A choice to keep; may be repeated.", show_default="all"),
    ] = None,
    require_answer: Annotated[
        bool, typer.Option("--require-answer", help="Do not let annotators submit an empty form.")
    ] = False,
    evidence: Annotated[
        bool,
        typer.Option(
            "--evidence",
            help="Add the panel that shows why a frame is ticked. Label Studio then accepts only tasks that have the "
            "address of their evidence, which `tsal import` writes.",
        ),
    ] = False,
) -> None:
    """Print the labelling configuration, with example pictures inside, to paste into a Label Studio project."""
    from ml_backend.settings import load
    from ml_backend.setup.evidence import with_panel
    from ml_backend.setup.label_configuration import EXAMPLES, render
    from ml_backend.studio.configuration import Configuration

    rendered = render(examples or EXAMPLES, symptom or None, require_answer)
    print(with_panel(Configuration.parse(rendered), load().evidence_key) if evidence else rendered)
