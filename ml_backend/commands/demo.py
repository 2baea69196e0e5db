"""`tsal demo`: the whole loop on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ml_backend.commands.import_frames import Every, seconds


def demo(
    clips: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of clips.", show_default="phantom clips are made")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Table with file, patient and one column per symptom (a_line, b_line, …)."),
    ] = None,
    unattended: Annotated[
        bool, typer.Option("--unattended", help="A simulated annotator answers from --labels.")
    ] = False,
    finish: Annotated[
        bool, typer.Option("--finish/--no-finish", help="End --unattended with a certificate of the whole pool.")
    ] = True,
    rounds: Annotated[int, typer.Option(metavar="N", help="Batches that the simulated annotator confirms.")] = 3,
    batch: Annotated[
        int | None, typer.Option(metavar="N", help="Annotations that start a fine-tune.", show_default="20")
    ] = None,
    report: Annotated[Path, typer.Option(metavar="FILE", help="Where the report of --unattended goes.")] = Path(
        "runs/demo-report.json"
    ),
    every: Every = "0.5",
    port: Annotated[
        int | None,
        typer.Option(metavar="PORT", min=1, max=65535, help="Port of Label Studio.", show_default="a free one"),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of everything random.")] = 0,
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where the demo keeps its files. An earlier demo's folder opens that demo again.",
            show_default="a new one in runs",
        ),
    ] = None,
) -> None:
    """Run the whole loop on this machine: Label Studio, Redis, backend, worker, sidecar, a project with frames.

    Prints where to go and what to press. Ctrl-C stops everything.
    """
    from ml_backend.launch import demo as launching
    from ml_backend.launch.demo_state import Options

    launching.run(
        Options(
            clips=clips,
            labels=labels,
            unattended=unattended,
            finish=finish,
            rounds=rounds,
            batch=batch,
            report=report,
            every=seconds(every),
            port=port,
            seed=seed,
            folder=folder,
        )
    )
