"""Since when a project has had its symptoms, and what older annotations say of them."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from ml_backend.store.symptoms import SymptomStore, known_at


def at(hour: int) -> datetime:
    return datetime(2026, 3, 1, hour, tzinfo=timezone.utc)


def test_the_first_symptoms_were_always_there(tmp_path: Path) -> None:
    periods = SymptomStore(tmp_path).note(("A", "B"), ("A", "B"), at(8))
    assert all(known_at(periods, name, "1999-01-01T00:00:00Z") for name in ("A", "B"))
    assert known_at(periods, "A", "no time at all")
    assert SymptomStore(tmp_path).read() == periods


def test_a_new_symptom_is_known_from_when_it_was_seen(tmp_path: Path) -> None:
    store = SymptomStore(tmp_path)
    store.note(("A", "B"), ("A", "B"), at(8))
    periods = store.note(("C", "A", "B"), ("A", "B"), at(10))
    assert not known_at(periods, "C", "2026-03-01T09:59:59.999999Z")
    assert known_at(periods, "C", "2026-03-01T10:00:00Z")
    assert known_at(periods, "C", "2026-03-01T12:30:00+02:00")
    assert not known_at(periods, "C", "no time at all")
    assert known_at(periods, "A", "2026-03-01T09:00:00Z")


def test_an_upgrade_takes_what_the_newest_version_knew_for_what_was_always_there(tmp_path: Path) -> None:
    periods = SymptomStore(tmp_path).note(("A", "B", "C"), ("A", "B"), at(8))
    assert [known_at(periods, name, "2026-03-01T07:00:00Z") for name in ("A", "B", "C")] == [True, True, False]


@pytest.mark.parametrize(("hour", "known"), [(8, True), (10, False), (12, True)])
def test_a_symptom_that_was_away_is_unknown_meanwhile(tmp_path: Path, hour: int, known: bool) -> None:
    store = SymptomStore(tmp_path)
    store.note(("A", "B", "C"), ("A", "B", "C"), at(7))
    store.note(("A", "B"), (), at(9))
    periods = store.note(("A", "B", "C"), (), at(11))
    assert known_at(periods, "C", at(hour).isoformat()) is known
