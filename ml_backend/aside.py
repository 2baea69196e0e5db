"""Call a function in a process of its own, whose end frees its memory."""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import ParamSpec, TypeVar

from ml_backend.errors import BackendError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def call_aside(function: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
    """Return what a module-level function returns, or raise what it raises; arguments and result are plain data.

    The process ignores SIGTERM and SIGINT: the caller waits for the work under way.

    Raises:
        BackendError: if the process was killed.
    """
    try:
        with ProcessPoolExecutor(1, get_context("spawn"), initializer=_ignore_endings) as process:
            return process.submit(function, *arguments, **named).result()
    except BrokenProcessPool:
        reason = "a computing process was killed: perhaps the machine has too little memory"
        raise BackendError(reason) from None


def _ignore_endings() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
