from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import pytest
import torch

from ml_backend.errors import RedisUnavailable
from ml_backend.launch.processes import Processes, embedded_redis
from ml_backend.launch.serve import wait_for_redis
from ml_backend.services import Services
from tests.installation import settings_in
from tests.studio_stand_in import one_thread

__all__ = ["one_thread"]


def test_making_it_touches_nothing(tmp_path: Path) -> None:
    services = Services(settings_in(tmp_path))
    assert services.projects() == []
    assert services.versions(3).active() is None
    assert services.orders(3).current() is None
    assert list(tmp_path.iterdir()) == []


def test_projects_are_the_folders_that_are_numbers(tmp_path: Path) -> None:
    services = Services(settings_in(tmp_path))
    for name in ("12", "3", "notes", ".aside-1"):
        (services.settings.data_dir / "projects" / name).mkdir(parents=True)
    assert services.projects() == [3, 12]


def test_projects_do_not_share_their_state(tmp_path: Path) -> None:
    services = Services(settings_in(tmp_path))
    services.orders(3).activate("diversity.1")
    assert services.orders(3).current_name() == "diversity.1"
    assert services.orders(4).current_name() is None
    assert services.projects() == [3]


@pytest.mark.parametrize("cache_dir", [None, "elsewhere"])
def test_the_cache_lies_where_the_settings_say_within_its_budget(tmp_path: Path, cache_dir: str | None) -> None:
    folder = tmp_path / cache_dir if cache_dir else tmp_path / "data" / "features"
    changes: dict[str, Any] = {"cache_dir": folder} if cache_dir else {}
    services = Services(settings_in(tmp_path, compute_threads=1, cache_gigabytes=0.25, **changes))
    features = services.predictor._features
    features.put_many({b"name": torch.ones(3).numpy()})
    assert [path.name for path in folder.rglob("*") if path.is_file()] == [b"name".hex()]
    assert features.budget_bytes == 250_000_000


def test_a_process_computes_on_as_many_cores_as_it_may(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    Services(settings_in(tmp_path, compute_threads=1)).predictor.network(4)
    assert torch.get_num_threads() == 1


def test_jobs_travel_as_json(tmp_path: Path, redis_url: str) -> None:
    services = Services(settings_in(tmp_path, redis_url))
    job = services.queue("tsal-test").enqueue_call("builtins.print", args=(1,))
    stored: Any
    (stored,) = [services.redis.hget(key, "data") for key in services.redis.scan_iter("rq:job:*")]
    assert job.serializer.loads(zlib.decompress(stored)) == ["builtins.print", None, [1], {}]
    with pytest.raises(TypeError):
        services.queue("tsal-test").enqueue_call("builtins.print", args=(object(),))


def test_the_embedded_redis_of_the_data_folder_is_found(tmp_path: Path) -> None:
    """As `tsal order` in a second terminal needs it, beside `tsal serve`."""
    services = Services(settings_in(tmp_path))
    with pytest.raises(RedisUnavailable, match=r"no Redis is configured.*tsal serve"):
        services.queue("tsal-test")
    command, url = embedded_redis(services.settings.data_dir / "redis")
    with Processes(lambda name, line: None) as processes:
        processes.start("redis", command, {})
        wait_for_redis(url)
        services.queue("tsal-test").enqueue_call("builtins.print", args=(1,))
        assert services.queue("tsal-test").count == 1
