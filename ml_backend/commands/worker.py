"""`tsal worker`: fine-tunes, and scores its part of a pool, in the background."""

from __future__ import annotations

from typing import Annotated

import typer


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
