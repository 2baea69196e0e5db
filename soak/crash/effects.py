"""Name every effect that a process has outside its memory, and kill the process or fail the call at one of them.

Python tells audit hooks of each file operation before it happens, and a hook may raise: so none escapes, whichever
function makes it. Calls to Redis, Label Studio and buckets are caught where the client libraries send them.
What a library writes without Python, as safetensors writes weights, is noticed by the rename that follows.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import aiobotocore.httpsession
import httpx
import redis.connection
import redis.exceptions
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

Kind = Literal["file", "redis", "studio", "bucket"]
Fate = Literal["kill", "torn", "reset", "timeout", "ENOSPC", "EIO"]
END = "the end"
TRIES = 5  # more than any client library makes
READS = frozenset(
    (
        "AUTH",
        "CLIENT",
        "EXISTS",
        "FT",
        "GET",
        "HELLO",
        "HGET",
        "HGETALL",
        "HMGET",
        "INFO",
        "KEYS",
        "LLEN",
        "LRANGE",
        "MGET",
        "PING",
        "PTTL",
        "SCARD",
        "SELECT",
        "SISMEMBER",
        "SMEMBERS",
        "SUBSCRIBE",
        "TTL",
        "TYPE",
        "UNSUBSCRIBE",
        "UNWATCH",
        "WATCH",
        "ZCARD",
        "ZCOUNT",
        "ZRANGE",
        "ZRANGEBYSCORE",
        "ZSCORE",
    )
)
HANDSHAKE = frozenset(("AUTH", "CLIENT", "HELLO", "PING", "SELECT"))
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_RUN = (  # what differs from run to run, and what replaces it
    (re.compile(r"(damaged-)?msml-\d{4,}-[0-9a-f]{8}"), "VERSION"),
    (re.compile(r"(place in queue, )?(diversity|VERSION)\.\d+"), "ORDER"),
    (re.compile(r"-?[0-9a-f]{32,}"), "*"),
    (re.compile(r"\d+"), "#"),
)


@dataclass(frozen=True)
class Point:
    """The ``nth`` time that a run has the effect ``name``; ``changes``: whether it changes anything."""

    name: str
    nth: int
    kind: Kind
    changes: bool
    writes: bool = False

    @property
    def fates(self) -> tuple[Fate, ...]:
        """What is tried here. A kill right after an effect is a kill right before the next, so each point has one."""
        if self.kind == "file":
            return ("kill", "torn", "ENOSPC", "EIO") if self.writes else ("kill", "EIO")
        return ("kill", "reset", "timeout") if self.changes else ("reset",)


def general(text: str) -> str:
    """Replace what differs from run to run."""
    for pattern, stands in _RUN:
        text = pattern.sub(stands, text)
    return text


@dataclass
class Watch:
    """Counts the effects of this process, in files below ``root`` and on servers; at ``point``, ``fate`` strikes.

    ``seen``: the effects so far; ``struck``: whether the fate has struck.
    """

    root: Path
    point: tuple[str, int] | None = None
    fate: Fate = "kill"
    seen: list[Point] = field(default_factory=list)
    struck: bool = False
    _counts: Counter[str] = field(default_factory=Counter)
    _failing: object = None
    _tries: int = TRIES
    _torn: Path | None = None
    _full: bool = False
    _gate: Any = field(default_factory=threading.RLock)
    _on: bool = False

    @contextmanager
    def watching(self, note: Callable[[Point], None]) -> Iterator[None]:
        """Watch this process until the end of the block; ``note`` is told of each effect before it happens."""
        self._note = note
        sys.addaudithook(self._audited)
        with (
            _patched(redis.connection.AbstractConnection, "send_packed_command", self._redis),
            _patched(httpx.HTTPTransport, "handle_request", self._studio),
            _patched(aiobotocore.httpsession.AIOHTTPSession, "send", self._bucket),
        ):
            self._on = True
            yield
            if self.point == (END, 1) or self._torn is not None:
                self._end()
            self._on = False

    def _strikes(self, kind: Kind, name: str, changes: bool, writes: bool = False) -> bool:
        """Note an effect; returns whether it is the one that is to fail."""
        if self._torn is not None:
            self._end()
        self._counts[name] += 1
        one = Point(name, self._counts[name], kind, changes, writes)
        self.seen.append(one)
        self._note(one)
        if self.point != (one.name, one.nth):
            return False
        self.struck = True
        if self.fate == "kill":
            self._end()
        return True

    def _fails_again(self, call: object) -> bool:
        """Whether a call repeats the one that failed; after a few tries the connection works again."""
        if call != self._failing or self._tries == 0:
            return False
        self._tries -= 1
        return True

    def _end(self) -> None:
        if self._torn is not None and self._torn.is_file():
            os.truncate(self._torn, self._torn.stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)

    # Files

    def _audited(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._on or event not in _FILE_EVENTS:
            return
        with self._gate:
            self._on = False  # what this does itself does not count
            try:
                self._file(event, arguments)
            finally:
                self._on = True

    def _file(self, event: str, arguments: tuple[Any, ...]) -> None:
        verb = _FILE_EVENTS[event]
        if verb == "open" and not (isinstance(arguments[2], int) and arguments[2] & _WRITING):
            return
        paths = [path for path in _paths(event, arguments) if self._ours(path)]
        if not paths or _changes_nothing(verb, paths):
            return
        names = " -> ".join(str(path.relative_to(self.root)) for path in paths)
        name = f"{general(f'{verb} {names}')} in {_caller()}"
        writes = verb in ("open", "mkdir", "link", "symlink")
        if self._full and writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(paths[0]))
        if not self._strikes("file", name, True, writes):
            return
        if self.fate == "torn":
            self._torn = paths[0]
        elif self.fate in ("ENOSPC", "EIO"):
            self._full = self.fate == "ENOSPC"
            number = getattr(errno, self.fate)
            raise OSError(number, os.strerror(number), str(paths[-1]))

    def _ours(self, path: Path) -> bool:
        return path.is_relative_to(self.root)

    # Redis

    def _redis(self, send: Callable[..., Any], connection: Any, command: Any, *rest: Any, **options: Any) -> Any:
        packed = b"".join(command) if not isinstance(command, bytes | str) else _bytes(command)
        words = list(_commands(packed))
        if not self._on or all(one[0] in HANDSHAKE for one in words):
            return send(connection, command, *rest, **options)
        if self._fails_again(packed):
            raise redis.exceptions.ConnectionError("reset")
        names = "; ".join(dict.fromkeys(f"{one[0]} {one[1]}".strip() for one in words))
        changes = any(one[0] not in READS for one in words)
        with self._gate:
            strikes = self._strikes("redis", f"redis {general(names)} in {_caller()}", changes)
        if strikes and self.fate == "reset":
            self._failing = packed  # each try that the client library makes fails
            raise redis.exceptions.ConnectionError("reset")
        sent = send(connection, command, *rest, **options)
        if strikes:
            for _ in words:
                connection.read_response()  # it took effect
            connection.disconnect()
            raise redis.exceptions.TimeoutError("timed out")
        return sent

    # Label Studio

    def _studio(self, send: Callable[..., Any], transport: Any, request: httpx.Request) -> Any:
        what = (request.method, request.url)
        if self._fails_again(what):
            raise httpx.ReadError("reset", request=request)
        changes = request.method != "GET"
        action = request.url.params.get("id", "")
        name = f"studio {request.method} {general(request.url.path)} {action}".strip() + f" in {_caller()}"
        with self._gate:
            strikes = self._on and self._strikes("studio", name, changes)
        if strikes and self.fate == "reset":
            self._failing = what
            raise httpx.ReadError("reset", request=request)
        answer = send(transport, request)
        if strikes:
            answer.read()
            answer.close()
            raise httpx.ReadTimeout("timed out", request=request)
        return answer

    # Buckets

    async def _bucket(self, send: Callable[..., Any], session: Any, request: Any) -> Any:
        what = (request.method, request.url)
        if self._fails_again(what):
            raise EndpointConnectionError(endpoint_url=request.url)
        changes = request.method not in ("GET", "HEAD")
        name = f"bucket {request.method} {general(urlsplit(request.url).path)}"
        with self._gate:
            strikes = self._on and self._strikes("bucket", name, changes)
        if strikes and self.fate == "reset":
            self._failing = what  # each try that the client library makes fails
            raise EndpointConnectionError(endpoint_url=request.url)
        answer = await send(session, request)
        if strikes:
            await answer.content
            raise ReadTimeoutError(endpoint_url=request.url)
        return answer


_FILE_EVENTS = {
    "open": "open",
    "os.rename": "rename",
    "os.remove": "remove",
    "os.mkdir": "mkdir",
    "os.rmdir": "rmdir",
    "os.link": "link",
    "os.symlink": "symlink",
    "os.truncate": "truncate",
}
"""Python's audit events, and what the effects are called."""


def _paths(event: str, arguments: tuple[Any, ...]) -> list[Path]:
    """The files that an audit event is about; none for a file that is already open."""
    if event in ("os.rename", "os.link", "os.symlink"):
        pairs = [(arguments[0], arguments[2] if len(arguments) > 2 else -1), (arguments[1], arguments[-1])]
    elif event == "os.mkdir":
        pairs = [(arguments[0], arguments[2])]
    else:
        pairs = [(arguments[0], arguments[1] if event in ("os.remove", "os.rmdir") else -1)]
    found = []
    for path, folder in pairs:
        if isinstance(path, str | bytes | os.PathLike):
            base = Path(f"/proc/self/fd/{folder}").resolve() if isinstance(folder, int) and folder >= 0 else Path.cwd()
            found.append(base / os.fsdecode(path))
    return found


def _changes_nothing(verb: str, paths: Sequence[Path]) -> bool:
    """Whether everything stays as it is: the folder exists, the file is gone, or an existing lock is taken."""
    if verb == "mkdir":
        return paths[0].exists()
    if verb in ("remove", "rmdir"):
        return not os.path.lexists(paths[0])
    return verb == "open" and "lock" in paths[0].name and paths[0].exists()


def _commands(packed: bytes) -> Iterator[tuple[str, str]]:
    """The commands of a request to Redis, each with its first argument, or a script's first key."""
    rest = packed
    while rest.startswith(b"*"):
        head, _, rest = rest.partition(b"\r\n")
        words = []
        for _ in range(int(head[1:])):
            size, _, rest = rest.partition(b"\r\n")
            words.append(rest[: int(size[1:])].decode(errors="replace"))
            rest = rest[int(size[1:]) + 2 :]
        verb = words[0].upper()
        key = words[3] if verb in ("EVAL", "EVALSHA") and len(words) > 3 else words[1] if len(words) > 1 else ""
        yield verb, key if ":" in key else ""


def _bytes(command: bytes | str) -> bytes:
    return command.encode() if isinstance(command, str) else command


def _caller() -> str:
    """The function of the product that causes an effect: the nearest above the helpers for files and calls."""
    frame = sys._getframe(1)
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith("ml_backend.") and module not in ("ml_backend.store.files", "ml_backend.studio.calls"):
            return f"{module.removeprefix('ml_backend.')}:{frame.f_code.co_name}"
        if frame.f_back is None:
            break
        frame = frame.f_back
    return "rq"


@contextmanager
def _patched(owner: Any, name: str, around: Callable[..., Any]) -> Iterator[None]:
    """Until the block ends, call ``around`` with the method and its arguments instead of the method."""
    plain = getattr(owner, name)

    def called(*arguments: Any, **options: Any) -> Any:
        return around(plain, *arguments, **options)

    setattr(owner, name, called)
    try:
        yield
    finally:
        setattr(owner, name, plain)
