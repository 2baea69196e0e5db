"""`tsal serve`, and what it runs: `tsal backend`, `tsal worker` and `tsal sidecar`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

Projects = Annotated[
    list[int] | None,
    typer.Option(
        "--project", metavar="ID", help="Project number; may be repeated.", show_default="every connected one"
    ),
]


def serve() -> None:
    """Run backend, worker and sidecar, and Redis if none is set.

    Restarts what ends by itself. Ctrl-C stops everything.
    """
    from ml_backend.launch import serve as serving

    serving.run()


def backend() -> None:
    """Run the backend that Label Studio calls, and nothing else.

    Listens on TSAL_HOST and TSAL_PORT until it is stopped. It needs a worker and a sidecar beside it; `tsal serve` runs
    all of them.
    """
    from ml_backend.settings import load
    from ml_backend.store.format import require_readable
    from ml_backend.web import server

    settings = load()
    require_readable(settings.data_dir)  # here the error is one line; each process of the server would show a traceback
    command = server.command(settings)
    os.execv(command[0], command)  # noqa: S606  this process becomes the server, so that signals reach it


def worker(
    burst: Annotated[bool, typer.Option("--burst", help="End when the queues are empty.")] = False,
    scoring_only: Annotated[bool, typer.Option("--scoring-only", help="Leave fine-tunes to other workers.")] = False,
) -> None:
    """Run background jobs: fine-tunes, and shares of the scoring.

    Runs until it is stopped. Several workers, on several machines, may share one Redis and one data folder.
    """
    from ml_backend.logs import configure
    from ml_backend.loop.work import work

    configure()
    work(burst=burst, scoring_only=scoring_only)


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
    settings = load()
    # Evidence pictures are drawn here; everything else that needs a network gets a process of its own.
    watch(Services(settings, computes=settings.warm or bool(settings.evidence_files)), project or None)
