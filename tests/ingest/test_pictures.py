"""Silence for decoders that run side by side."""

from __future__ import annotations

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from ml_backend.ingest.pictures import without_warnings

pytestmark = pytest.mark.unit


def test_threads_are_quiet_side_by_side_and_warnings_come_back() -> None:
    both, left = threading.Barrier(2), threading.Event()

    def work(first: bool) -> None:
        with without_warnings():
            both.wait(60)
            if not first:
                left.wait(60)
            warnings.warn("unheard", UserWarning, stacklevel=1)  # which would be an error
        left.set()

    before = list(warnings.filters)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, (True, False)))
    assert list(warnings.filters) == before
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", UserWarning, stacklevel=1)


def test_warnings_come_back_after_an_error() -> None:
    before = list(warnings.filters)
    with pytest.raises(ValueError, match="damaged"), without_warnings():
        raise ValueError("damaged")
    assert list(warnings.filters) == before
