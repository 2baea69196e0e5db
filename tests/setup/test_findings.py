from __future__ import annotations

import threading
from collections.abc import Iterator

from ml_backend.errors import StudioUnavailable
from ml_backend.setup.findings import Finding, run

FIRST = Finding("one", "ok", "all is well")


def test_a_hanging_check_ends_with_a_finding_and_keeps_earlier_ones() -> None:
    never = threading.Event()

    def check() -> Iterator[Finding]:
        yield FIRST
        never.wait()

    found = list(run("one", check, 0.2))
    never.set()
    assert found[0] == FIRST
    assert [finding.state for finding in found] == ["ok", "change"]


def test_errors_become_findings() -> None:
    def fails(error: Exception) -> list[Finding]:
        def check() -> Iterator[Finding]:
            yield FIRST
            raise error

        return list(run("one", check, 5))

    first, second = fails(StudioUnavailable("start it"))
    assert (first, second.state, second.text) == (FIRST, "change", "start it")
    assert fails(KeyError("x"))[1].state == "change"
