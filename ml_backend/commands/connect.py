"""`tsal connect`: connects a project of an existing Label Studio."""

from __future__ import annotations

from typing import Annotated

import typer


def connect(
    project: Annotated[int, typer.Option(metavar="ID", help="Number of the project in Label Studio.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be changed.")] = False,
) -> None:
    """Connect a project: check its configuration, register backend and webhook, set the sampling.

    Needs TSAL_LABEL_STUDIO_URL, TSAL_LABEL_STUDIO_TOKEN and TSAL_BACKEND_URL, and the backend running. Running it again
    changes nothing.
    """
    from ml_backend.services import Services
    from ml_backend.settings import load
    from ml_backend.setup import connect as connecting

    connecting.connect(Services(load()), project, print, dry_run=dry_run)
