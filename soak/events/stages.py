"""Where the events happen: with a stand-in for Label Studio, or with a real one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flask import Flask, request
from werkzeug.serving import make_server

from ml_backend.loop.confirm import ADDED, DELETED, NEWS
from soak.crash.label_studio import running_label_studio
from soak.crash.studios import ANNOTATORS, StandInStudio
from soak.crash.worlds import world_beside
from soak.events.installation import Installation, running
from soak.events.people import People
from soak.events.scene import Stage
from soak.stand_in.server import running_stand_in

BATCH = 3
ACTIONS = (*ADDED, DELETED, *NEWS)
NOBODY = "http://127.0.0.1:9"


@contextmanager
def on_stand_in(folder: Path) -> Iterator[Stage]:
    """A stage with the stand-in, in which each run begins with nothing."""
    with (
        running_stand_in() as stand_in,
        world_beside(StandInStudio(stand_in), folder, k_max=BATCH) as world,
        running(world) as installation,
    ):
        people = People(stand_in.url, [f"token-of-{name}" for name in ("admin", *ANNOTATORS)])
        stand_in.deliver = lambda delivery: installation.mail.append(delivery.payload)

        def begin() -> None:
            world.begin()
            stand_in.state.projects.clear()

        yield Stage(installation, people, begin, NOBODY, ACTIONS)


@contextmanager
def on_label_studio(folder: Path) -> Iterator[Stage]:
    """A stage with a Label Studio on PostgreSQL, in which each run has a project of its own."""
    with (
        running_label_studio(folder) as studio,
        world_beside(studio, folder, k_max=BATCH) as world,
        running(world) as installation,
        _receiver(installation) as webhook,
    ):
        people = People(studio.url, [studio.token, *studio.tokens])
        yield Stage(installation, people, world.clear, webhook, ACTIONS)


@contextmanager
def _receiver(installation: Installation) -> Iterator[str]:
    """Receive what Label Studio sends, and keep it until somebody delivers it; gives the address."""
    app = Flask(__name__)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)

    @app.post("/webhook")
    def webhook() -> str:
        body = request.get_json()
        if body["project"]["id"] == installation.world.number:  # not of an earlier run
            installation.mail.append(body)
        return ""

    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
