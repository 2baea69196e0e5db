"""Files decoded in processes of their own, and what those do that break."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ml_backend.errors import FrameUnreadable
from ml_backend.ingest import apart
from ml_backend.ingest.apart import FramesApart, Limits
from ml_backend.ingest.cut import Box, Cut
from ml_backend.ingest.decoding import BROKEN, HEAD, LATE
from ml_backend.ingest.files import frames_of
from ml_backend.ingest.pictures import ClipFrame
from tests.ingest.test_files import ramp, write_dicom, write_video

ALL = Fraction(0)
PATIENCE = 30.0


@pytest.fixture
def server() -> apart._Server:
    """The process that decodes."""
    return apart._SERVER


@pytest.fixture
def own_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[apart._Server]:
    """A process that decodes, for one test."""
    server = apart._Server()
    monkeypatch.setattr(apart, "_SERVER", server)
    yield server
    server.end()


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A clip of which a decoder has more frames ahead than a socket holds."""
    pictures = np.random.default_rng(0).integers(0, 255, (12, 600, 800), np.uint8)
    return write_dicom(tmp_path / "clip.dcm", pictures)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A still that takes a while and much memory."""
    path = tmp_path / "large.png"
    noise = np.random.default_rng(0).integers(0, 255, (4000, 4000, 3), np.uint8)
    Image.fromarray(noise).save(path, compress_level=1)
    return path


def process(server: apart._Server) -> int:
    server.start()
    assert server._process is not None
    return server._process.pid


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def contents(frames: Iterable[ClipFrame]) -> list[tuple[object, ...]]:
    return [(f.frame, f.time, f.picture.mode, f.picture.size, f.picture.tobytes()) for f in frames]


def test_frames_are_the_same_as_in_this_process(tmp_path: Path) -> None:
    cut = Cut(Box(4, 4, 40, 30), (Box(0, 0, 10, 10),))
    Image.new("RGB", (64, 48), (10, 20, 30)).save(tmp_path / "colour.png")
    for path in (write_video(tmp_path / "clip.mp4", list(range(20))), tmp_path / "colour.png"):
        frames = FramesApart(path, Fraction(1, 5), cut)
        assert contents(frames) == contents(frames_of(path, Fraction(1, 5), cut))
        assert frames.sampled == len(list(frames_of(path, Fraction(1, 5))))


def test_near_duplicates_count_as_sampled(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "clip.dcm", np.repeat(ramp(1), 5, axis=0))
    frames = FramesApart(path, ALL, distance=0)
    assert [frame.frame for frame in frames] == [0]
    assert frames.sampled == 5


def test_a_fault_comes_after_the_frames_that_can_be_read(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "clip.dcm", ramp(4), NumberOfFrames=6)
    frames, expected = FramesApart(path, ALL), frames_of(path, ALL)
    with pytest.raises(FrameUnreadable) as here:
        list(expected)
    with pytest.raises(FrameUnreadable) as there:
        list(frames)
    assert str(there.value) == str(here.value)
    for missing in (tmp_path / "absent.mp4", tmp_path):
        with pytest.raises(FrameUnreadable):
            list(FramesApart(missing, ALL))


@pytest.mark.parametrize("how", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_decoder_that_breaks_costs_its_own_file(server: apart._Server, clip: Path, how: signal.Signals) -> None:
    broken, other = iter(FramesApart(clip, ALL)), iter(FramesApart(clip, ALL))
    next(broken)
    (monitor,) = children(process(server))
    next(other)
    (decoder,) = children(monitor)
    os.kill(decoder, how)
    with pytest.raises(FrameUnreadable):
        list(broken)
    assert len(list(other)) == 11
    assert len(list(FramesApart(clip, ALL))) == 12


def test_a_file_that_takes_too_long_is_given_up(server: apart._Server, large: Path, tmp_path: Path) -> None:
    with pytest.raises(FrameUnreadable) as caught:
        list(FramesApart(large, ALL, limits=Limits(seconds=0.05)))
    assert str(caught.value) == LATE
    wait_for(lambda: not children(process(server)))
    assert len(list(FramesApart(large, ALL))) == 1


def test_waiting_for_storage_is_not_the_files_time(clip: Path) -> None:
    slow = Limits(seconds=1.5)
    frames = iter(FramesApart(clip, ALL, limits=slow))
    next(frames)
    time.sleep(2)
    assert len(list(frames)) == 11


def test_a_file_that_needs_too_much_memory_is_given_up(large: Path) -> None:
    with pytest.raises(FrameUnreadable) as caught:
        list(FramesApart(large, ALL, limits=Limits(memory=300_000_000)))
    assert str(caught.value) != LATE
    assert len(list(FramesApart(large, ALL))) == 1


def test_a_file_that_nobody_reads_on_is_left(server: apart._Server, clip: Path) -> None:
    frames = iter(FramesApart(clip, ALL))
    next(frames)
    assert children(process(server))
    frames.close()  # type: ignore[attr-defined]  # it is a generator
    wait_for(lambda: not children(process(server)))


def test_a_process_that_somebody_ended_is_started_again(own_server: apart._Server, clip: Path) -> None:
    first = process(own_server)
    os.kill(first, signal.SIGKILL)
    assert own_server._process is not None
    own_server._process.wait()
    assert len(list(FramesApart(clip, ALL))) == 12
    assert process(own_server) != first


def test_it_ends_with_whoever_started_it(own_server: apart._Server) -> None:
    pid = process(own_server)
    own_server.end()
    assert not Path(f"/proc/{pid}").exists()


def test_decoders_know_no_secret_and_load_nothing_from_where_clips_lie(
    own_server: apart._Server, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TSAL_LABEL_STUDIO_TOKEN", "secret-token-of-a-lead")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-key-of-a-bucket")
    monkeypatch.chdir(clip.parent)
    for name in ("av", "json", "numpy"):
        (clip.parent / f"{name}.py").write_text("raise SystemExit(1)")
    assert len(list(FramesApart(clip, ALL))) == 12
    assert b"secret-" not in Path(f"/proc/{process(own_server)}/environ").read_bytes()


def message(told: object, pixels: bytes = b"", size: int | None = None) -> bytes:
    words = json.dumps(told).encode()
    return HEAD.pack(len(words), len(pixels) if size is None else size) + words + pixels


FRAME = {"sampled": 1, "frame": 0, "time": 0.0, "mode": "L", "size": [2, 2]}


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\0",
        HEAD.pack(2**32 - 1, 0),
        HEAD.pack(10, 2**32 - 1),
        HEAD.pack(3, 0) + b"{}}",
        HEAD.pack(2, 0) + b"\xff\xff",
        message([]),
        message({}),
        message(FRAME, b"123"),
        message(FRAME, b"1234", size=2**31),
        message({**FRAME, "mode": "RGB"}, b"1234"),
        message({**FRAME, "mode": "odd"}, b"1234"),
        message({**FRAME, "size": [-2, -2]}, b"1234"),
        message({**FRAME, "size": [2**40, 2**40]}, b"1234"),
        message({**FRAME, "size": "2x"}, b"1234"),
        message({**FRAME, "frame": None}, b"1234"),
        message({**FRAME, "time": "never"}, b"1234"),
    ],
)
def test_an_answer_that_no_decoder_of_ours_gives_is_a_fault(clip: Path, sent: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(sent)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(FrameUnreadable) as caught:
            FramesApart(clip, ALL)._next(ours)
    assert str(caught.value) == BROKEN
