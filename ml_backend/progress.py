"""Progress of long work on standard error: a bar in a terminal, a line every so often elsewhere."""

from __future__ import annotations

import sys

from tqdm import tqdm

LINE_SECONDS = 10.0


class Progress:
    """How far one piece of work is; to be used in a ``with`` block.

    In a terminal it is a bar. Elsewhere (a service, a log, CI) a line is written every `LINE_SECONDS`; work that takes
    less is silent.

    Args:
        what: what is being done, such as ``import``.
        unit: what is counted, such as ``frame``.
        total: how many there are, where that is known.
    """

    def __init__(self, what: str, unit: str, total: int | None = None) -> None:
        terminal = sys.stderr.isatty()
        self._bar = tqdm(
            desc=what,
            unit=unit,
            total=total,
            file=None if terminal else _Lines(),
            ascii=None if terminal else True,
            delay=0 if terminal else LINE_SECONDS,
            mininterval=0.1 if terminal else LINE_SECONDS,
            miniters=1,
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advance(self, count: int = 1) -> None:
        """Count so many more as done."""
        self._bar.update(count)

    def at(self, done: int, total: int | None = None, what: str | None = None) -> None:
        """Say how many are done, of how many, and what is being done now; None leaves a value as it is."""
        if what is not None:
            self._bar.set_description(what, refresh=False)
        if total is not None:
            self._bar.total = total
        if done < self._bar.n:  # the next stage begins at 0
            self._bar.reset(self._bar.total)
        self._bar.update(done - self._bar.n)

    def say(self, line: str) -> None:
        """Write a line on standard error, above the bar."""
        tqdm.write(line, file=sys.stderr)


class _Lines:
    """A stream for tqdm that makes a line of each state which it would draw over the last one."""

    def write(self, text: str) -> None:
        line = text.strip()
        if line:
            print(line, file=sys.stderr, flush=True)

    def flush(self) -> None:
        pass
