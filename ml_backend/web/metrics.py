"""Metrics for Prometheus: the requests of this process, and the state of every project."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from ml_backend.errors import BackendError
from ml_backend.loop import confirm, jobs
from ml_backend.services import Services
from ml_backend.store.counters import Counters
from ml_backend.store.versions import Manifest

One = TypeVar("One")
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


class Monitoring:
    """The registry of one process: ``requests`` in seconds by endpoint and status, ``predicted`` tasks, the rest read
    from the stores when it is asked for.
    """

    def __init__(self, services: Services) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.requests = Histogram(
            "tsal_request_seconds",
            "Time that a request took.",
            ["endpoint", "status"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.predicted = Counter("tsal_predictions", "Tasks that /predict answered.", registry=self.registry)
        self.registry.register(_State(services))


class _State(Collector):
    """Reads what no process knows by itself; a source that does not answer costs only its own figures."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        counted: dict[str, float] | None = None
        queued: dict[str, int] = {}
        with suppress(BackendError, RedisError):
            queue = jobs.queue(self._services)
            queued = {
                "queued": len(queue),
                "started": queue.started_job_registry.count,
                "waiting for a retry": queue.scheduled_job_registry.count,
            }
            counted = Counters(self._services.redis).read()
        yield GaugeMetricFamily("tsal_redis_up", "Whether Redis answers.", value=counted is not None)
        yield from self._cache(counted)
        if counted is not None:
            yield from _jobs(queued, counted)
        yield from self._projects()

    def _cache(self, counted: Mapping[str, float] | None) -> Iterator[Metric]:
        cache = CounterMetricFamily("tsal_cache_frames", "Frames looked up in the cache.", labels=["by", "outcome"])
        for outcome in ("hit", "miss"):
            cache.add_metric(["backend", outcome], self._services.predictor.looked_up[outcome])
            if counted is not None:  # from 0, or Prometheus would not see the first ones as an increase
                cache.add_metric(["sidecar and workers", outcome], counted.get(f"cache {outcome}", 0))
        yield cache

    def _projects(self) -> Iterator[Metric]:
        projects = {str(number): self._services.versions(number) for number in self._services.projects()}
        active = {project: one for project, store in projects.items() if (one := store.active_manifest()) is not None}
        yield _gauge("tsal_versions", "Versions in the store.", projects, lambda store: len(store.names()))
        yield _gauge("tsal_active_version", "Number of the active version.", active, lambda one: one.number)
        yield _gauge("tsal_exact_match", "The active version's exact match.", active, _end("exact_match", "value"))
        yield _gauge("tsal_exact_match_low", "Lower end of its interval.", active, _end("exact_match", "low"))
        yield _gauge("tsal_exact_match_high", "Upper end of its interval.", active, _end("exact_match", "high"))
        yield _gauge(
            "tsal_manual_share",
            "Share of the newest batch labelled by hand.",
            active,
            lambda one: one.batch.get("manual_share_validated"),
        )
        yield from _audit(active)
        yield _gauge(
            "tsal_fine_tune_seconds", "Time that the active version took.", active, lambda one: one.seconds.get("total")
        )
        parked = {project: confirm.parked_now(self._services, int(project)) for project in projects}
        yield _gauge(
            "tsal_parked",
            "1 if a fine-tune is parked until something changes.",
            parked,
            lambda one: float(one is not None),
        )
        try:
            pending = {project: self._services.pending(int(project)) for project in projects}
            waiting = {project: one.count() for project, one in pending.items()}
            accepted = {project: one.accepted() for project, one in pending.items()}
        except (BackendError, RedisError):
            return
        yield _gauge("tsal_confirmed", "Frames confirmed since the newest version.", waiting, lambda count: count)
        yield _gauge(
            "tsal_accepted_unseen", "Annotations that nobody looked at, kept apart.", accepted, lambda count: count
        )


def _audit(active: Mapping[str, Manifest]) -> Iterator[Metric]:
    """What audit frames said of the ticks when the active version was trained; nothing for versions from before."""
    yield _gauge(
        "tsal_calibration_error",
        "Expected calibration error of the ticks' confidence on audit frames.",
        active,
        lambda one: one.ticks.get("calibration_error"),
    )
    bias = "Automation bias on audit frames"
    yield _gauge("tsal_automation_bias", f"{bias}.", active, _bias("value"))
    yield _gauge("tsal_automation_bias_low", f"{bias}: lower end of the 95% interval.", active, _bias("low"))
    yield _gauge("tsal_automation_bias_high", f"{bias}: upper end of the 95% interval.", active, _bias("high"))


def _jobs(queued: Mapping[str, int], counted: Mapping[str, float]) -> Iterator[Metric]:
    """What the sidecar and the workers do."""
    waiting = GaugeMetricFamily("tsal_queue_jobs", "Fine-tunes under way, by how far.", labels=["state"])
    for state, count in queued.items():
        waiting.add_metric([state], count)
    yield waiting
    yield CounterMetricFamily("tsal_pushed_predictions", "Tasks pushed in order.", value=counted.get("pushed", 0))
    ended = CounterMetricFamily("tsal_fine_tunes", "Fine-tunes that ended, each try.", labels=["outcome"])
    seconds = CounterMetricFamily("tsal_fine_tunes_seconds", "Time that they took.", labels=["outcome"])
    for outcome in jobs.OUTCOMES:
        ended.add_metric([outcome], counted.get(f"fine-tunes {outcome}", 0))
        seconds.add_metric([outcome], counted.get(f"fine-tune seconds {outcome}", 0))
    yield ended
    yield seconds


def _end(name: str, end: str) -> Callable[[Manifest], float | None]:
    return lambda manifest: getattr(manifest.figure(name), end, None)


def _bias(end: str) -> Callable[[Manifest], float | None]:
    def of(manifest: Manifest) -> float | None:
        bias = manifest.ticks.get("automation_bias", {})
        return bias.get(end) if bias.get("value") is not None else None

    return of


def _gauge(name: str, about: str, projects: Mapping[str, One], value: Callable[[One], float | None]) -> Metric:
    family = GaugeMetricFamily(name, about, labels=["project"])
    for project, one in projects.items():
        figure = value(one)
        if figure is not None:
            family.add_metric([project], figure)
    return family
