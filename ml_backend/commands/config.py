"""`tsal config`: the labelling configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def config(
    examples: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Your own example pictures.", show_default="the package's")
    ] = None,
    symptom: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A choice to keep; may be repeated.", show_default="all"),
    ] = None,
) -> None:
    """Print the labelling configuration, with example pictures inside, to paste into a Label Studio project."""
    from ml_backend.setup.label_configuration import EXAMPLES, render

    print(render(examples or EXAMPLES, symptom or None))
