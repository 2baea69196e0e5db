from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from ml_backend.store.audits import AuditStore, Draw


def draw(order: str, *tasks: int) -> Draw:
    return Draw(
        order=order, version=None, newest=None, drawn_at="2026-01-01T00:00:00+00:00", seed=0, pool=10, tasks=tasks
    )


def test_draws_are_kept_in_order_and_found_by_another_store(tmp_path: Path) -> None:
    store = AuditStore(tmp_path)
    assert store.draws() == []
    assert store.tasks() == set()
    store.add(draw("diversity.1", 4, 2))
    store.add(draw("msml-0001-00000000.1", 7))
    assert AuditStore(tmp_path).draws() == [draw("diversity.1", 4, 2), draw("msml-0001-00000000.1", 7)]
    assert AuditStore(tmp_path).tasks() == {2, 4, 7}


def test_a_released_frame_is_an_audit_frame_no_more_until_drawn_again(tmp_path: Path) -> None:
    store = AuditStore(tmp_path)
    store.add(draw("diversity.1", 4, 2, 9))
    store.add(draw("msml-0001-00000000.1", 7, 2).model_copy(update={"released": (2, 9)}))
    assert store.tasks() == {2, 4, 7}
    store.add(draw("msml-0002-00000000.1", 8).model_copy(update={"released": (2,)}))
    assert store.tasks() == {4, 7, 8}


def test_a_batch_has_one_draw(tmp_path: Path) -> None:
    store = AuditStore(tmp_path)
    assert store.of_batch(None) is None
    store.add(draw("diversity.1", 4))
    assert store.of_batch(None) == draw("diversity.1", 4)
    assert store.of_batch("msml-0001-00000000") is None
    store.add(draw("msml-0001-00000000.1", 7).model_copy(update={"newest": "msml-0001-00000000"}))
    assert store.of_batch(None) is None


def test_a_damaged_record_does_not_count_as_empty(tmp_path: Path) -> None:
    store = AuditStore(tmp_path)
    store.add(draw("diversity.1", 4))
    (tmp_path / "audits.json").write_text("[")
    with pytest.raises(ValidationError):
        store.draws()
    with pytest.raises(ValidationError):
        store.add(draw("diversity.2", 5))
    assert (tmp_path / "audits.json").read_text() == "["
