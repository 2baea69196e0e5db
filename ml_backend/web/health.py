"""Check in the background what the backend depends on, so that nobody waits for the answer."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from ml_backend.errors import BackendError, StudioUnavailable
from ml_backend.services import Services
from ml_backend.store.problems import ModelProblem
from ml_backend.studio.client import Studio

SECONDS = 15.0
"""How old a result may be."""
ANSWER_SECONDS = 5.0
"""Seconds to wait for Label Studio."""
LEAST_FREE = 500_000_000
"""Bytes of the disk below which it counts as full: a version and its order must fit."""
UNKNOWN = {"label_studio": "UNKNOWN", "disk": "UNKNOWN", "model": "UNKNOWN"}


class Health:
    """Label Studio, the disk and the model: ``UP``, or in a few words what is wrong.

    ``UNKNOWN`` before the first check has ended, and while one hangs. The model is not built for this: whichever
    process last tried to build it has left the reason if it failed.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._looking = threading.Lock()
        self._looked = float("-inf")
        self._begun = float("-inf")
        self._known = dict(UNKNOWN)

    def known(self, reasons: bool) -> dict[str, str]:
        """Return what the last check found, and start a new one in the background if that is too old.

        The ``reasons`` why the model cannot be built may name files, so not everybody gets them.
        """
        now = time.monotonic()
        if now - self._looked > SECONDS and self._looking.acquire(blocking=False):
            self._begun = now
            threading.Thread(target=self._look, name="health", daemon=True).start()
        # A disk that hangs or an answer that drips in keeps a check from ending; the last result is then out of date.
        hangs = self._begun > self._looked and now - self._begun > SECONDS
        known = dict(UNKNOWN if hangs else self._known)
        if not reasons:
            known["model"] = known["model"].partition(" (")[0]
        return known

    @cached_property
    def _studio(self) -> Studio:
        """Label Studio with a shorter time-out than for real work."""
        settings = self._services.settings
        return Studio(settings.label_studio_url, settings.token(), timeout=ANSWER_SECONDS)

    def _look(self) -> None:
        try:
            self._known = {
                "label_studio": _studio(lambda: self._studio.me()),
                "disk": _disk(self._services.settings.data_dir),
                "model": _model(self._services.settings.data_dir),
            }
        finally:
            self._looked = time.monotonic()
            self._looking.release()


def _studio(ask: Callable[[], object]) -> str:
    """``DOWN`` if it does not answer, ``REFUSED`` if it refuses the token or is not Label Studio."""
    try:
        ask()
    except StudioUnavailable:
        return "DOWN"
    except BackendError:
        return "REFUSED"
    return "UP"


def _disk(folder: Path) -> str:
    """``FULL`` if too little is free, ``READ ONLY`` if nothing can be written, ``DOWN`` if it does not answer."""
    try:
        there = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
        free = shutil.disk_usage(there).free
    except OSError:
        return "DOWN"
    if free < LEAST_FREE:
        return "FULL"
    return "UP" if os.access(there, os.W_OK) else "READ ONLY"


def _model(data_dir: Path) -> str:
    problem = ModelProblem(data_dir).read()
    return f"CANNOT BE BUILT ({problem})" if problem else "UP"
