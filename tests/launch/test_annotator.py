from types import SimpleNamespace
from typing import Any, cast

from ml_backend.launch.annotator import _round


def test_an_order_that_serves_before_its_durations_are_written_down_is_reported() -> None:
    metrics: dict[str, Any] = {"judged_on": "audit", "sample": {}, "exact_match": None}
    manifest = SimpleNamespace(
        version="msml-0001",
        job="job",
        trigger="webhook",
        seen={1, 2},
        batch={"manual_share_plain": 0.5, "manual_share_validated": 0.25},
        ticks=None,
        metrics=metrics,
        seconds={"finetune": 2.0},
    )
    order = SimpleNamespace(about=SimpleNamespace(seconds={"scoring": 1.0}))
    row = _round(3, cast(Any, manifest), cast(Any, order), 1.0)
    assert row["seconds"] == {"finetune": 2.0, "scoring": 1.0, "refresh": None}
    assert (row["round"], row["labelled"]) == (3, 2)
