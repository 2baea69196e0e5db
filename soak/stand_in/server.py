"""The stand-in as a server: its state lives in the process that runs it; its clients may run in others."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx
from flask import Flask, g, request
from werkzeug.serving import WSGIRequestHandler, make_server

from soak.stand_in.api import Answer, add_routes
from soak.stand_in.project import Refused
from soak.stand_in.records import Delivery, User
from soak.stand_in.state import State

WEBHOOK_SECONDS = 1.0
Cut = Literal["before", "after"]


@dataclass
class StandIn:
    """A running stand-in.

    ``state`` may be read, changed and replaced while no request is under way (`gate`). ``cuts`` says of each
    request (method, path) whether its connection is cut ``before`` or ``after`` it takes effect. ``deliver`` is
    given each call of a webhook: `send` makes it as Label Studio does; another function may keep calls, to lose,
    double or delay them. ``seen``: the requests (method, path) that took effect.
    """

    url: str = ""
    state: State = field(default_factory=State)
    cuts: Callable[[str, str], Cut | None] = lambda method, path: None
    deliver: Callable[[Delivery], None] = field(default_factory=lambda: send)
    seen: list[tuple[str, str]] = field(default_factory=list)
    gate: threading.RLock = field(default_factory=threading.RLock)

    def take(self) -> State:
        """A copy of the state."""
        with self.gate:
            return self.state.copy()

    def put(self, state: State) -> None:
        """Replace the state by a copy of this one."""
        with self.gate:
            self.state = state.copy()

    def app(self) -> Flask:
        """The app that answers."""
        app = Flask(__name__)
        add_routes(app, lambda: self.state, self._handled)
        return app

    def _handled(self, answer: Callable[[], Answer]) -> Any:
        """Answer a request, and tell the webhooks of what it did."""
        if self._cut("before"):
            return "", 500
        with self.gate:
            user = self._user()
            if user is None:
                return {"status_code": 401, "detail": "Invalid token."}, 401
            g.user = user
            try:
                found = answer()
            except Refused as error:
                return {"status_code": error.status, "detail": str(error)}, error.status
            told = self._told()
            self.seen.append((request.method, request.path))
        for one in told:
            self.deliver(one)
        self._cut("after")
        return found

    def _user(self) -> User | None:
        return self.state.users.get(request.headers.get("Authorization", "").removeprefix("Token "))

    def _told(self) -> list[Delivery]:
        """The calls of webhooks that the request causes."""
        found = []
        for project in self.state.projects.values():
            for action, payload in project.told:
                for webhook in project.webhooks.values():
                    if webhook.wants(action):
                        body = payload if webhook.send_payload else {"action": action}
                        found.append(Delivery(webhook, action, body))
            project.told.clear()
        return found

    def _cut(self, moment: Cut) -> bool:
        """Cut the connection if this is the moment; returns whether it is."""
        if self.cuts(request.method, request.path) != moment:
            return False
        with suppress(OSError):  # the client may have gone
            request.environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return True


def send(delivery: Delivery) -> None:
    """Call a webhook as Label Studio does: once, for one second at most, ignoring what comes of it."""
    with suppress(httpx.HTTPError):
        httpx.post(
            delivery.webhook.url,
            json=dict(delivery.payload),
            headers=delivery.webhook.headers,
            timeout=WEBHOOK_SECONDS,
        )


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        """Log nothing: what happened is in `StandIn.seen`."""


@contextmanager
def running_stand_in() -> Iterator[StandIn]:
    """Run a stand-in with one user, ``admin``, on a free port until the block ends."""
    stand_in = StandIn()
    stand_in.state.add_user("admin")
    server = make_server("127.0.0.1", 0, stand_in.app(), threaded=True, request_handler=_Quiet)
    stand_in.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield stand_in
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
