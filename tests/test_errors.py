"""The exit codes of errors."""

from __future__ import annotations

from collections import Counter

from ml_backend import errors
from ml_backend.errors import BackendError, SettingsError, WeightsUnavailable

SHARED = {BackendError.exit_code, SettingsError.exit_code, WeightsUnavailable.exit_code}
"""Codes that stand for several errors: something else, a wrong call, something that is not installed."""


def test_each_other_code_stands_for_one_error() -> None:
    classes = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, BackendError)]
    own = Counter(vars(one)["exit_code"] for one in classes if "exit_code" in vars(one))
    assert {code: count for code, count in own.items() if count > 1 and code not in SHARED} == {}
    assert len(own) > len(SHARED)
