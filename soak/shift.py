"""A team that keeps working, at the pace of people, until it is told to stop."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from soak.site import SoakFailed
from soak.team import AGAIN_SECONDS, Team

LOOK_SECONDS = 0.1
PATIENCE_SECONDS = 900.0


class Shift(Team):
    """A team that works without being told how many frames to confirm: `confirm` only waits for them."""

    @contextmanager
    def working(self) -> Iterator[None]:
        """Let everybody work while the block runs; the first error that stopped somebody is raised at its end."""
        self._over, self._troubles = threading.Event(), list[BaseException]()
        threads = [threading.Thread(target=self._work, args=(name,), daemon=True) for name in self._studios]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()
        if self._troubles:
            raise self._troubles[0]

    def confirm(self, frames: int, *, progress: Callable[[int], None] = lambda done: None) -> None:
        """Wait until ``frames`` more frames are confirmed."""
        enough = self.ledger.confirmed() + frames
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (done := self.ledger.confirmed()) < enough:
            if self._troubles:
                raise SoakFailed(f"an annotator cannot go on: {self._troubles[0]!r}")
            if time.monotonic() > deadline:
                raise SoakFailed(f"{enough - done} frames were not confirmed within {PATIENCE_SECONDS:.0f} s")
            progress(done)
            time.sleep(LOOK_SECONDS)

    def _work(self, name: str) -> None:
        chance = random.Random(f"{self._seed} {name}")
        try:
            while not self._over.is_set():
                if not self._one(name, self._studios[name], chance):
                    self._over.wait(AGAIN_SECONDS)
        except Exception as error:  # raised by the thread that started us
            self._troubles.append(error)
