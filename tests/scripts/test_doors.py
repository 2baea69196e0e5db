"""Every script runs from a fresh clone, where an editable installation offers the package `ml_backend` alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
# An editable installation may offer more than ml_backend on one machine than on another; without its finder, and with
# neither PYTHONPATH nor the current folder (-I), a script finds only what it looks for itself.
RUN = """
import runpy, sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "__editable__" not in getattr(finder, "__module__", "")]
sys.argv = [sys.argv[1], "--help"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    "script", [path.name for path in sorted(SCRIPTS.glob("*.py")) if "__main__" in path.read_text(encoding="utf-8")]
)
def test_a_script_finds_the_projects_modules_by_itself(script: str, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-I", "-c", RUN, str(SCRIPTS / script)], cwd=tmp_path, capture_output=True, text=True
    )
    assert "Traceback" not in ended.stderr
    assert "usage" in ended.stdout.lower() or script == "release.py"  # it takes no options
