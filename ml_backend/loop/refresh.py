"""Refresh a queue, in a process of its own if that needs the network.

The sidecar waits most of the time, and a network takes half a gigabyte. The end of the process frees it.
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
        _refresh(services, project, look_for_frames, look_for_changes)
    except NetworkNeeded:
        call_aside(_refresh_here, project, look_for_frames, look_for_changes)


def _require_scores(services: Services, project: int) -> None:
    """Raise NetworkNeeded if a new version has scored nothing yet; a refresh would list the whole pool to find out."""
    version = services.versions(project).active()
    if version is not None and not services.computes and not services.has_scored(project, version):
        raise NetworkNeeded(f"{version} has scored nothing yet")


def _refresh(services: Services, project: int, look_for_frames: bool, look_for_changes: bool) -> None:
    log, doing = stages(logger, project), services.doing(project)

    def report(stage: str, done: int, total: int) -> None:
        log(stage, done, total)
        doing.note(stage, done, total)

    try:
        ordering.refresh_if_needed(services, project, report, look_for_frames, look_for_changes)
    finally:
        doing.end()


def _refresh_here(project: int, look_for_frames: bool, look_for_changes: bool) -> None:
    configure()
    _refresh(Services(load()), project, look_for_frames, look_for_changes)
