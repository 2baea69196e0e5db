"""Make the data of the lead's page: at once, or of a large project in a process of its own.

It reads every frame of a project. With a million of them this takes minutes and gigabytes: no look of the sidecar may
wait for it, and the memory goes with the process.
"""

from __future__ import annotations

import subprocess
import sys

from ml_backend.logs import configure
from ml_backend.loop import overview as overviews
from ml_backend.services import Services
from ml_backend.settings import load

LARGE = 50_000
"""Frames of a project from which on a process of its own makes its page."""


def begin(project: int, ended: str | None) -> subprocess.Popen[bytes]:
    """Start a process that makes the page, as `overview.write` does."""
    command = [sys.executable, "-m", __name__, str(project), ended or ""]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603  the command is ours


def main(project: int, ended: str) -> None:
    """Make a project's page in this process."""
    configure()
    overviews.write(Services(load(), computes=False), project, ended or None)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
