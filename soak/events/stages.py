"""Where the events happen: with a stand-in for Label Studio, or with a real one."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flask import Flask, request
from werkzeug.serving import make_server

from ml_backend.launch.label_studio import start_studio
from ml_backend.launch.processes import Processes, free_port
from ml_backend.loop.confirm import ADDED, DELETED, NEWS
from ml_backend.settings import load
from soak.crash.worlds import running_world
from soak.events.installation import Installation, running
from soak.events.people import People
from soak.events.scene import ANNOTATORS, Stage
from soak.postgresql import postgresql
from soak.site import sign_up

BATCH = 3
ACTIONS = (*ADDED, DELETED, *NEWS)
NOBODY = "http://127.0.0.1:9"


@contextmanager
def on_stand_in(folder: Path) -> Iterator[Stage]:
    """A stage with the stand-in, in which each run begins with nothing."""
    with running_world(folder, k_max=BATCH) as world, running(world) as installation:
        people = People(world.stand_in.url, ["token-of-admin", "token-of-anna", "token-of-bert", "token-of-carla"])
        world.stand_in.deliver = lambda delivery: installation.mail.append(delivery.payload)

        def begin() -> None:
            world.begin()
            world.stand_in.state.projects.clear()

        yield Stage(installation, people, begin, NOBODY, ACTIONS)


@contextmanager
def on_label_studio(folder: Path) -> Iterator[Stage]:
    """A stage with a Label Studio on PostgreSQL, in which each run has a project of its own."""
    token, address = secrets.token_hex(20), f"http://127.0.0.1:{free_port()}"
    settings = load(label_studio_url=address, label_studio_token=token)
    with (
        postgresql() as (database, variables),
        (folder / "label-studio.log").open("a", encoding="utf-8") as log,
        Processes(lambda name, line: _write(log.write, name, line)) as processes,
    ):
        processes.start("database", database, {})
        start_studio(processes, settings, folder, {**variables, "LD_PRELOAD": ""})
        tokens = [token, *(sign_up(address, token, f"annotator-{number}") for number in range(ANNOTATORS))]
        with (
            running_world(folder, k_max=BATCH, label_studio_url=address, label_studio_token=token) as world,
            running(world) as installation,
            _receiver(installation) as webhook,
        ):
            yield Stage(installation, People(address, tokens), world.begin, webhook, ACTIONS)


def _write(write: Callable[[str], object], name: str, line: str) -> None:
    write(f"{name:8} {line}\n")


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
