"""What killed processes leave half written goes in time, wherever it lies."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ml_backend.ingest.served import Folder
from ml_backend.loop.watch import sweep
from ml_backend.store.files import LEFTOVER_SECONDS, aside
from ml_backend.store.format import IMPORTS, PROJECTS
from ml_backend.store.secret import kept_secret
from tests.installation import PROJECT
from tests.studio_stand_in import StudioStandIn


class Served(StudioStandIn):
    """Shows every folder already."""

    def local_storages(self, project: int) -> list[str]:
        return ["/"]


def old(*paths: Path) -> tuple[Path, ...]:
    """Make files or folders look as old as leftovers are before they go."""
    then = time.time() - LEFTOVER_SECONDS - 1
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (then, then))
    return paths


def test_the_data_folder_is_swept(tmp_path: Path) -> None:
    left = old(
        aside(tmp_path / "model-problem"),
        aside(tmp_path / IMPORTS / "7.json"),
        aside(tmp_path / PROJECTS / "7" / "orders" / "one.npz"),
    )
    elsewhere = old(aside(tmp_path / "redis" / "dump"))
    sweep(tmp_path)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in elsewhere)


def test_half_a_secret_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "hardlink_to", killed)
        with pytest.raises(KeyboardInterrupt):
            kept_secret(tmp_path / "key", "remove it")
    (left,) = [path for path in tmp_path.iterdir() if path.name not in ("key", "format.json")]
    old(left)
    sweep(tmp_path)
    assert not left.exists()


def test_an_import_sweeps_the_folder_of_frames(tmp_path: Path) -> None:
    (left,) = old(aside(tmp_path / "frames" / "a.png"))
    fresh = aside(tmp_path / "frames" / "b.png")  # another import may be writing it
    fresh.touch()
    Folder(tmp_path / "frames", tmp_path).open(Served(), PROJECT)  # type: ignore[arg-type]
    assert (left.exists(), fresh.exists()) == (False, True)
