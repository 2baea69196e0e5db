"""The wall clock of this process and of all that it starts, set through a preloaded library."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "clock.c"
VARIABLE = "SOAK_CLOCK"


def can_be_set() -> bool:
    """Whether this process was started so that its clock can be set."""
    return VARIABLE in os.environ


def set_to(seconds: int) -> None:
    """Set the clock ``seconds`` ahead of the machine's."""
    Path(os.environ[VARIABLE]).write_text(str(seconds), encoding="utf-8")


def restart_with_clock(folder: Path, module: str, arguments: list[str]) -> int | None:
    """Run a module again so that its clock can be set; returns its exit code, None where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    library, offset = folder / "clock.so", folder / "clock"
    build = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(build, check=True)  # noqa: S603  the command is ours
    offset.write_text("0", encoding="utf-8")
    variables = {"LD_PRELOAD": str(library), VARIABLE: str(offset)}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, env=os.environ | variables, check=False).returncode  # noqa: S603  ours too
