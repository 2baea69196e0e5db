from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_backend.errors import RedisUnavailable
from ml_backend.store.pending import Pending, connect
from tests.redis_server import stopped_redis

ANNOTATIONS = st.dictionaries(st.integers(1, 9), st.integers(1, 4), max_size=6)


@pytest.fixture
def pending(redis_url: str) -> Pending:
    return Pending(connect(redis_url), 7)


def test_nothing_is_pending_at_first(pending: Pending) -> None:
    assert (pending.tasks(), pending.count(), pending.news(), pending.known()) == (
        set(),
        0,
        0,
        set(),
    )


def test_frames_are_counted_not_annotations(pending: Pending) -> None:
    pending.add({1: 10, 2: 10, 3: 30})
    pending.add({3: 30})
    assert pending.tasks() == {10, 30}
    assert pending.count() == 2
    pending.remove([2, 99])
    assert pending.tasks() == {10, 30}
    pending.remove([1])
    assert pending.tasks() == {30}


def test_empty_changes_are_no_error(pending: Pending) -> None:
    pending.add({})
    pending.remove([])
    pending.replace({}, set())
    assert pending.known() == set()


def test_projects_do_not_mix(pending: Pending, redis_url: str) -> None:
    other = Pending(connect(redis_url), 77)
    pending.add({1: 10})
    pending.announce()
    assert (other.count(), other.news()) == (0, 0)


def test_webhooks_that_arrive_during_the_request_stay(pending: Pending) -> None:
    pending.add({1: 10, 2: 20})
    known = pending.known()
    pending.add({3: 30})
    pending.replace({2: 20, 4: 40}, known)
    assert pending.tasks() == {20, 30, 40}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=ANNOTATIONS, truth=ANNOTATIONS)
def test_replacing_leaves_exactly_the_truth(pending: Pending, before: dict[int, int], truth: dict[int, int]) -> None:
    pending.replace({}, pending.known())
    pending.add(before)
    pending.replace(truth, pending.known())
    assert pending.known() == set(truth)
    assert pending.tasks() == set(truth.values())


def test_every_announcement_raises_the_number(pending: Pending) -> None:
    pending.announce()
    pending.announce()
    assert pending.news() == 2


@pytest.mark.parametrize("url", [None, "redis://127.0.0.1:1", "unix:///nowhere/redis.sock", "http://127.0.0.1", "?"])
def test_a_missing_redis_is_reported_with_a_remedy(url: str | None) -> None:
    with pytest.raises(RedisUnavailable, match="TSAL_REDIS_URL"):
        connect(url)


def test_a_redis_that_does_not_answer_is_named_without_its_password() -> None:
    with pytest.raises(RedisUnavailable) as raised:
        connect("redis://team:p@ss/word@127.0.0.1:1/0?password=word")
    assert "127.0.0.1:1/0" in str(raised.value)
    assert "word" not in str(raised.value)


def test_a_redis_that_comes_later_is_reached(tmp_path: Path) -> None:
    with stopped_redis(tmp_path) as server:
        with pytest.raises(RedisUnavailable):
            connect(server.url)
        server.start().close()
        assert connect(server.url).ping()


def test_quiet_is_the_time_since_something_new_came(pending: Pending, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("ml_backend.store.pending.time.time", lambda: clock[0])
    assert pending.quiet() == 0  # not known: counted from now
    clock[0] += 5
    assert pending.quiet() == 5
    pending.add({1: 10})
    clock[0] += 7
    pending.replace({1: 10}, {1})  # nothing new
    assert pending.quiet() == 7
    pending.replace({1: 10, 2: 20}, {1})
    assert pending.quiet() == 0
    clock[0] -= 100  # the clock was set back
    assert pending.quiet() == 0
    clock[0] += 3
    assert pending.quiet() == 3
