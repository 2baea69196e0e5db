"""Call a function in a process of its own, with whose end its memory is free again."""

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
    """Return what a function of a module returns, or raise what it raises; arguments and result are plain data.

    The process lets the signals by which this one is told to end pass: this one waits for what is under way.

    Raises:
        BackendError: if the process was killed.
    """
    try:
        with ProcessPoolExecutor(1, get_context("spawn"), initializer=_ignore_endings) as process:
            return process.submit(function, *arguments, **named).result()
    except BrokenProcessPool:
        reason = "a process that computes was killed: perhaps the machine has too little memory"
        raise BackendError(reason) from None


def _ignore_endings() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
