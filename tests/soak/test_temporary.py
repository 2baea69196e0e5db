from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from soak.temporary import temporary_folder

WHERE = "import tempfile; print(tempfile.gettempdir())"


@pytest.mark.parametrize("variable", [None, "/elsewhere"])
def test_temporary_files_are_there_until_the_block_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    if variable is None:
        monkeypatch.delenv("TMPDIR", raising=False)
    else:
        monkeypatch.setenv("TMPDIR", variable)
    before = tempfile.gettempdir()
    with temporary_folder(tmp_path / "own") as folder:
        started = subprocess.run([sys.executable, "-c", WHERE], capture_output=True, text=True, check=True)
        assert [tempfile.gettempdir(), started.stdout.strip()] == [str(folder), str(folder)]
    assert tempfile.gettempdir() == before
    assert os.environ.get("TMPDIR") == variable
