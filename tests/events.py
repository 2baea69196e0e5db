"""Read what was logged as events with fields, so that no test depends on the wording of a line."""

from __future__ import annotations

from typing import Any

import pytest


def events(caplog: pytest.LogCaptureFixture, what: str) -> list[dict[str, Any]]:
    """The fields of each event of this name, in the order in which they were logged."""
    return [record.__dict__["about"] for record in caplog.records if record.__dict__.get("event") == what]
