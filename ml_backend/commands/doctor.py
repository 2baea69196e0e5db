"""`tsal doctor`: what is right with this installation, and what to change."""

from __future__ import annotations

from typing import Annotated

import typer


def doctor(
    project: Annotated[
        int | None, typer.Option(metavar="ID", help="Only this project.", show_default="all connected")
    ] = None,
) -> None:
    """Check settings, machine, Label Studio and the connected projects.

    One line each: ok, or what to change. Changes nothing. Ends with 1 if something has to be changed.
    """
    from ml_backend.setup.doctor import examine

    if not examine(lambda line: print(line, flush=True), project):
        raise typer.Exit(1)
