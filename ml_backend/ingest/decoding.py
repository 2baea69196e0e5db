"""The process that decodes files for `apart`: it forks for each of them, so that a broken one harms only its own fork.

Its argument is the number of a socket. A request comes with two open files: the one to read, and a socket for the
answer. What is loaded before the first fork is loaded once for all files.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ml_backend.errors import FrameUnreadable
from ml_backend.ingest.cut import Cut
from ml_backend.ingest.duplicates import DISTANCE, distinct
from ml_backend.ingest.files import frames_of_kind
from ml_backend.ingest.pictures import ClipFrame

HEAD = struct.Struct("<II")
"""The head of a message: the length of its JSON, and that of the pixels after it."""
LONGEST_REQUEST = 65_536
LATE = "decoding it takes longer than allowed"
BROKEN = "its decoder crashed, or needed more memory than allowed"
_FILES = 64  # files that a fork may have open
_SPARE_SECONDS = 60  # processor time beyond its limit after which the system ends a fork


def main() -> None:
    """Serve requests until the other end of the socket is closed."""
    control = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the import decides when to end
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a fork
    _load()
    while True:
        request, files, _, _ = socket.recv_fds(control, LONGEST_REQUEST, 2)
        if not request:
            return
        with suppress(OSError):  # no fork is possible: whoever asked gets no answer
            if os.fork() == 0:
                _fork(control, json.loads(request), *files)
        for file in files:
            os.close(file)


def _load() -> None:
    """Load what libraries load at their first use."""
    Image.preinit()
    black = [ClipFrame(Image.fromarray(np.zeros((32, 32), np.uint8)), number, 0.0) for number in range(2)]
    list(distinct(black, DISTANCE))
    gc.freeze()  # or the first collection in a fork would copy all of the memory


def _fork(control: socket.socket, request: Mapping[str, Any], file: int, answer: int) -> None:
    """Answer one request and end the process; a second fork decodes, and the answer says so if a signal ends it."""
    try:
        control.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        with socket.socket(fileno=answer) as to:
            decoder = os.fork()
            if decoder == 0:
                _limit(request["seconds"], request["memory"])
                _answer(to, request, Path(f"/proc/self/fd/{file}"))
                return
            _, status = os.waitpid(decoder, 0)
            if os.WIFSIGNALED(status):
                late = os.WTERMSIG(status) in (signal.SIGALRM, signal.SIGXCPU)
                _send(to, {"fault": LATE if late else BROKEN})
    finally:
        os._exit(0)


def _limit(seconds: float, memory: int) -> None:
    # A limit on data, not on address space: libraries reserve far more addresses than they use.
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    processor = int(seconds * len(os.sched_getaffinity(0))) + _SPARE_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (processor, processor + 1))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, _FILES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.setitimer(signal.ITIMER_REAL, seconds)  # without a handler, the signal always ends the process


def _answer(to: socket.socket, request: Mapping[str, Any], path: Path) -> None:
    """Send the frames, and at the end how many were sampled and what is wrong with the file."""
    sampled = 0

    def counted() -> Iterator[ClipFrame]:
        nonlocal sampled
        for frame in frames_of_kind(request["kind"], path, Fraction(request["every"]), Cut.read(request["cut"])):
            sampled += 1
            yield frame

    fault = None
    try:
        for frame in distinct(counted(), request["distance"]):
            picture = frame.picture
            about = {"sampled": sampled, "frame": frame.frame, "time": frame.time}
            _send(to, {**about, "mode": picture.mode, "size": picture.size}, picture.tobytes())
    except FrameUnreadable as error:
        fault = str(error)
    except MemoryError:
        fault = "it needs more memory than allowed"
    _send(to, {"sampled": sampled, "fault": fault})


def _send(to: socket.socket, told: Mapping[str, Any], pixels: bytes = b"") -> None:
    # The clock stops meanwhile: if the reader is slow to store pictures, that is not the file's fault.
    left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    words = json.dumps(told).encode()
    to.sendall(HEAD.pack(len(words), len(pixels)) + words)
    to.sendall(pixels)
    signal.setitimer(signal.ITIMER_REAL, left)


if __name__ == "__main__":
    main()
