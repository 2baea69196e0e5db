"""The heartbeat: look at every project, reconcile, refresh."""

from __future__ import annotations

import logging
import signal
import subprocess
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from redis.exceptions import RedisError

from ml_backend.errors import BackendError
from ml_backend.logs import changed, event, place
from ml_backend.loop import asked, confirm, jobs, lead_page, missed, pool_map
from ml_backend.loop import finish as finishing
from ml_backend.loop import order as ordering
from ml_backend.loop import overview as overviews
from ml_backend.loop.collect import Collected
from ml_backend.loop.evidence_files import write_pictures
from ml_backend.loop.refresh import refresh_if_needed
from ml_backend.services import Services
from ml_backend.store import heartbeat
from ml_backend.store.files import LEFTOVER_SECONDS, remove_leftovers
from ml_backend.store.format import IMPORTS, PROJECTS, mark
from ml_backend.studio.client import Counts

logger = logging.getLogger(__name__)
TICK_SECONDS = 1.0
FULL_POLL = 10
CLOCK_SECONDS = 10.0  # a smaller step of the clock harms nobody
AT_ONCE = 4  # projects that are looked at side by side
OVERVIEW_REST = 20.0  # rest, as a multiple of the time an overview took: it reads every answer from Label Studio


@dataclass
class Watched:
    """What the watch remembers of a project between two looks."""

    news: int | None = None
    version: str | None = None
    counts: Counts | None = None
    worked: float = float("-inf")  # when it was last seen that somebody answers
    polled: float = float("-inf")
    polls: int = 0
    ended: str | None = None
    trouble: str | None = None
    failures: int = 0
    again: float = float("-inf")
    overviewed: tuple[object, ...] = ()
    overview_again: float = float("-inf")
    written: str | None = None
    drawing: subprocess.Popen[bytes] | None = None
    page: subprocess.Popen[bytes] | None = None


def watch(services: Services, projects: list[int] | None) -> None:
    """Look at every project again and again until told to stop.

    Projects are looked at side by side, `AT_ONCE` at a time: a slow or failing one keeps no other waiting.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    event(logger, "sidecar watches", projects=projects or "all connected")
    with suppress(OSError):  # a full disk must not end the sidecar
        mark(services.settings.data_dir)
    swept = float("-inf")
    states: dict[int, Watched] = {}
    offset = time.time() - time.monotonic()
    looks: dict[int, Future[None]] = {}
    with ThreadPoolExecutor(AT_ONCE) as threads:
        while not stop.is_set():
            offset = log_clock_jump(offset)
            if time.monotonic() - swept >= LEFTOVER_SECONDS:
                sweep(services.settings.data_dir)
                swept = time.monotonic()
            heartbeat.beat(lambda: services.redis, heartbeat.SIDECAR)
            for project in projects or connected(services, list(states)):
                if project not in looks or looks[project].done():
                    state = states.setdefault(project, Watched())
                    looks[project] = threads.submit(try_look, services, project, state)
            stop.wait(TICK_SECONDS)


def sweep(data_dir: Path) -> None:
    """Remove what killed processes left half written in the data folder; the cache cleans up after itself."""
    remove_leftovers(data_dir, deep=False)
    for name in (PROJECTS, IMPORTS):
        remove_leftovers(data_dir / name)


def connected(services: Services, known: list[int]) -> list[int]:
    """The connected projects; the last ``known`` ones if the data folder cannot be read."""
    try:
        return services.projects()
    except OSError as error:
        changed(logger, "data folder unreadable", level=logging.WARNING, project=0, reason=error)
        return known


def log_clock_jump(offset: float) -> float:
    """Log a jump of the wall clock against the monotonic one since ``offset`` (s) was taken; returns the new offset."""
    now = time.time() - time.monotonic()
    if abs(now - offset) > CLOCK_SECONDS:
        event(logger, "the clock jumped", level=logging.WARNING, seconds=round(now - offset))
    return now


def try_look(services: Services, project: int, state: Watched) -> None:
    """Look at a project, unless that failed a moment ago.

    An error concerns this project alone. It is logged if it differs from the last one, and with its place in
    the code if it is unexpected. The project is then skipped for a growing time while the others go on.
    """
    if time.monotonic() < state.again:
        return
    try:
        look(services, project, state)
    except Exception as error:
        trouble = f"{type(error).__name__}: {error}"
        if trouble != state.trouble:
            expected = isinstance(error, BackendError | RedisError)
            at = None if expected else place(error)
            level = logging.WARNING if expected else logging.ERROR
            event(logger, "will try again", level=level, project=project, reason=trouble, at=at)
        poll = services.settings.poll_seconds
        state.trouble = trouble
        state.again = time.monotonic() + min(poll / 4 * 2**state.failures, 2 * poll)
        state.failures = min(state.failures + 1, 8)
        state.news = None  # so that the next look is complete, even if nothing new is announced
        services.doing(project).note_trouble(trouble)
    else:
        if state.trouble:
            event(logger, "works again", project=project)
            services.doing(project).note_trouble(None)
        state.trouble, state.failures = None, 0


def look(services: Services, project: int, state: Watched) -> None:
    """Refresh the queue if something changed since the last look; when it is time to poll, reconcile too."""
    news = services.pending(project).news()
    version = services.versions(project).active()
    due = time.monotonic() - state.polled >= services.settings.poll_seconds
    if (news, version) == (state.news, state.version) and not due:
        return
    confirm.recover(services, project)
    version = services.versions(project).active()
    counts = services.studio.counts(project)
    finishing.advance(services, project)
    # Before the refresh, so that a refresh that fails again and again holds up no training.
    busy = due and counts.annotations != services.pending(project).reconciled()
    answers = _caught_up(services, project, state, counts, busy) if due else None
    if due:
        missed.put_back(services, jobs.QUEUE, jobs.name_of(project, jobs.newest_of(services, project)))
        missed.put_back(services, asked.QUEUE, asked.name_of(project))
        state.polls += 1
        state.polled = time.monotonic()
    changes = busy or news != state.news or state.polls % FULL_POLL == 1
    # A frame joins the pool by import, or because its annotation was deleted.
    if state.counts is None or news != state.news or counts.annotations != state.counts.annotations:
        state.worked = time.monotonic()
    more = state.counts is None or counts.tasks != state.counts.tasks or counts.annotated < state.counts.annotated
    remember_now = not jobs.soon_trained(services, project)
    reason = ordering.needs_refresh(services, project, more, changes, answers, remember_now)
    if reason and counts.unlabelled:  # with every frame answered there is nothing to put in order
        if state.trouble is None:
            event(logger, "refreshing", project=project, reason=reason)
        refresh_if_needed(services, project, look_for_frames=more, look_for_changes=changes)
    elif due and not busy and _rests(services, state) and not jobs.is_training(services, project):
        ordering.prune(services, project)
    state.written = write_pictures(services, project, state.written)
    ended = confirm.ended(services, project, pool=counts.unlabelled)
    if ended and ended != state.ended:
        event(logger, "the loop has ended", project=project, reason=ended)
    state.ended = ended
    _overview(services, project, state, counts, ended, due)
    state.drawing = pool_map.draw(services, project, state.drawing)
    state.news, state.version, state.counts = news, version, counts


def _rests(services: Services, state: Watched) -> bool:
    """Whether nobody has answered for some time."""
    return time.monotonic() - state.worked >= services.settings.rest_seconds


def _overview(services: Services, project: int, state: Watched, counts: Counts, ended: str | None, due: bool) -> None:
    """Update the lead's page if something has changed; for new answers alone, at most once per poll and after a rest.

    This is the last step of a look, because it reads everything anew: nothing waits for it, and a failure affects only
    the page. A large project has its page made in a process of its own, one at a time.
    """
    if state.page is not None and not _page_ended(services, project, state, state.page):
        return
    order, active = services.orders(project).current_name(), services.versions(project).active()
    finish = services.finishes(project).newest()
    now = (counts, ended, order, active, services.versions(project).names(), finish.state if finish else None)
    old = state.overviewed
    due = due and time.monotonic() >= state.overview_again
    if now == old or not (due or old[2:] != now[2:]):
        return
    if counts.tasks >= lead_page.LARGE:
        state.page, state.overviewed = lead_page.begin(project, ended), now
        return
    try:
        made = overviews.write(services, project, ended)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        changed(logger, "overview failed", level=logging.WARNING, project=project, reason=reason, at=place(error))
    else:
        state.overviewed = now
        state.overview_again = time.monotonic() + OVERVIEW_REST * made.seconds


def _page_ended(services: Services, project: int, state: Watched, page: subprocess.Popen[bytes]) -> bool:
    """Whether the process that makes the page has ended; if so, the page rests, or is made again if that failed."""
    status = page.poll()
    if status is None:
        return False
    state.page = None
    made = services.overviews(project).read()
    if status or made is None:
        state.overviewed = ()
        changed(logger, "overview failed", level=logging.WARNING, project=project, reason=f"status {status}")
    else:
        state.overview_again = time.monotonic() + OVERVIEW_REST * made.seconds
    return True


def _caught_up(services: Services, project: int, state: Watched, counts: Counts, busy: bool) -> Collected | None:
    """Reconcile if ``busy``: annotations came or went since the last time, or Redis was emptied.

    A changed annotation changes no count, so everything is read from time to time as well.

    Returns:
        All answers that count if they were read, else None.
    """
    full = state.polls % FULL_POLL == 0
    if full:
        _switch_webhooks_on(services, project)
    if not (busy or full):
        jobs.consider(services, project, counts.unlabelled)
        return None
    answers = jobs.reconcile(services, project).answers
    services.pending(project).note_reconciled(counts.annotations)
    return answers


def _switch_webhooks_on(services: Services, project: int) -> None:
    """Switch our webhook on again if Label Studio has switched it off, as it does after repeated failures."""
    for webhook in services.studio.webhooks(project):
        if not webhook.is_active and webhook.url.startswith(f"{services.settings.backend_url}/webhook"):
            services.studio.switch_on(webhook)
            event(logger, "webhook switched on again", level=logging.WARNING, project=project, webhook=webhook.id)
