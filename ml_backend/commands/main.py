"""`tsal`: all subcommands in one application.

Their modules import what they need when they run, so that `tsal --help` and shell completion are fast.
"""

from __future__ import annotations

from typing import Annotated

import typer

from ml_backend import __version__
from ml_backend.commands import (
    audit,
    backup,
    demo,
    evidence,
    export,
    finish,
    import_frames,
    import_labels,
    model,
    order,
    phantom,
    processes,
    setup,
    suspects,
    versions,
)
from ml_backend.commands.command import run

__all__ = ["app", "run"]

app = typer.Typer(
    help="A Label Studio ML backend that learns while a team annotates lung ultrasound. "
    "Settings come from environment variables (TSAL_*).",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(processes.serve)
app.command()(setup.connect)
app.command()(setup.doctor)
app.command("import")(import_frames.import_frames)
app.command()(import_labels.import_labels)
app.command()(setup.config)
app.add_typer(versions.app)
app.command()(order.order)
app.command()(finish.finish)
app.command()(audit.audit)
app.command()(suspects.suspects)
app.command()(evidence.evidence)
app.command()(export.export)
app.command()(model.model)
app.command()(backup.backup)
app.command()(backup.restore)
app.command()(processes.backend)
app.command()(processes.worker)
app.command()(processes.sidecar)
app.command()(demo.demo)
app.command()(phantom.phantom)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"tsal {__version__}")
        raise typer.Exit


@app.callback()
def tsal(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Only what all subcommands share: nothing but --version."""
