"""How what the backend depends on fares, looked at in the background so that nobody waits for the answer."""

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
from ml_backend.studio.client import Studio

SECONDS = 15.0
"""How old an answer may be."""
ANSWER_SECONDS = 5.0
"""How long Label Studio is waited for."""
LEAST_FREE = 500_000_000
"""Bytes of the disk below which it counts as full: a version and its order must fit."""
UNKNOWN = {"label_studio": "UNKNOWN", "disk": "UNKNOWN"}


class Health:
    """Label Studio and the disk: ``UP``, or in a word what is wrong.

    ``UNKNOWN`` before the first look has ended, and while one hangs.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._looking = threading.Lock()
        self._looked = float("-inf")
        self._begun = float("-inf")
        self._known = dict(UNKNOWN)

    def known(self) -> dict[str, str]:
        """What the last look found; a new one is begun in the background where that is too old."""
        now = time.monotonic()
        if now - self._looked > SECONDS and self._looking.acquire(blocking=False):
            self._begun = now
            threading.Thread(target=self._look, name="health", daemon=True).start()
        # A disk that hangs, or an answer that drips in, ends no look: what was found before it is no news any more.
        hangs = self._begun > self._looked and now - self._begun > SECONDS
        return dict(UNKNOWN if hangs else self._known)

    @cached_property
    def _studio(self) -> Studio:
        """Label Studio, waited for less long than where there is work to do."""
        settings = self._services.settings
        return Studio(settings.label_studio_url, settings.token(), timeout=ANSWER_SECONDS)

    def _look(self) -> None:
        try:
            self._known = {
                "label_studio": _studio(lambda: self._studio.me()),
                "disk": _disk(self._services.settings.data_dir),
            }
        finally:
            self._looked = time.monotonic()
            self._looking.release()


def _studio(ask: Callable[[], object]) -> str:
    """``DOWN`` where it does not answer, ``REFUSED`` where it does not take the token or is no Label Studio."""
    try:
        ask()
    except StudioUnavailable:
        return "DOWN"
    except BackendError:
        return "REFUSED"
    return "UP"


def _disk(folder: Path) -> str:
    """``FULL`` where too little is free, ``READ ONLY`` where nothing can be written, ``DOWN`` without an answer."""
    try:
        there = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
        free = shutil.disk_usage(there).free
    except OSError:
        return "DOWN"
    if free < LEAST_FREE:
        return "FULL"
    return "UP" if os.access(there, os.W_OK) else "READ ONLY"
