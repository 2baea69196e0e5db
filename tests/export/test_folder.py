"""The folder of an export is there whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ml_backend.errors import NotWritten
from ml_backend.export import export as exporting
from ml_backend.export.export import MARK, is_export
from tests.export.projects import answer, content, exported, of_patients
from tests.loop.test_order import TASKS, Installation, folder, installed, predictor, studio
from tests.loop.test_remember import A
from tests.studio_stand_in import one_thread

__all__ = ["folder", "installed", "one_thread", "predictor", "studio"]


@pytest.mark.parametrize(
    ("text", "known"), [(None, False), ("{", False), ('{"other": 1}', False), ('{"export": 1}', True)]
)
def test_an_export_is_known_by_its_mark(tmp_path: Path, text: str | None, known: bool) -> None:
    if text is not None:
        (tmp_path / MARK).write_text(text)
    assert is_export(tmp_path) == known


@pytest.mark.parametrize("where", ["pictures", "table"])
def test_a_full_disk_is_said_and_nothing_is_left(
    installed: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    made = of_patients(installed)
    for task in TASKS:
        answer(installed, task, A)
    exported(made, tmp_path / "out")
    before = content(tmp_path / "out")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    write = Path.write_bytes

    def pictures(path: Path, data: bytes) -> int:
        if path.name == "00000009.png":
            raise full
        return write(path, data)

    def table(*_: object) -> None:
        raise full

    if where == "pictures":
        monkeypatch.setattr(Path, "write_bytes", pictures)
    else:
        monkeypatch.setattr(exporting, "FORMATS", {**exporting.FORMATS, "csv": table})
    there = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(NotWritten) as caught:
        exported(made, tmp_path / "out")
    assert "room" in str(caught.value)
    assert content(tmp_path / "out") == before
    assert {path.name for path in tmp_path.iterdir()} == there
    monkeypatch.undo()
    exported(made, tmp_path / "out")
    assert content(tmp_path / "out") == before
