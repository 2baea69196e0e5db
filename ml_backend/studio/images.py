"""Fetch the frame of a task, only from Label Studio and from allowed hosts, and within limits.

Task data comes from whoever can write to a project, so an address in it is not trusted. Nothing is implicit here: no
proxy, no cookie, no ``.netrc``, no redirect that is not checked, no decompression.

Everything else speaks HTTP through httpx. Frames use http.client, because one frame may take only so long in all: the
time-outs of httpx start again with every byte, and it hands out the socket only after the response's headers, so a
server that drips its handshake or its headers could hold a request for ever. Here the socket is ours from the start and
is cut at the deadline.
"""

from __future__ import annotations

import base64
import http.client
import os
import re
import socket
import ssl
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

import certifi

from ml_backend.errors import FrameUnreadable, SettingsError, StudioUnavailable
from ml_backend.studio.addresses import (
    FILE_STAMP,
    LOCAL_FILES,
    PORTS,
    Origin,
    allowed_host,
    local_path,
    origin_of,
    shown_address,
    split,
)

# Where Label Studio keeps files. A token goes nowhere else, so that no task can make us call Label Studio's API.
_FILES = (LOCAL_FILES, "/data/upload/", "/storage-data/")
_CLOUD = ("s3", "gs", "azure-blob")
_REDIRECTS = (301, 302, 303, 307, 308)
_HOPS = 5
_HEALTH_SECONDS = 5.0  # time that Label Studio's health check may take
_GATEWAY = (502, 503, 504)  # a proxy answers so if the Label Studio behind it is down
_BLOCK = 65_536
# Headers that tell versions of a file apart, best first, and those that ask whether it is still the same.
_VALIDATORS = {"ETag": "If-None-Match", "Last-Modified": "If-Modified-Since"}
_LONGEST_VALIDATOR = 1000
_SAFE = "%/?:@!$&'()*+,;=~-._[]"  # what an address may hold besides letters and digits
_HINTS = {
    401: "; check the access token",
    403: "; check the access token",
    404: "; it is not there, or no storage of the project covers it",
}


class FrameFetcher:
    """Reads the frames that tasks point to.

    ``authorization`` gives the value of the Authorization header for Label Studio, and only Label Studio's own file
    addresses are sent it. ``document_root`` is the folder that Label Studio serves as local files, None where this
    machine does not see it: then Label Studio is asked. ``allowed_hosts`` are ``name`` (the scheme's usual port) or
    ``name:port``. ``max_bytes`` and ``seconds`` limit one frame, redirects included.
    """

    def __init__(
        self,
        url: str,
        authorization: Callable[[], str],
        *,
        document_root: Path | None = None,
        allowed_hosts: Sequence[str] = (),
        max_bytes: int = 50_000_000,
        seconds: float = 20.0,
    ) -> None:
        base = urlsplit(url.rstrip("/"))
        origin = origin_of(base)
        if origin is None:
            raise SettingsError("the address of Label Studio must be of the form http://HOST:PORT or https://HOST")
        self._studio, self._base = origin, base
        self._authorization = authorization
        self._document_root = document_root
        self._allowed = frozenset(allowed_host(host) for host in allowed_hosts)
        self._max_bytes = max_bytes
        self._seconds = seconds

    def fetch(self, url: str, task: int | None = None) -> bytes:
        """Read the file that a task's data names; ``task`` is needed for cloud storage.

        Raises FrameUnreadable, whose message never holds a token or the query of a signed address, or StudioUnavailable
        if Label Studio does not answer at all, so that the frame itself may be fine.
        """
        found = self.look(url, task)
        return found[0] if found else b""

    def look(self, url: str, task: int | None = None, stamp: str = "") -> tuple[bytes, str] | None:
        """Like `fetch`, with the file's stamp; None where ``stamp`` says that the file is the same as before.

        The stamp of a local file is its size and its time of change, that of another the server's ETag or
        Last-Modified, and empty where the server gives neither.
        """
        try:
            if url.startswith(LOCAL_FILES) and self._document_root is not None:
                return self._read(local_path(url), self._document_root, stamp)
            return self._download(self._address(url, task), time.monotonic() + self._seconds, stamp)
        except FrameUnreadable as error:
            raise FrameUnreadable(f"{shown_address(url)}: {error}") from None

    def _address(self, url: str, task: int | None) -> SplitResult:
        """The address at which to fetch the file that a task's data names."""
        if url.startswith(_FILES):
            return urlsplit(self._base.geturl() + url)
        parts = split(url)
        if parts.scheme in PORTS:
            return parts
        if parts.scheme not in _CLOUD:
            raise FrameUnreadable(
                "not an address that frames are read from; use Label Studio's local files, an upload, a cloud storage "
                "of the project, or http(s) on an allowed host"
            )
        if task is None:
            raise FrameUnreadable("a file in a cloud storage can be read only with its task")
        name = base64.urlsafe_b64encode(url.encode()).decode()
        return urlsplit(f"{self._base.geturl()}/tasks/{task}/resolve/?fileuri={quote(name)}")

    def _read(self, name: str, root: Path, known: str) -> tuple[bytes, str] | None:
        """Read a file below the document root, wherever its links lead, unless its stamp is ``known``."""
        try:
            top = root.resolve(strict=True)
            path = (top / name).resolve(strict=True)
            if not path.is_relative_to(top):
                raise FrameUnreadable("leads out of the folder of local files")
            # Not blocking, because opening a pipe would wait for its writer.
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW), "rb") as file:
                state = os.fstat(file.fileno())
                if not stat.S_ISREG(state.st_mode):
                    raise FrameUnreadable("is not a file")
                stamp = f"{FILE_STAMP}{state.st_size} {state.st_mtime_ns}"
                if stamp == known:
                    return None
                content = file.read(self._max_bytes + 1)
        except (OSError, RuntimeError, ValueError) as error:
            raise FrameUnreadable(
                f"cannot be read from the folder of local files {root} ({type(error).__name__}); it must be the folder "
                "that Label Studio calls LOCAL_FILES_DOCUMENT_ROOT"
            ) from None
        if len(content) > self._max_bytes:
            raise self._too_large()
        return content, stamp

    def _download(self, address: SplitResult, deadline: float, known: str) -> tuple[bytes, str] | None:
        """Follow an address over its redirects and check each of them; only Label Studio gets the token."""
        own = True
        for _ in range(_HOPS + 1):
            origin = origin_of(address)
            if origin is None:
                raise FrameUnreadable("leads to an address that is not http(s) or has a user name in it")
            own = own and origin == self._studio
            self._require_allowed(origin, address)
            # Send the host as it was written: a cloud storage's signature covers it.
            headers = {"Host": address.netloc, "Accept-Encoding": "identity", "User-Agent": "lung-ultrasound-annotator"}
            name, _, validator = known.partition(" ")
            if name in _VALIDATORS:
                headers[_VALIDATORS[name]] = validator
            if own:
                headers["Authorization"] = self._authorization()
            answer = self._exchange(origin, address, headers, deadline)
            if not isinstance(answer, str):
                return answer
            address = split(urljoin(address.geturl(), answer))
        raise FrameUnreadable(f"is sent on more than {_HOPS} times")

    def _require_allowed(self, origin: Origin, address: SplitResult) -> None:
        if origin == self._studio:
            path = unquote(address.path).removeprefix(unquote(self._base.path))
            if ".." in path.split("/") or not (path.startswith(_FILES) or re.fullmatch(r"/tasks/\d+/resolve/", path)):
                raise FrameUnreadable(f"{path} is not among the files of Label Studio")
            return
        if (origin.host, None) in self._allowed and origin.port == PORTS[origin.scheme]:
            return
        if (origin.host, origin.port) not in self._allowed:
            raise FrameUnreadable(
                f"the host {origin.host}:{origin.port} is not allowed; if frames may come from there, add it to the "
                "allowed hosts"
            )

    def _exchange(
        self, origin: Origin, address: SplitResult, headers: dict[str, str], deadline: float
    ) -> tuple[bytes, str] | str | None:
        """One request: the file with its stamp, None if it is the same, or the address that it is sent on to."""
        path = quote(f"{address.path or '/'}{'?' if address.query else ''}{address.query}", safe=_SAFE)
        try:
            with _connected(origin, deadline) as connection:
                connection.request("GET", path, headers=headers)
                with connection.getresponse() as response:
                    if response.status in _REDIRECTS:
                        return response.headers.get("Location", "")
                    if response.status == http.client.NOT_MODIFIED and not headers.keys().isdisjoint(
                        _VALIDATORS.values()
                    ):
                        return None
                    if response.status in _GATEWAY:
                        self._require_studio(origin)
                    if response.status != http.client.OK:
                        raise FrameUnreadable(
                            f"{origin.host}:{origin.port} answered {response.status}{_HINTS.get(response.status, '')}"
                        )
                    return self._body(response, deadline), _stamp(response)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._require_studio(origin)
            if time.monotonic() >= deadline:
                raise self._too_slow() from None
            raise FrameUnreadable(f"{origin.host}:{origin.port} does not answer ({type(error).__name__})") from None

    def _require_studio(self, origin: Origin) -> None:
        """Raise StudioUnavailable where a frame was to come from Label Studio, and that does not tell its health."""
        if origin != self._studio:
            return
        try:
            with _connected(origin, time.monotonic() + _HEALTH_SECONDS) as connection:
                connection.request("GET", f"{self._base.path}/health", headers={"Host": self._base.netloc})
                with connection.getresponse() as response:
                    trouble = f"a proxy answers {response.status}" if response.status in _GATEWAY else ""
        except (OSError, http.client.HTTPException) as error:
            trouble = type(error).__name__
        if trouble:
            raise StudioUnavailable(
                f"Label Studio at {self._base.geturl()} does not answer ({trouble}); start it or correct its address"
            )

    def _body(self, response: http.client.HTTPResponse, deadline: float) -> bytes:
        if response.headers.get_content_type() == "text/html":
            raise FrameUnreadable("is a web page, not an image; check the address of Label Studio and the access token")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise FrameUnreadable("is compressed, although the request does not allow that")
        expected = response.length
        if expected is not None and expected > self._max_bytes:
            raise self._too_large()
        content = bytearray()
        while block := response.read1(_BLOCK):
            content += block
            if len(content) > self._max_bytes:
                raise self._too_large()
            if time.monotonic() >= deadline:
                raise self._too_slow()
        if time.monotonic() >= deadline:
            raise self._too_slow()
        if expected is not None and len(content) < expected:
            raise FrameUnreadable(f"ended after {len(content)} of {expected} bytes")
        return bytes(content)

    def _too_large(self) -> FrameUnreadable:
        return FrameUnreadable(f"is larger than the {self._max_bytes} bytes that a frame may have")

    def _too_slow(self) -> FrameUnreadable:
        return FrameUnreadable(f"took longer than the {self._seconds:g} s that a frame may take")


def _stamp(response: http.client.HTTPResponse) -> str:
    found = [f"{name} {response.headers[name]}" for name in _VALIDATORS if response.headers[name]]
    return found[0] if found and len(found[0]) <= _LONGEST_VALIDATOR else ""


@contextmanager
def _connected(origin: Origin, deadline: float) -> Iterator[http.client.HTTPConnection]:
    """Connect, and cut the connection at the deadline: a timeout alone starts again with every byte that drips in."""
    connection = http.client.HTTPConnection(origin.host, origin.port)
    plain = socket.create_connection((origin.host, origin.port), timeout=max(deadline - time.monotonic(), 0.001))
    line = plain
    if origin.scheme == "https":
        line = _trust().wrap_socket(plain, server_hostname=origin.host, do_handshake_on_connect=False)
    connection.sock = line

    def cut() -> None:
        with suppress(OSError):
            socket.socket.shutdown(line, socket.SHUT_RDWR)

    timer = threading.Timer(max(deadline - time.monotonic(), 0.0), cut)
    timer.daemon = True
    timer.start()
    try:
        if isinstance(line, ssl.SSLSocket):
            line.do_handshake()
        yield connection
    finally:
        timer.cancel()
        connection.close()


@cache
def _trust() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context
