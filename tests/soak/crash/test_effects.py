"""Every effect of a process is named and counted, and can be made to fail or to be the last."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisGone
from redis.exceptions import TimeoutError as RedisTimeout

from ml_backend.errors import StudioUnavailable
from ml_backend.store.activations import Activations
from ml_backend.studio.client import Studio
from soak.crash.effects import TRIES, Fate, Point, Watch, general
from soak.stand_in.server import running_stand_in
from tests.installation import XML

OPEN, RENAME = (
    "open .aside-active* in store.activations:point",
    "rename .aside-active* -> active in store.activations:point",
)


def watched(
    folder: Path, act: Callable[[], object], point: tuple[str, int] | None = None, fate: Fate = "kill"
) -> Watch:
    """Do something while its effects are watched; returns the watch, whatever came of it."""
    watch = Watch(folder, point, fate)
    with watch.watching(lambda one: None):
        act()
    return watch


def names(watch: Watch) -> list[str]:
    return [one.name for one in watch.seen]


def test_what_differs_from_run_to_run_is_left_out() -> None:
    assert general("orders/place in queue, msml-0012-0123abcd.3.npz") == "orders/ORDER.npz"
    assert general(".aside-active-0123456789abcdef0123456789abcdef") == ".aside-active*"
    assert general("tsal:7:pending") == "tsal:#:pending"


def test_files_are_named_by_who_writes_them(tmp_path: Path) -> None:
    watch = watched(tmp_path, lambda: Activations(tmp_path).point("one"))
    assert names(watch) == [OPEN, RENAME]
    assert names(watched(tmp_path, lambda: Activations(tmp_path).point(None))) == [
        "remove active in store.activations:point"
    ]
    assert names(watched(tmp_path, Activations(tmp_path).active)) == []  # reading changes nothing
    assert names(watched(tmp_path / "elsewhere", lambda: Activations(tmp_path).point("one"))) == []


def test_a_full_disk_stays_full(tmp_path: Path) -> None:
    Activations(tmp_path).point("one")
    watch = Watch(tmp_path, (OPEN, 1), "ENOSPC")
    with watch.watching(lambda one: None):
        for _ in range(2):
            with pytest.raises(OSError, match="No space left") as error:
                Activations(tmp_path).point("two")
            assert error.value.errno == errno.ENOSPC
    assert Activations(tmp_path).active() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["active"]


def test_a_failure_of_the_disk_comes_once(tmp_path: Path) -> None:
    watch = Watch(tmp_path, (RENAME, 1), "EIO")
    with watch.watching(lambda one: None):
        with pytest.raises(OSError, match="Input/output"):
            Activations(tmp_path).point("one")
        Activations(tmp_path).point("two")
    assert Activations(tmp_path).active() == "two"


@pytest.mark.parametrize(
    ("name", "fate", "left"),
    [
        (OPEN, "kill", []),
        (RENAME, "kill", ["aside: one"]),
        (OPEN, "torn", ["aside: on"]),
        ("the end", "kill", ["active: one"]),
    ],
)
def test_a_process_ends_right_before_an_effect(tmp_path: Path, name: str, fate: Fate, left: list[str]) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from tests.soak.crash.test_effects import watched; from ml_backend.store.activations import Activations\n"
        "folder, name, fate = Path(sys.argv[1]), *sys.argv[2:]\n"
        "watched(folder, lambda: Activations(folder).point('one'), (name, 1), fate)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path), name, fate])
    assert ended.returncode == -signal.SIGKILL
    found = [f"{'active' if path.name == 'active' else 'aside'}: {path.read_text()}" for path in tmp_path.iterdir()]
    assert [one.strip() for one in found] == left


def test_a_command_to_redis_fails_at_each_try_for_a_while(tmp_path: Path, redis_url: str) -> None:
    with Redis.from_url(redis_url) as redis:
        redis.set("tsal:7:news", 1)
        watch = Watch(tmp_path, ("redis INCRBY tsal:#:news in rq", 1), "reset")
        with watch.watching(lambda one: None):
            for _ in range(1 + TRIES):
                with pytest.raises(RedisGone):
                    redis.incr("tsal:7:news")
                assert redis.get("tsal:7:news") == b"1"
            redis.incr("tsal:7:news")
        assert redis.get("tsal:7:news") == b"2"
    assert {(one.name, one.changes) for one in watch.seen} == {
        ("redis INCRBY tsal:#:news in rq", True),
        ("redis GET tsal:#:news in rq", False),
    }


def test_a_command_takes_effect_and_times_out(tmp_path: Path, redis_url: str) -> None:
    with Redis.from_url(redis_url) as redis:
        watch = Watch(tmp_path, ("redis MULTI; HINCRBYFLOAT tsal:counted; EXEC in rq", 1), "timeout")
        pipeline = redis.pipeline()
        pipeline.hincrbyfloat("tsal:counted", "pushed", 1)
        with watch.watching(lambda one: None), pytest.raises(RedisTimeout):
            pipeline.execute()
        assert redis.hget("tsal:counted", "pushed") == b"1"


def test_a_call_to_label_studio_fails_before_or_after_its_effect(tmp_path: Path) -> None:
    with running_stand_in() as stand_in:
        studio = Studio(stand_in.url, next(iter(stand_in.state.users)))
        project = studio.create_project("Watched", XML)
        name = "studio POST /api/projects/#/import in studio.tasks:<lambda>"
        for fate, tasks in (("reset", 0), ("timeout", 1)):
            with Watch(tmp_path, (name, 1), fate).watching(lambda one: None), pytest.raises(StudioUnavailable):  # type: ignore[arg-type]
                studio.import_tasks(project, [{"image": "a"}])
            assert studio.counts(project).tasks == tasks


def test_a_call_by_another_client_is_seen_too(tmp_path: Path) -> None:
    with running_stand_in() as stand_in:
        watch = watched(tmp_path, lambda: httpx.get(f"{stand_in.url}/api/version/"))
    assert names(watch) == ["studio GET /api/version/ in rq"]


def test_each_point_has_its_fates() -> None:
    assert Point("a", 1, "file", True, True).fates == ("kill", "torn", "ENOSPC", "EIO")
    assert Point("a", 1, "studio", True).fates == ("kill", "reset", "timeout")
    assert Point("a", 1, "redis", False).fates == ("reset",)
