"""Which files an import finds, and what it says of those it cannot reach."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ml_backend.ingest.paths import find_files
from tests.commands.test_import_frames import Place, write_still


def test_links_to_folders_are_reported(tmp_path: Path) -> None:
    place = Place(tmp_path)
    write_still(place.clips / "P07" / "a.png", 1)
    write_still(tmp_path / "elsewhere" / "b.png", 2)
    (place.clips / "P08").symlink_to(tmp_path / "elsewhere")
    (place.clips / "again").symlink_to(place.clips / "P07")
    (place.clips / "gone.png").symlink_to(tmp_path / "absent.png")
    report = place.run()
    assert report.imported == 1
    reasons = {path.name: reason for path, reason in report.failed}
    assert reasons.keys() == {"P08", "gone.png"}
    assert "link to a folder" in reasons["P08"]


@contextmanager
def without_root() -> Iterator[None]:
    """Let permissions count: they do not for root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_unreadable_folders_are_reported() -> None:
    with tempfile.TemporaryDirectory() as made:
        top = Path(made)
        top.chmod(0o755)
        write_still(top / "P07" / "a.png", 1)
        write_still(top / "closed" / "b.png", 2)
        write_still(top / "listed" / "c.png", 3)
        (top / "closed").chmod(0)
        (top / "listed").chmod(0o444)
        with without_root():
            files, failed = find_files([top])
            nothing, closed = find_files([top / "closed"])
        assert [file.name for file in files] == ["P07/a.png"]
        assert {path.name for path, _ in failed} == {"closed", "c.png"}
        assert nothing == []
        assert [path.name for path, _ in closed] == ["closed"]
        for name in ("closed", "listed"):
            (top / name).chmod(0o700)


def test_the_folder_above_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path)
    write_still(place.clips / "P07" / "visit1" / "a.png", 1)
    monkeypatch.chdir(place.clips / "P07" / "visit1")
    place.importer(patient_level=0).run([Path("..")])
    assert [row["patient"] for row in place.studio.rows] == ["P07"]
