from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ml_backend.errors import InvalidRequest, NotWritten
from ml_backend.store.replaced import replaced

MARK = "mark"


def is_ours(folder: Path) -> bool:
    return (folder / MARK).exists()


def put(to: Path, text: str = "one") -> None:
    with replaced(to, is_ours, "ours") as place:
        (place / MARK).touch()
        (place / "labels").write_text(text)


def stopped(to: Path, error: BaseException) -> None:
    with replaced(to, is_ours, "ours") as place:
        (place / "labels").write_text("half")
        raise error


def test_it_is_put_in_place_whole(tmp_path: Path) -> None:
    to = tmp_path / "deep" / "out"
    with replaced(to, is_ours, "ours") as place:
        (place / MARK).touch()
        assert not to.exists()
    assert list(to.parent.iterdir()) == [to]
    put(to, "other")
    assert (to / "labels").read_text() == "other"
    assert list(to.parent.iterdir()) == [to]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError()])
def test_after_an_error_everything_is_as_it_was(tmp_path: Path, error: BaseException) -> None:
    put(tmp_path / "out")
    with pytest.raises(type(error)):
        stopped(tmp_path / "out", error)
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
    assert (tmp_path / "out" / "labels").read_text() == "one"


def test_where_the_new_one_cannot_be_moved_the_old_one_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = tmp_path / "out"
    put(to)
    rename = Path.rename

    def refused(path: Path, target: Path) -> Path:
        if path.name.startswith(".aside-"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(NotWritten):
        put(to, "other")
    assert (to / "labels").read_text() == "one"
    assert list(tmp_path.iterdir()) == [to]


_KILLED = """
import os, signal, sys
from pathlib import Path
from ml_backend.store.replaced import replaced
rename = Path.rename
def killed(path, target):
    rename(path, target)
    os.kill(os.getpid(), signal.SIGKILL)
with replaced(Path(sys.argv[1]), lambda _: True, "ours") as place:
    (place / "labels").write_text("half")
    if sys.argv[2] == "filling":
        os.kill(os.getpid(), signal.SIGKILL)
    Path.rename = killed
"""


@pytest.mark.parametrize("when", ["filling", "moving"])
def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path, when: str) -> None:
    to = tmp_path / "out"
    put(to)
    other = tmp_path / f".aside-outer-{'0' * 32}"  # of another folder
    other.mkdir()
    ended = subprocess.run([sys.executable, "-c", _KILLED, str(to), when], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert to.exists() == (when == "filling")
    with pytest.raises(ValueError, match="stop"):
        stopped(to, ValueError("stop"))
    assert (to / "labels").read_text() == "one"
    assert {path.name for path in tmp_path.iterdir()} == {to.name, other.name}
    put(to, "other")
    assert (to / "labels").read_text() == "other"


def test_what_a_running_process_fills_is_left_alone(tmp_path: Path) -> None:
    to = tmp_path / "out"
    with replaced(to, is_ours, "ours") as place:
        (place / MARK).touch()
        put(to, "meanwhile")
        assert place.exists()


def test_what_is_not_ours_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    put(tmp_path / "empty")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine").touch()
    (tmp_path / "file").touch()
    for name in ("notes", "file"):
        with pytest.raises(InvalidRequest):
            put(tmp_path / name)
    with pytest.raises(InvalidRequest):
        put(Path("/"))
    assert (tmp_path / "notes" / "mine").exists()
