"""Make the data of a large project's lead page in a process of its own.

This reads every frame of the project. With a million frames it takes minutes and gigabytes: the sidecar must not wait
for it, and the end of the process frees the memory.
"""

from __future__ import annotations

import subprocess
import sys

from ml_backend.logs import configure
from ml_backend.loop import overview as overviews
from ml_backend.services import Services
from ml_backend.settings import load

LARGE = 50_000
"""Projects with this many frames or more have their page made in a process of its own."""


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
