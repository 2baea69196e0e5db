"""A web server for tests, to stand for Label Studio, for other hosts and for servers that misbehave."""

from __future__ import annotations

import json
import ssl
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PICTURE = b"\x89PNG picture" * 1000


class Site:
    """A web server on a port of its own; ``pages`` answer by path, with its query or for any.

    ``asked`` holds (path, Authorization header), ``bodies`` the JSON that was posted, by path.
    """

    def __init__(self, port: int, scheme: str) -> None:
        self.host = f"127.0.0.1:{port}"
        self.url = f"{scheme}://{self.host}"
        self.pages: dict[str, Callable[[BaseHTTPRequestHandler], object]] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.bodies: defaultdict[str, list[Any]] = defaultdict(list)
        self.over = threading.Event()

    def serves(self, path: str, content: bytes = PICTURE, **headers: str) -> str:
        """Answer a path with content; a header given as an empty string is left out."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            fields = {"Content-Type": "image/png", "Content-Length": str(len(content))} | {
                name.replace("_", "-"): value for name, value in headers.items()
            }
            for name, value in fields.items():
                if value:
                    handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(content)

        return self.answers(path, answer)

    def says(self, path: str, body: Any, status: int = 200) -> str:
        """Answer a path with JSON."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            content = json.dumps(body).encode()
            handler.send_response(status)
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", str(len(content)))
            handler.end_headers()
            handler.wfile.write(content)

        return self.answers(path, answer)

    def sends_on(self, path: str, to: str, status: int = 302) -> str:
        """Answer a path with a redirect."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            handler.send_header("Location", to)
            handler.end_headers()

        return self.answers(path, answer)

    def answers(self, path: str, answer: Callable[[BaseHTTPRequestHandler], object]) -> str:
        """Answer a path with a function; returns the address."""
        self.pages[path] = answer
        return self.url + path


@contextmanager
def running_site(certificate: Path | None = None) -> Iterator[Site]:
    """Run a site on 127.0.0.1 until the block ends, encrypted where a certificate (with its key) is given."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append((self.path, self.headers.get("Authorization")))
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if body.startswith(b"{"):
                site.bodies[self.path].append(json.loads(body))
            page = site.pages.get(self.path) or site.pages.get(self.path.partition("?")[0])
            if page is None:
                self.send_error(404)
                return
            try:
                page(self)
            except OSError:  # the client has gone
                self.close_connection = True

        do_POST = do_PATCH = do_GET  # noqa: N815 - names that the library asks for

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        site = Site(server.server_port, "http" if certificate is None else "https")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield site
        finally:
            site.over.set()
            server.shutdown()
            thread.join()
