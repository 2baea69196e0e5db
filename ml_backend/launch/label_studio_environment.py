"""The program of the demo's Label Studio, and the environment of its own that it is installed in at first use."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from platformdirs import user_cache_path

from ml_backend.errors import BackendError, InvalidRequest
from ml_backend.settings import DEMO_LABEL_STUDIO
from ml_backend.store.files import write_aside
from ml_backend.store.locks import alone
from ml_backend.studio.releases import TESTED

RELEASE = TESTED[-1]
VARIABLES = (DEMO_LABEL_STUDIO, "TSAL_TEST_LABEL_STUDIO")
PROGRAM = Path("bin") / "label-studio"
IN_REPOSITORY = Path(".venv-label-studio") / PROGRAM
WHOLE = "installed"
"""Name of the file that says that an installation came to its end."""
TOLD_SECONDS = 5.0
LAST_LINES = 5


def installed_program() -> Path | None:
    """Return the Label Studio program that is here already, or None.

    Looks in TSAL_DEMO_LABEL_STUDIO, in the current folder's ``.venv-label-studio`` (the repository's), and in the
    user's cache folder.
    """
    for variable in VARIABLES:
        if os.environ.get(variable):
            named = Path(os.environ[variable])
            if not named.is_file():
                raise InvalidRequest(f"{variable}={named} is no file: name the program of Label Studio, or unset it")
            return named
    if IN_REPOSITORY.is_file():
        return IN_REPOSITORY.resolve()
    folder = cache_folder()
    return folder / PROGRAM if (folder / WHOLE).is_file() else None


def program(say: Callable[[str], None]) -> Path:
    """Return the Label Studio program; where there is none, install it into the user's cache folder, once."""
    found = installed_program()
    if found is not None:
        return found
    return cached_program(RELEASE, say)


def cached_program(release: str, say: Callable[[str], None]) -> Path:
    """Return the program of a release in the user's cache folder, where it is installed at first use."""
    folder = cache_folder(release)
    with alone(folder.with_name(f"{folder.name}.lock")):
        if not (folder / WHOLE).is_file():
            say(f"installing Label Studio {release} into {folder}: only this once, it takes a few minutes")
            install(folder, [f"label-studio=={release}"], say)
    return folder / PROGRAM


def install(folder: Path, packages: list[str], say: Callable[[str], None]) -> None:
    """Make an environment in ``folder`` and install packages; what an interrupted try left there is removed first.

    A file is written at the end, so that an installation that was interrupted is not taken for a whole one.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _run([sys.executable, "-m", "venv", str(folder)], say)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--progress-bar=off"]
    _run([*pip, *packages], say)
    write_aside(folder / WHOLE, "\n".join(packages))


def cache_folder(release: str = RELEASE) -> Path:
    """Return the folder in the user's cache that a release of Label Studio is installed in."""
    return user_cache_path("tsal") / f"label-studio-{release}"


def _run(command: list[str], say: Callable[[str], None]) -> None:
    """Run a command, and say one of its lines every few seconds, so that one sees that it goes on."""
    last: deque[str] = deque(maxlen=LAST_LINES)
    told = time.monotonic()
    with subprocess.Popen(  # noqa: S603  the commands are ours
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            last.append(line.strip())
            if time.monotonic() - told > TOLD_SECONDS:
                say(line.strip()[:100])
                told = time.monotonic()
    if process.returncode:
        raise BackendError(
            f"Label Studio cannot be installed ({' | '.join(last)}): see that this machine reaches its package "
            f"registry, or set {VARIABLES[0]} to the program of a Label Studio {RELEASE} that you have"
        )
