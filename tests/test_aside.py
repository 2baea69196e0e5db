"""Functions that run in a process of their own."""

from __future__ import annotations

import os
import signal

import pytest

from ml_backend.aside import call_aside
from ml_backend.errors import BackendError, FrameUnreadable


def own_number(add: int) -> int:
    return os.getpid() + add


def refuse() -> None:
    raise FrameUnreadable("it is broken")


def survive(number: int) -> bool:
    os.kill(os.getpid(), number)
    return True


def test_the_result_comes_from_another_process_that_is_gone() -> None:
    number = call_aside(own_number, add=0)
    assert number != os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_an_error_arrives_as_it_was_raised() -> None:
    with pytest.raises(FrameUnreadable):
        call_aside(refuse)


def test_a_process_that_is_killed_is_an_error() -> None:
    with pytest.raises(BackendError):
        call_aside(survive, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_ends_the_caller_lets_the_process_work_on(number: signal.Signals) -> None:
    assert call_aside(survive, number)
