"""Refresh a queue where a network is, or in a process of its own.

The sidecar waits most of the time, and a network takes half a gigabyte. After a fine-tune the worker refreshes, since
it has the network in hand. Otherwise a process of its own does, whose end frees the memory.
"""

from __future__ import annotations

import logging

from ml_backend.aside import call_aside
from ml_backend.errors import NetworkNeeded
from ml_backend.logs import configure, stages
from ml_backend.loop import order as ordering
from ml_backend.services import Services
from ml_backend.settings import load

logger = logging.getLogger(__name__)


def refresh_if_needed(services: Services, project: int, look_for_frames: bool, look_for_changes: bool) -> None:
    """Put a queue in order if needed, and note the progress; the flags are those of `order.needs_refresh`.

    Raises what `order.refresh` raises, and BackendError if the process that had the network was killed.
    """
    try:
        _require_scores(services, project)
        refresh_here(services, project, look_for_frames, look_for_changes)
    except NetworkNeeded:
        if not _was_done_meanwhile(services, project, look_for_frames, look_for_changes):
            call_aside(_refresh_aside, project, look_for_frames, look_for_changes)


def _require_scores(services: Services, project: int) -> None:
    """Raise NetworkNeeded if a new version has scored nothing yet; a refresh would list the whole pool to find out."""
    version = services.versions(project).active()
    if version is not None and not services.computes and not services.has_scored(project, version):
        raise NetworkNeeded(f"{version} has scored nothing yet")


def _was_done_meanwhile(services: Services, project: int, look_for_frames: bool, look_for_changes: bool) -> bool:
    """Wait if another process refreshes this queue, as a worker does after a fine-tune.

    Returns True if nothing is left to do afterwards, and False at once if no other process is refreshing.
    """
    orders = services.orders(project)
    try:
        with orders.alone(wait=False):
            return False
    except BlockingIOError:
        with orders.alone():
            return not ordering.needs_refresh(services, project, look_for_frames, look_for_changes)


def refresh_here(services: Services, project: int, look_for_frames: bool = True, look_for_changes: bool = True) -> None:
    """Like `refresh_if_needed`, in this process.

    Raises NetworkNeeded if a network is needed and this process never computes.
    """
    log, doing = stages(logger, project), services.doing(project)

    def report(stage: str, done: int, total: int) -> None:
        log(stage, done, total)
        doing.note(stage, done, total)

    try:
        ordering.refresh_if_needed(services, project, report, look_for_frames, look_for_changes)
    finally:
        doing.end()


def _refresh_aside(project: int, look_for_frames: bool, look_for_changes: bool) -> None:
    configure()
    refresh_here(Services(load()), project, look_for_frames, look_for_changes)
