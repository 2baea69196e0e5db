"""How what the backend depends on fares, looked at in the background so that nobody waits for the answer."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

from ml_backend.errors import BackendError, StudioUnavailable
from ml_backend.services import Services

SECONDS = 15.0
"""How old an answer may be."""
LEAST_FREE = 500_000_000
"""Bytes of the disk below which it counts as full: a version and its order must fit."""


class Health:
    """Label Studio and the disk: ``UP``, or in a word what is wrong; ``UNKNOWN`` until the first look has ended."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._looking = threading.Lock()
        self._looked = float("-inf")
        self._known = {"label_studio": "UNKNOWN", "disk": "UNKNOWN"}

    def known(self) -> dict[str, str]:
        """What the last look found; a new one is begun in the background where that is too old."""
        if time.monotonic() - self._looked > SECONDS and self._looking.acquire(blocking=False):
            threading.Thread(target=self._look, name="health", daemon=True).start()
        return dict(self._known)

    def _look(self) -> None:
        try:
            self._known = {"label_studio": _studio(self._services), "disk": _disk(self._services.settings.data_dir)}
            self._looked = time.monotonic()
        finally:
            self._looking.release()


def _studio(services: Services) -> str:
    """``DOWN`` where it does not answer, ``REFUSED`` where it does not take the token or is no Label Studio."""
    try:
        services.studio.me()
    except StudioUnavailable:
        return "DOWN"
    except BackendError:
        return "REFUSED"
    return "UP"


def _disk(folder: Path) -> str:
    """``FULL`` where too little is free, ``READ ONLY`` where nothing can be written."""
    there = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    if shutil.disk_usage(there).free < LEAST_FREE:
        return "FULL"
    return "UP" if os.access(there, os.W_OK) else "READ ONLY"
