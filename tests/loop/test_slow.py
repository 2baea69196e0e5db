"""Modules that take seconds to import, in processes of their own."""

from __future__ import annotations

import subprocess
import sys


def loaded_after(code: str) -> set[str]:
    """Which of the slow packages a process has loaded after running this code."""
    shown = "import sys; print(*(name for name in ('torch', 'sklearn') if name in sys.modules))"
    run = subprocess.run([sys.executable, "-c", f"{code}\n{shown}"], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_a_worker_waits_without_them() -> None:
    assert loaded_after("import ml_backend.loop.work") == set()


def test_they_are_imported_beside_the_work() -> None:
    code = """
import threading
from ml_backend.loop.slow import begin_to_import
begin_to_import()
(thread,) = [one for one in threading.enumerate() if one.name == "imports"]
thread.join()
begin_to_import()
assert threading.active_count() == 1, "nothing is imported twice"
"""
    assert loaded_after(code) == {"torch", "sklearn"}
