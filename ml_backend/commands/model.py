"""`tsal model`: give a version away as a file that runs without this package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ml_backend.commands.command import Project, connected
from ml_backend.commands.versions import chosen
from ml_backend.progress import Progress

Version = Annotated[
    str | None,
    typer.Option("--version", metavar="VERSION", help="Its name, or its number.", show_default="the active one"),
]
To = Annotated[
    Path, typer.Option("--to", metavar="FOLDER", help="Where file and card go. A folder of an earlier run is replaced.")
]
Form = Annotated[
    Literal["onnx", "torch-export"], typer.Option("--format", help="`onnx` needs the extra [model] of this package.")
]


def model(to: To, project: Project = None, version: Version = None, kind: Form = "onnx") -> None:
    """Write a version as a file that runs without this package, and its model card.

    The file holds the whole network, from the frame to a probability for each symptom. It is checked on up to 100
    frames of the project; if its results differ from those of the network, nothing is written.
    """
    from ml_backend.logs import configure
    from ml_backend.loop.model_file import make
    from ml_backend.services import Services
    from ml_backend.settings import load

    configure()
    services = Services(load())
    number = connected(services, project)
    store = services.versions(number)
    found = chosen(store, version or store.active())
    with Progress(f"project {number}", "frame") as progress:
        check = make(services, number, found, to, kind, lambda stage, done, total: progress.at(done, total, stage))
    print(f"project {number}: {found.version} and its card are in {to}")
    print(
        f"checked on {check.frames} frames: within {check.largest:.2g} of the network in float32, "
        f"within {check.served:.2g} of what the backend serves"
    )
