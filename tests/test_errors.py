"""The exit codes of errors."""

from __future__ import annotations

from collections import Counter

from ml_backend import errors
from ml_backend.errors import BackendError, SettingsError, WeightsUnavailable, printable

SHARED = {BackendError.exit_code, SettingsError.exit_code, WeightsUnavailable.exit_code}
"""Codes that stand for several errors: something else, a wrong call, something that is not installed."""


def test_each_other_code_stands_for_one_error() -> None:
    classes = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, BackendError)]
    own = Counter(vars(one)["exit_code"] for one in classes if "exit_code" in vars(one))
    assert {code: count for code, count in own.items() if count > 1 and code not in SHARED} == {}
    assert len(own) > len(SHARED)


def test_a_terminal_gets_nothing_to_obey() -> None:
    told = printable("Fälle/\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.exe\r\n\udcff.mp4: kaputt…")
    assert told.isprintable()
    assert told.startswith("Fälle/")
    assert told.endswith(".mp4: kaputt…")
    told.encode()
