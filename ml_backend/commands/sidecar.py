"""`tsal sidecar`: keeps every queue in order for as long as it runs."""

from __future__ import annotations

from typing import Annotated

import typer

Projects = Annotated[
    list[int] | None,
    typer.Option(
        "--project", metavar="ID", help="Project number; may be repeated.", show_default="every connected one"
    ),
]


def sidecar(project: Projects = None) -> None:
    """Keep the queue of every project in order of informativeness.

    Runs until it is stopped: reacts to new versions and new frames, and asks Label Studio for what its webhooks did not
    report.
    """
    from ml_backend.logs import configure
    from ml_backend.loop.watch import watch
    from ml_backend.services import Services
    from ml_backend.settings import load

    configure()
    watch(Services(load()), project or None)
