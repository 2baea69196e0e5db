"""Thumbnails of frames, cached in memory."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

from ml_backend.errors import BackendError
from ml_backend.frames.frame import Fetcher
from ml_backend.loop.drawing import THUMBNAIL, jpeg
from ml_backend.msml.frames import thumbnail

KEPT = 512  # pictures of about 20 kB
SECONDS = 600.0  # then the file is read again: it may have been replaced


class Thumbnails:
    """A cache of thumbnails (JPEG) by the frames' addresses; safe to use from several threads."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self._small: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._guard = threading.Lock()

    def kept(self, url: str) -> bytes | None:
        """Return the cached thumbnail of a frame, None if there is none."""
        with self._guard:
            since, content = self._small.get(url, (0.0, b""))
        return content if content and time.monotonic() - since < SECONDS else None

    def of(self, url: str, task: int) -> bytes | None:
        """Return the thumbnail of a frame, from the cache or made now; None if the frame cannot be read."""
        content = self.kept(url)
        if content is not None:
            return content
        try:
            content = jpeg(thumbnail(self._fetcher.fetch(url, task), THUMBNAIL))
        except BackendError:
            return None
        with self._guard:
            self._small[url] = (time.monotonic(), content)
            while len(self._small) > KEPT:
                self._small.popitem(last=False)
        return content
