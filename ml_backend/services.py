"""Everything that one process needs, built from the settings when first asked for."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from rq.serializers import JSONSerializer

from ml_backend import plugins
from ml_backend.errors import BackendError
from ml_backend.frames.frame import Frame
from ml_backend.frames.predictor import Predictor
from ml_backend.frames.probabilities import KeptProbabilities
from ml_backend.plugins import Registry
from ml_backend.settings import Settings
from ml_backend.store.audits import AuditStore
from ml_backend.store.census import Census
from ml_backend.store.counters import Counters
from ml_backend.store.doing import Doing
from ml_backend.store.embedded import redis_url
from ml_backend.store.embeddings import EmbeddingStore
from ml_backend.store.evidence_addresses import EvidenceAddresses
from ml_backend.store.features import FeatureStore
from ml_backend.store.finishes import FinishStore
from ml_backend.store.format import PROJECTS, require_readable
from ml_backend.store.grounds import GroundsStore
from ml_backend.store.kept import Kept
from ml_backend.store.orders import OrderStore
from ml_backend.store.overviews import Overview
from ml_backend.store.parked import ParkedStore
from ml_backend.store.pending import Pending, connect
from ml_backend.store.pool_map import PoolMapStore
from ml_backend.store.symptoms import SymptomStore
from ml_backend.store.versions import Manifest, VersionStore
from ml_backend.studio.client import Studio
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.images import FrameFetcher
from ml_backend.studio.keys import DataKeys
from ml_backend.tsal.acquisition import STRATEGIES, Strategy

QUICK_SECONDS = 2.0


class Services:
    """Label Studio, Redis, the network and the stores of one installation.

    A process that never ``computes`` holds no network: where it would need one, NetworkNeeded is raised.

    Raises DataTooNew, here and where a store is opened, if a newer release wrote the data folder.
    """

    def __init__(self, settings: Settings, computes: bool = True) -> None:
        require_readable(settings.data_dir)
        self.settings = settings
        self.computes = computes
        self._embeddings: dict[int, EmbeddingStore] = {}

    @cached_property
    def studio(self) -> Studio:
        """Label Studio as the user of the configured token."""
        return Studio(self.settings.label_studio_url, self.settings.token())

    @cached_property
    def redis(self) -> Redis:
        """Redis, known to have answered once."""
        return connect(redis_url(self.settings))

    @cached_property
    def fetcher(self) -> FrameFetcher:
        """Fetches frames, from Label Studio and the allowed hosts only."""
        return self._fetcher(self.settings.fetch_seconds)

    @cached_property
    def quick_fetcher(self) -> FrameFetcher:
        """Fetches optional frames that somebody is waiting for, so it gives up sooner than `fetcher`."""
        return self._fetcher(min(QUICK_SECONDS, self.settings.fetch_seconds))

    def _fetcher(self, seconds: float) -> FrameFetcher:
        settings = self.settings
        return FrameFetcher(
            settings.label_studio_url,
            lambda: self.studio.authorization(),
            document_root=settings.document_root,
            allowed_hosts=settings.allowed_hosts,
            max_bytes=settings.max_frame_bytes,
            seconds=seconds,
        )

    @cached_property
    def strategies(self) -> Mapping[str, Strategy]:
        """Every strategy by name: those that come with this package, and those that others add."""
        return Registry(plugins.STRATEGIES, STRATEGIES)

    @cached_property
    def predictor(self) -> Predictor:
        """The network with its cache."""
        settings = self.settings
        features = FeatureStore(
            settings.cache_dir or settings.data_dir / "features", int(settings.cache_gigabytes * 1e9)
        )
        return Predictor(settings, self.fetcher, features, self.computes)

    def queue(self, name: str) -> Queue:
        """A queue of jobs; they travel as JSON, never as pickle."""
        return Queue(name, connection=self.redis, serializer=JSONSerializer)

    def configuration(self, label_config: str) -> Configuration:
        """Read a project's labelling configuration; the settings may name the healthy choice.

        Raises:
            ConfigurationUnusable: saying what to change.
        """
        return Configuration.parse(label_config, self.settings.healthy_label)

    def frame(self, task: int, data: object, configuration: Configuration) -> Frame:
        """The frame that a task's data names, by the keys that the settings give."""
        settings = self.settings
        return Frame.of(task, data, configuration.image_key, settings.clip_key, settings.patient_key, settings.time_key)

    @property
    def data_keys(self) -> DataKeys:
        """The keys of a task's data that name patient, clip and time."""
        return DataKeys.of(self.settings)

    def folder(self, project: int) -> Path:
        """Where a project's state lies."""
        require_readable(self.settings.data_dir)  # a newer release may have taken the folder over meanwhile
        return self.settings.data_dir / PROJECTS / str(project)

    def projects(self) -> list[int]:
        """Projects that were connected to this installation."""
        folder = self.settings.data_dir / PROJECTS
        return sorted(int(entry.name) for entry in folder.glob("*") if entry.name.isdigit()) if folder.is_dir() else []

    def versions(self, project: int) -> VersionStore:
        """A project's model versions."""
        return VersionStore(self.folder(project))

    def orders(self, project: int) -> OrderStore:
        """A project's pushed orders."""
        return OrderStore(self.folder(project))

    def grounds(self, project: int) -> GroundsStore:
        """The data behind a project's orders, from which evidence is drawn."""
        return GroundsStore(self.folder(project))

    @cached_property
    def evidence_addresses(self) -> EvidenceAddresses:
        """The addresses of the evidence pictures."""
        return EvidenceAddresses(self.settings)

    def embeddings(self, project: int) -> EmbeddingStore:
        """A project's embeddings, always the same object, so that what was read once stays in memory.

        A project is refreshed by one thread at a time (`OrderStore.alone`).
        """
        if project not in self._embeddings:
            self._embeddings[project] = EmbeddingStore(self.folder(project) / "embeddings")
        return self._embeddings[project]

    def probabilities(self, project: int, manifest: Manifest) -> KeptProbabilities:
        """A version's probabilities for the frames of a project."""
        return KeptProbabilities(self.predictor, manifest, self.versions(project), self._probabilities(project))

    def has_scored(self, project: int, version: str) -> bool:
        """Whether a version has been asked for probabilities of the project's frames before."""
        return (self._probabilities(project) / version).is_dir()

    def _probabilities(self, project: int) -> Path:
        return self.folder(project) / "probabilities"

    def audits(self, project: int) -> AuditStore:
        """A project's audit draws."""
        return AuditStore(self.folder(project))

    def finishes(self, project: int) -> FinishStore:
        """A project's finishes."""
        return FinishStore(self.folder(project))

    def doing(self, project: int) -> Doing:
        """What the sidecar is doing for a project."""
        return Doing(lambda: self.redis, project)

    def overviews(self, project: int) -> Kept[Overview]:
        """The data of a project that the lead's page shows."""
        return Kept(self.folder(project) / "overview.json", Overview)

    def census(self, project: int) -> Kept[Census]:
        """Every frame of a project with its label, for the lead's page."""
        return Kept(self.folder(project) / "census.json", Census)

    def pool_map(self, project: int) -> PoolMapStore:
        """The map of a project's pool, for the lead's page."""
        return PoolMapStore(self.folder(project))

    def parked(self, project: int) -> ParkedStore:
        """A project's fine-tune that is not tried again until something changes."""
        return ParkedStore(self.folder(project))

    def symptoms(self, project: int) -> SymptomStore:
        """Since when a project has had its symptoms."""
        return SymptomStore(self.folder(project))

    def pending(self, project: int) -> Pending:
        """A project's annotations since the newest version."""
        return Pending(self.redis, project)

    def count(self, **amounts: float) -> None:
        """Add to what all processes have counted, and with it what this one looked up in the cache since the last time.

        A figure is not worth failing for: without Redis it is lost.
        """
        # A process that has not predicted has looked nothing up, and need not build a network's surroundings to say so.
        looked_up = self.predictor.looked_up_since() if "predictor" in vars(self) else {}
        with suppress(BackendError, RedisError):
            Counters(self.redis).add({**amounts, **{f"cache {outcome}": count for outcome, count in looked_up.items()}})
