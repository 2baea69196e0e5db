"""An installation whose backend, worker and sidecar live in this process, so that they can die at any effect."""

from __future__ import annotations

import logging
import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import redis.retry
from flask import Flask
from redis.exceptions import RedisError
from rq.exceptions import DuplicateJobError

from ml_backend import errors
from ml_backend.errors import BackendError
from ml_backend.loop import asked, watch
from ml_backend.loop import refresh as refreshing
from ml_backend.msml import build as building
from ml_backend.services import Services
from ml_backend.studio import calls
from ml_backend.web import app as web
from soak.crash import deeds
from soak.crash.processes import built
from soak.crash.worlds import World
from soak.events.fates import Fate, Fates

Mail = list[Mapping[str, Any]]
LOOKS = 14
TOLD = ("ml_backend", "rq.worker", "rq.scheduler")
_EXPECTED = re.compile(
    "|".join(
        [
            *(name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, BackendError)),
            *("ConnectionError", "TimeoutError", "Redis does not answer", "AbandonedJob", DuplicateJobError.__name__),
            # A worker of RQ says so and ends, or tries again.
            *("Redis connection timeout", "could not connect to Redis instance"),
        ]
    )
)


class _Errors(logging.Handler):
    """Keeps the errors that no fate explains."""

    def __init__(self, fates: Fates) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []
        self._fates = fates

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        if not self._fates.dead and not _EXPECTED.search(line):
            self.lines.append(line)


@dataclass
class Installation:
    """The processes of one world, and the webhooks that Label Studio has sent and nobody has received.

    ``meanwhile`` is what people do where a fate lets them act in the middle of an action.
    """

    world: World
    fates: Fates
    errors: _Errors
    mail: Mail = field(default_factory=list)
    meanwhile: Callable[[], None] = lambda: None
    unexpected: list[str] = field(default_factory=list)

    def start(self) -> None:
        """Start all processes anew."""
        self.mail.clear()
        self.errors.lines.clear()
        self.unexpected.clear()
        self.fates.cut.clear()
        self.fates.root, self.settings = self.world.place, self.world.settings
        self.start_backend()
        self.start_sidecar()

    def start_backend(self) -> None:
        """Start the backend anew."""
        self.backend: Flask = web.create_app(self.settings)

    def start_sidecar(self) -> None:
        """Start the sidecar anew."""
        self.sidecar, self.watched = Services(self.settings, computes=False), watch.Watched()

    @property
    def services(self) -> Services:
        """The stores as they are now."""
        return Services(self.settings)

    # What the processes do

    def receive(self, place: int, keep: bool = False, fate: Fate | None = None) -> None:
        """Deliver one webhook of those that are under way; ``keep``: it will come again."""
        body = self.mail[place % len(self.mail)]
        if not keep:
            self.mail.remove(body)

        def post() -> None:
            answer = self.backend.test_client().post(f"/webhook?project={self.world.number}", json=body)
            if answer.status_code not in (200, 503):
                self.unexpected.append(f"the webhook was answered {answer.status_code}: {answer.text}")

        self._act(post, fate)
        if self.fates.dead:
            self.start_backend()

    def look(self, due: bool, fate: Fate | None = None) -> None:
        """Let the sidecar look; ``due``: it is time to poll."""
        self.watched.again = float("-inf")
        if due:
            self.watched.polled = float("-inf")
        self._act(lambda: watch.try_look(self.sidecar, self.world.number, self.watched), fate)
        if self.fates.dead:
            self.start_sidecar()

    def work(self, fate: Fate | None = None) -> None:
        """Let a worker do what is due."""
        handlers = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
        try:
            self._command(deeds.work, fate)
        finally:
            for number, handler in handlers:
                signal.signal(number, handler)

    def ask(self, what: asked.What, fate: Fate | None = None, **values: Any) -> None:
        """Ask for something as the lead's page does."""
        self._command(lambda services, project: asked.ask(services, project, what, "a lead", **values), fate)

    def command(self, deed: deeds.Deed, fate: Fate | None = None) -> None:
        """Run a command."""
        self._command(deed, fate)

    def _command(self, deed: deeds.Deed, fate: Fate | None) -> None:
        self._act(lambda: deed(Services(self.settings), self.world.number), fate)

    def _act(self, act: Callable[[], object], fate: Fate | None) -> None:
        with self.fates.acting(fate, self.meanwhile):
            try:
                act()
            except (BackendError, RedisError):
                pass  # whoever ran it is told, and it ends
            except Exception as error:
                if not self.fates.dead:
                    self.unexpected.append(f"{type(error).__name__}: {error}")
                    raise

    # Quiet

    def settle(self) -> str | None:
        """Run the processes until nothing changes any more; returns why it never came to that, else None."""
        before: object = None
        self.watched.polls = 0  # so that the first poll reads everything, as every tenth does
        deeds.pass_time(self.world.redis)
        for _ in range(LOOKS):
            self.look(due=True)
            self.work()
            deeds.pass_time(self.world.redis)
            now = self._state()
            if now == before and self.watched.trouble is None:
                return None
            before = now
        return f"still changing after {LOOKS} looks: {self.watched.trouble}"

    def _state(self) -> object:
        services = self.services
        queues = [services.queue(name) for name in deeds.QUEUES]
        return (
            *deeds.project_state(services, self.world.number),
            [(one.job_ids, len(one.scheduled_job_registry), len(one.started_job_registry)) for one in queues],
        )


@contextmanager
def running(world: World) -> Iterator[Installation]:
    """Let this process be an installation until the block ends."""
    fates = Fates(world.place)
    told = _Errors(fates)
    replaced: list[tuple[dict[str, Any], str, object]] = [
        (vars(building), "build", built),
        (vars(web), "configure", lambda: None),
        (vars(refreshing), "configure", lambda: None),
        (vars(refreshing), "call_aside", lambda do, *arguments: do(*arguments)),
        (vars(calls), "_WAITS", (0.0, 0.0)),
        (vars(redis.retry), "sleep", lambda seconds: None),
    ]
    before = [(names, name, names[name]) for names, name, _ in replaced]
    environment = dict(os.environ)
    for names, name, value in replaced:
        names[name] = value
    levels = [(logging.getLogger(name), logging.getLogger(name).propagate) for name in TOLD]
    for logger, _ in levels:
        logger.addHandler(told)
        logger.propagate = False
    os.environ.update(world.environment())
    try:
        with fates.watching(lambda point: None):
            yield Installation(world, fates, told)
    finally:
        for logger, propagates in levels:
            logger.removeHandler(told)
            logger.propagate = propagates
        for names, name, value in before:
            names[name] = value
        os.environ.clear()
        os.environ.update(environment)
