"""Files that matter: whole or not there, with the permissions of their folder, and nothing left behind."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ml_backend.store import files


@pytest.fixture(autouse=True)
def group() -> Iterator[None]:
    """The umask of a team whose members share a group."""
    before = os.umask(0o002)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestWriteAside:
    def test_the_text_is_there_and_nothing_else(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "active"
        files.write_aside(path, "one")
        files.write_aside(path, "zwei: ß")
        assert path.read_text(encoding="utf-8") == "zwei: ß"
        assert list(path.parent.iterdir()) == [path]

    def test_files_and_folders_follow_the_umask(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "active"
        files.write_aside(path, "one")
        assert (mode(path), mode(path.parent)) == (0o664, 0o775)
        assert mode(files.folder_aside(tmp_path / "version")) == 0o775

    def test_the_group_of_a_shared_folder_is_handed_on(self, tmp_path: Path) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root may give a folder to another group")
        shared = tmp_path / "shared"
        shared.mkdir()
        os.chown(shared, -1, 4242)
        shared.chmod(0o2775)
        files.write_aside(shared / "new" / "active", "one")
        folder = files.folder_aside(shared / "version")
        assert {path.stat().st_gid for path in (shared / "new", shared / "new" / "active", folder)} == {4242}

    def test_after_an_error_the_old_text_stays_and_nothing_is_left(self, tmp_path: Path) -> None:
        path = tmp_path / "active"
        files.write_aside(path, "old")
        with pytest.raises(TypeError), files.written_aside(path) as file:
            file.writelines([b"ne", None])  # type: ignore[list-item]
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]


class TestLeftovers:
    def test_old_leftovers_are_removed_and_nothing_else(self, tmp_path: Path) -> None:
        store = tmp_path / "7" / "versions"
        kept = [
            store / "msml-0001-0123abcd",
            store / ".lock",
            store / ".aside-fresh",
            tmp_path / "7" / ".versions.lock",
        ]
        gone = [
            store / ".aside-left",
            store / ".removed-left",
            tmp_path / "7" / ".active-ab_12xyz",
            files.folder_aside(store / "msml-0002-0123abcd"),
            files.aside(store / "manifest.json"),
        ]
        for path in (*kept, *gone[:2]):
            path.mkdir(parents=True)
            (path / "file").touch()
        for path in (gone[2], gone[4]):
            path.touch()
        old = time.time() - files.LEFTOVER_SECONDS - 1
        for path in (*kept, *gone):
            if path.name != ".aside-fresh":
                os.utime(path, (old, old))
        assert files.remove_leftovers(tmp_path) == len(gone)
        assert not any(path.exists() for path in gone)
        assert all((path / "file").exists() for path in kept)

    def test_folders_below_are_left_alone_where_that_is_asked(self, tmp_path: Path) -> None:
        (tmp_path / "below").mkdir()
        old = time.time() - files.LEFTOVER_SECONDS - 1
        for path in (above := files.aside(tmp_path / "a"), below := files.aside(tmp_path / "below" / "b")):
            path.touch()
            os.utime(path, (old, old))
        assert files.remove_leftovers(tmp_path, deep=False) == 1
        assert (above.exists(), below.exists()) == (False, True)

    def test_a_folder_that_is_not_there_has_none(self, tmp_path: Path) -> None:
        assert files.remove_leftovers(tmp_path / "nowhere") == 0
