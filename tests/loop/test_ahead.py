"""What a worker computes for the next fine-tune while people still answer, with a real Redis and real RQ jobs."""

from __future__ import annotations

import pytest
from rq import SimpleWorker
from rq.serializers import JSONSerializer

from ml_backend.loop import ahead, collect
from ml_backend.loop import order as ordering
from ml_backend.loop import score as scoring
from ml_backend.services import Services
from ml_backend.studio.configuration import Configuration
from tests.installation import PROJECT, XML, environment_of
from tests.loop.test_order import TASKS, Installation, folder, installed, predictor, silent, studio
from tests.loop.test_remember import A, B
from tests.studio_stand_in import one_thread

__all__ = ["folder", "installed", "one_thread", "predictor", "studio"]
ANSWERED = TASKS[:2]


@pytest.fixture
def services(installed: Installation, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Services:
    """A project of which two frames are answered; its cache is not shared with other tests."""
    cache = installed.data / "cache"
    made = installed.services(
        strategy="cover", validator="memory", redis_url=redis_url, k_max=100, refresh=2, views=3, cache_dir=cache
    )
    del made.predictor
    for name, value in environment_of(made.settings).items():
        monkeypatch.setenv(name, value)
    for task, labels in zip(ANSWERED, (A, B), strict=True):
        installed.studio.confirm(task, labels)
    return made


def views_missing(services: Services) -> int:
    """How many frames a fine-tune would have to compute views of."""
    configuration = Configuration.parse(XML)
    before = services.predictor.looked_up["miss"]
    labelled = collect.confirmed(services, PROJECT, configuration)
    collect.read(services, labelled, configuration, silent)
    return services.predictor.looked_up["miss"] - before


def waiting(services: Services) -> list[str]:
    return list(services.queue(scoring.QUEUE).job_ids)


def compute(services: Services) -> None:
    """Let a worker do what waits."""
    worker = SimpleWorker([services.queue(scoring.QUEUE)], connection=services.redis, serializer=JSONSerializer)
    worker.work(burst=True, logging_level="CRITICAL")


def test_a_fine_tune_finds_the_views_that_a_worker_has_computed(services: Services) -> None:
    ordering.refresh(services, PROJECT, silent)
    assert waiting(services) == [ahead.name_of(PROJECT)]
    compute(services)
    assert views_missing(services) == 0
    assert not services.redis.keys(f"*{ahead.name_of(PROJECT)}*")  # nothing stays behind


@pytest.mark.parametrize("rule", [{}, {"strategy": "mlm", "validator": "table"}])
def test_views_of_the_frames_asked_for_until_the_next_refresh_are_there_too(
    installed: Installation, services: Services, rule: dict[str, object]
) -> None:
    services.settings = services.settings.model_copy(update=rule)
    order = ordering.refresh(services, PROJECT, silent)
    assert order is not None
    compute(services)
    views_missing(services)  # computes those of the answered frames where the memory, which knows them, is not used
    first, second, third = order.tasks[:3].tolist()
    for task in (first, second):
        installed.studio.confirm(task, A)
    assert views_missing(services) == 0
    installed.studio.confirm(third, A)
    assert views_missing(services) == 1


def test_without_a_worker_the_fine_tune_computes_them(services: Services) -> None:
    ordering.refresh(services, PROJECT, silent)
    assert views_missing(services) == len(ANSWERED)


def test_the_job_is_enqueued_once_and_does_not_wait_for_ever(services: Services) -> None:
    for _ in range(2):
        ordering.refresh(services, PROJECT, silent)
    assert waiting(services) == [ahead.name_of(PROJECT)]
    assert 0 < services.redis.ttl(f"rq:job:{ahead.name_of(PROJECT)}") <= ahead.UNCLAIMED_SECONDS


def test_nothing_is_enqueued_where_frames_are_not_augmented(services: Services) -> None:
    services.settings = services.settings.model_copy(update={"views": 1})
    ordering.refresh(services, PROJECT, silent)
    assert waiting(services) == []


def test_a_refresh_does_not_need_redis(installed: Installation) -> None:
    alone = installed.services(strategy="cover", validator="memory", redis_url="redis://127.0.0.1:1", views=3)
    installed.studio.confirm(TASKS[0], A)
    order = ordering.refresh(alone, PROJECT, silent)
    assert order is not None
    assert installed.studio.model_version == order.about.name
