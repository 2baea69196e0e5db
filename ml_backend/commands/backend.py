"""`tsal backend`: answers Label Studio."""

from __future__ import annotations

import os


def backend() -> None:
    """Run the backend that Label Studio asks, and nothing else.

    Listens on TSAL_HOST and TSAL_PORT until it is stopped. It needs a worker and a sidecar beside it; `tsal serve` runs
    all of them.
    """
    from ml_backend.settings import load
    from ml_backend.web import server

    command = server.command(load())
    os.execv(command[0], command)  # noqa: S606  this process becomes the server, so that signals reach it
