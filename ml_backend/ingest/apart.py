"""Decode each file in a process of its own, with limits: one that breaks its decoder or never ends harms no other."""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

from PIL import Image

from ml_backend.errors import FrameUnreadable, printable
from ml_backend.ingest.cut import WHOLE, Cut
from ml_backend.ingest.decoding import BROKEN, HEAD, LATE
from ml_backend.ingest.files import checked_kind
from ml_backend.ingest.pictures import MAX_PIXELS, ClipFrame
from ml_backend.settings import PREFIX, Settings

_LONGEST_WORDS = 65_536
_LARGEST_PICTURE = 3 * MAX_PIXELS  # bytes
_SPARE_SECONDS = 30.0  # how long we wait for an answer after the time limit, at which the decoder ends itself
_SECRETS = (PREFIX, "AWS_")  # prefixes of the variables that decoders need not know


@dataclass(frozen=True)
class Limits:
    """The most seconds that reading one file may take, without the time to store its pictures, and bytes of memory."""

    seconds: float = Settings.model_fields["decode_seconds"].default
    memory: int = Settings.model_fields["decode_bytes"].default

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """The limits from the settings."""
        return cls(settings.decode_seconds, settings.decode_bytes)


class FramesApart:
    """The frames of one file as `frames_of` gives them, without near-duplicates (`distinct`), from another process.

    ``sampled`` counts the frames up to the last one that was yielded, and at the end all of them. Any fault of the file
    or its decoder raises `FrameUnreadable`.
    """

    def __init__(
        self, path: Path, every: Fraction, cut: Cut = WHOLE, distance: int = -1, limits: Limits | None = None
    ) -> None:
        self.sampled = 0
        self._path = path
        self._seconds = (limits or Limits()).seconds
        self._request = {
            "every": str(every),
            "distance": distance,
            "cut": cut.told(),
            **asdict(limits or Limits()),
        }

    def __iter__(self) -> Iterator[ClipFrame]:
        kind = checked_kind(self._path)
        try:
            with self._path.open("rb") as file, _SERVER.asked({**self._request, "kind": kind}, file.fileno()) as answer:
                while isinstance(told := self._next(answer), ClipFrame):
                    yield told
            fault = told
        except OSError as error:
            raise FrameUnreadable(error.strerror or str(error)) from error
        if fault:
            raise FrameUnreadable(fault)

    def _next(self, answer: socket.socket) -> ClipFrame | str:
        """Return the next frame, or at the end what is wrong with the file; empty if nothing is.

        The answer is checked, because a process that decodes broken files cannot be trusted.
        """
        answer.settimeout(self._seconds + _SPARE_SECONDS)
        try:
            length, size = HEAD.unpack(_take(answer, HEAD.size))
            if length > _LONGEST_WORDS or size > _LARGEST_PICTURE:
                raise FrameUnreadable(BROKEN)
            told = json.loads(_take(answer, length))
            self.sampled = int(told.get("sampled", self.sampled))
            if "fault" in told:
                return printable(told["fault"] or "")
            picture = Image.frombytes(told["mode"], tuple(told["size"]), _take(answer, size))
            return ClipFrame(picture, int(told["frame"]), float(told["time"]))
        except TimeoutError:
            raise FrameUnreadable(LATE) from None
        except FrameUnreadable:
            raise
        except Exception:
            raise FrameUnreadable(BROKEN) from None


class _Server:
    """The process that forks for each file; it is started for the first file, and again if it has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        atexit.register(self.end)

    @contextmanager
    def asked(self, request: Mapping[str, object], file: int) -> Iterator[socket.socket]:
        """Ask for the frames of an open file; yield the socket of the answer. Closing it ends the work."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs, self._lock:
                socket.send_fds(self._running(), [json.dumps(request).encode()], [file, theirs.fileno()])
            yield ours

    def start(self) -> None:
        """Start the process, unless it is running."""
        with self._lock:
            self._running()

    def end(self) -> None:
        """End the process, if there is one."""
        with self._lock:
            if self._control is not None:
                self._control.close()
            if self._process is not None:
                self._process.wait()
            self._process = self._control = None

    def _running(self) -> socket.socket:
        if self._process is not None and self._process.poll() is not None:
            self._process = None
        if self._process is None or self._control is None:
            if self._control is not None:
                self._control.close()
            # Each message arrives as a whole, or not at all.
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603
                    [sys.executable, "-m", "ml_backend.ingest.decoding", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    env=_environment(),
                    # Python looks for modules here first, and anybody may have put some into a folder of clips.
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    # What codecs write about broken files helps nobody, and pydicom quotes names.
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
        return self._control


def _environment() -> dict[str, str]:
    """Our environment without secrets, and with numpy limited to one thread: a process that forks must have no more."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_SECRETS)}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


def _take(answer: socket.socket, count: int) -> bytearray:
    taken = bytearray(count)
    at = memoryview(taken)
    while at:
        got = answer.recv_into(at)
        if not got:
            raise EOFError
        at = at[got:]
    return taken


_SERVER = _Server()


def start_early() -> None:
    """Start the decoding process early, so that it loads its libraries before there is anything to decode."""
    _SERVER.start()
