"""The memory of backend, worker and sidecar while they run."""

from __future__ import annotations

import threading
from contextlib import suppress

import psutil  # type: ignore[import-untyped]

LOOK_SECONDS = 0.3
PARTS = {"gunicorn": "backend", "worker.py": "worker", "worker": "worker", "sidecar": "sidecar"} | {
    "reorder_queue.py": "sidecar"
}
Megabytes = dict[str, float]


class PartMemory:
    """Watches the processes that another one started.

    `peak` is the most resident memory that the three parts had together, in megabytes; `peak_shared_once` is what they
    had at that moment, with pages that several processes share counted once.
    """

    def __init__(self) -> None:
        self.peak = 0.0
        self.peak_shared_once = 0.0
        self._root = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, root: int) -> None:
        """Watch the parts below this process from now on."""
        self._root = root
        if self._thread is None:
            self._thread = threading.Thread(target=self._look, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def now(self, shared_once: bool = False) -> Megabytes:
        """Resident megabytes of each part and all that it started.

        ``shared_once``: what several processes share is counted once, in equal shares.
        """
        found: Megabytes = {}
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self._root).children():
                with suppress(psutil.NoSuchProcess):
                    part = _part(child)
                    if part:
                        processes = [child, *child.children(recursive=True)]
                        found[part] = found.get(part, 0.0) + sum(_megabytes(one, shared_once) for one in processes)
        return found

    def _look(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            resident = sum(self.now().values())
            if resident > self.peak:  # to count shared pages costs milliseconds for each process
                self.peak, self.peak_shared_once = resident, sum(self.now(shared_once=True).values())


def _part(process: psutil.Process) -> str | None:
    words = [word.rsplit("/", 1)[-1] for word in process.cmdline()]
    return next((PARTS[word] for word in words if word in PARTS), None)


def _megabytes(process: psutil.Process, shared_once: bool) -> float:
    with suppress(psutil.NoSuchProcess):
        return float(process.memory_full_info().pss if shared_once else process.memory_info().rss) / 1e6
    return 0.0
