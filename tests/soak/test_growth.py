"""The bounds of a long day, by numbers worked out by hand, and leaks that must be caught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from soak.growth import FRAME_MEMORY, LEEWAY, MEBIBYTE, Limits, Project, Sample, broken, keys_bound, summary
from soak.measure import files_of

pytestmark = pytest.mark.unit

LIMITS = Limits(keep_pushed=2, cache_bytes=10**9)


def at(hour: int, frames: int = 1000) -> Sample:
    """An hour of an installation in which all is well: a version and 30 answers more every hour."""
    project = Project(frames, 30 * (hour + 1), hour + 1, {"one": frames, "two": frames})
    memory, handles = {"sidecar": 200 * MEBIBYTE, "redis": 10 * MEBIBYTE}, {"sidecar": 20}
    files, size = {"versions": 2 * (hour + 1), "orders": 9}, {"versions": 1_000_000, "features": 10**9}
    return Sample(hour, 3600.0 * hour + 1, memory, handles, files, size, 20, {1: project})


def test_a_day_in_which_all_is_well() -> None:
    assert broken([at(0), at(1), at(2)], LIMITS) == []
    assert broken([], LIMITS) == []


def test_the_bounds_of_files_and_keys() -> None:
    most = 2 + 30 + 2  # kept, the pile, a finish's and the next one
    assert LIMITS.orders == most
    assert keys_bound(at(4), LIMITS) == 30 + 12 + 2 * 5
    (figures,) = summary([at(4)], LIMITS)
    assert figures["files_bound"]["versions"] == 2 * 5 + 4
    assert figures["files_bound"]["orders"] == 3 * most + 1
    assert figures["predictions_bound"] == most * 1000
    assert figures["predictions"] == 2000


def test_memory_may_grow_by_a_tenth_some_leeway_and_what_frames_explain() -> None:
    bound = int(1.1 * 200 * MEBIBYTE) + LEEWAY + 500 * FRAME_MEMORY
    later = at(3, frames=1500)
    assert broken([at(0), replace(later, memory={"sidecar": bound})], LIMITS) == []
    (words,) = broken([at(0), replace(later, memory={"sidecar": bound + 1})], LIMITS)
    assert str(bound + 1) in words


@pytest.mark.parametrize(
    "leak",
    [
        lambda one: replace(one, memory={**one.memory, "sidecar": (200 + 50 * one.hour) * MEBIBYTE}),
        lambda one: replace(one, handles={"sidecar": 20 + 20 * one.hour}),
        lambda one: replace(one, files={**one.files, "orders": 9 + 60 * one.hour}),
        lambda one: replace(one, files={**one.files, "a new kind": one.hour}),
        lambda one: replace(one, size={**one.size, "features": 10**9 + one.hour}),
        lambda one: replace(one, redis_keys=20 + 50 * one.hour),
        lambda one: replace(one, projects={1: replace(one.projects[1], predictions={"one": 1000 + 20_000 * one.hour})}),
        lambda one: replace(
            one, projects={1: replace(one.projects[1], predictions={str(n): 1 for n in range(20 * one.hour)})}
        ),
    ],
    ids=["memory", "open files", "orders", "unknown files", "cache", "keys", "predictions", "orders pushed"],
)
def test_a_leak_is_caught_and_told_once(leak: Callable[[Sample], Sample]) -> None:
    day = [leak(at(hour)) for hour in range(3)]
    assert broken(day[:1], LIMITS) == []
    found = broken(day, LIMITS)
    assert found
    assert len(found) <= 2  # memory and open files are compared hour by hour


def test_files_are_counted_by_kind(tmp_path: Path) -> None:
    data, temporary = tmp_path / "data", tmp_path / "tmp"
    for name in ("features/ab/abc", "projects/1/versions/one/tail", "projects/2/orders/x", "projects/1/active", "key"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(b"1234")
    (temporary / "deep").mkdir(parents=True)
    (temporary / "deep" / "left").write_bytes(b"12")
    files, size = files_of(data, temporary)
    assert files == {"features": 1, "versions": 1, "orders": 1, "other": 2, "temporary": 1}
    assert size == {"features": 4, "versions": 4, "orders": 4, "other": 8, "temporary": 2}
