"""Who counts what, where it is not the process that exports it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from ml_backend.loop import confirm, jobs, work
from ml_backend.loop import score as scoring
from ml_backend.services import Services
from ml_backend.settings import Settings
from ml_backend.store.counters import Counters
from tests.installation import PROJECT, environment_of, settings_in, task_with_frame


@pytest.fixture
def settings(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    settings = settings_in(tmp_path, redis_url)
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    return settings


def test_a_killed_fine_tune_counts_as_failed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    services = Services(settings)
    monkeypatch.setattr(confirm, "recover", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    monkeypatch.setattr(os, "nice", lambda _: 0)
    jobs.enqueue(services, PROJECT, confirm.REQUEST, "a test")
    work.work(burst=True)
    assert Counters(services.redis).read() == {"fine-tunes failed": 1}


def test_cache_lookups_of_a_job_are_counted(settings: Settings) -> None:
    task = task_with_frame(settings.data_dir.parent, 5)
    scoring.fill_cache(PROJECT, [(5, task["data"]["image"])], 3)
    assert Counters(Services(settings).redis).read()["cache miss"] == 1


def test_counting_builds_no_network_and_never_fails(tmp_path: Path) -> None:
    services = Services(settings_in(tmp_path, "redis://127.0.0.1:1"))
    services.count(pushed=1)
    assert "predictor" not in vars(services)
