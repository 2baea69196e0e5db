"""Many files read at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ml_backend.errors import BackendError
from ml_backend.ingest.duplicates import DISTANCE
from ml_backend.ingest.paths import ClipFile, find_files
from ml_backend.ingest.pictures import ClipFrame
from ml_backend.ingest.reading import Kept, Read, read_all

EVERY = Fraction(1, 2)


def stills(folder: Path, count: int) -> list[ClipFile]:
    """Write grey pictures, each with its number as its grey value."""
    folder.mkdir()
    for number in range(count):
        Image.fromarray(np.full((32, 32), number, np.uint8)).save(folder / f"{number:03d}.png")
    return find_files([folder])[0]


def grey(picture: Image.Image) -> str:
    return str(picture.getpixel((0, 0)))


def test_files_come_in_their_order_whichever_is_done_first(tmp_path: Path) -> None:
    files = stills(tmp_path / "in", 12)
    second_is_kept = threading.Event()

    def keep(picture: Image.Image) -> str:
        if grey(picture) == "0":
            assert second_is_kept.wait(60)
        second_is_kept.set()
        return grey(picture)

    reads = list(read_all(files, EVERY, DISTANCE, keep))
    assert [read.file for read in reads] == files
    assert [read.kept for read in reads] == [(Kept(str(number), 1, 0, 0.0),) for number in range(12)]


def test_no_more_files_are_read_ahead_than_the_cores_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    taken: list[ClipFile] = []

    def files() -> Iterator[ClipFile]:
        for file in stills(tmp_path / "in", 40):
            taken.append(file)
            yield file

    reads = read_all(files(), EVERY, DISTANCE, grey)
    assert [read.file.name for read in (next(reads), next(reads))] == ["000.png", "001.png"]
    assert len(taken) == 5
    reads.close()  # type: ignore[attr-defined]  # it is a generator
    assert len(taken) == 5


def test_a_fault_costs_its_own_file_alone(tmp_path: Path) -> None:
    files = stills(tmp_path / "in", 3)
    files[1].path.write_bytes(files[1].path.read_bytes()[:60])
    first, second, third = read_all(files, EVERY, DISTANCE, grey)
    assert (first.fault, third.fault) == (None, None)
    assert second == Read(files[1], 0, (), second.fault)
    assert second.fault is not None


def test_a_picture_that_cannot_be_kept_ends_it(tmp_path: Path) -> None:
    kept: list[str] = []

    def keep(picture: Image.Image) -> str:
        if grey(picture) == "3":
            raise BackendError("no room")
        kept.append(grey(picture))
        return kept[-1]

    reads = read_all(stills(tmp_path / "in", 40), EVERY, DISTANCE, keep)
    assert [next(reads).kept[0].name for _ in range(3)] == ["0", "1", "2"]
    with pytest.raises(BackendError, match="no room"):
        next(reads)
    assert len(kept) < 40


def test_a_clip_in_work_is_left_where_the_reading_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, stopped = threading.Event(), threading.Event()
    decoded: list[int] = []

    class Frames:
        sampled = 0

        def __init__(self, path: Path, *_: object) -> None:
            self.path = path

        def __iter__(self) -> Iterator[ClipFrame]:
            for number in range(100):
                if self.path.name == "001.png" and number == 1:
                    first.set()
                    assert stopped.wait(60)
                decoded.append(number)
                yield ClipFrame(Image.new("L", (32, 32), number), number, float(number))
                if self.path.name == "000.png":
                    return

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            stopped.set()
            super().shutdown(wait, cancel_futures=cancel_futures)

    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    monkeypatch.setattr("ml_backend.ingest.reading.FramesApart", Frames)
    monkeypatch.setattr("ml_backend.ingest.reading.ThreadPoolExecutor", Pool)
    reads = read_all(stills(tmp_path / "in", 2), EVERY, DISTANCE, grey)
    next(reads)
    assert first.wait(60)
    reads.close()  # type: ignore[attr-defined]  # as an interruption does
    assert max(decoded) == 1
