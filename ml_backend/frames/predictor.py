"""From frames to probabilities and pseudo-labels: the trunk's activations, a version's tail, its table."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ml_backend.frames.activations import Activations, Chunk
from ml_backend.frames.frame import Fetcher, Frame
from ml_backend.frames.scores import Scores, validator_of
from ml_backend.settings import Settings
from ml_backend.store.features import FeatureStore
from ml_backend.store.quantised import restore
from ml_backend.store.versions import Manifest, VersionStore
from ml_backend.tsal.ticks import Tables, ticks

if TYPE_CHECKING:
    from ml_backend.msml.network import Network


@dataclass(frozen=True)
class Bank:
    """Augmented views of labelled frames, on disk: a view is drawn at random each time a frame is asked for."""

    activations: Activations
    label_count: int
    frames: Sequence[Frame]
    digests: Sequence[bytes]
    views: int

    def sample(self, rows: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.float32]:
        """Boundary activations (len(rows), c, h, w) of one random view of each row, as `finetune` wants them."""
        drawn = rng.integers(self.views, size=len(rows))
        frames, digests = [self.frames[row] for row in rows], [self.digests[row] for row in rows]
        records = self.activations.records(self.label_count, frames, digests, drawn)
        return restore(records, self.activations.trunk.shape)


class Predictor(Activations):
    """The whole network of one process; safe to use from several threads.

    The trunk is loaded once; a version's tail is loaded when first asked for and exchanged when another one is.
    """

    def __init__(self, settings: Settings, fetcher: Fetcher, features: FeatureStore, computes: bool = True) -> None:
        super().__init__(settings, fetcher, features, computes)
        self._loaded: dict[int, str] = {}
        self._tail = threading.Lock()

    def scores(
        self,
        frames: Sequence[Frame],
        manifest: Manifest,
        store: VersionStore,
        without_studio: bool = False,
    ) -> Iterator[Scores]:
        """Yield what a version says of the frames, in pieces; ``without_studio`` as in `activations`."""
        for chunk in self.activations(frames, len(manifest.label_names), without_studio=without_studio):
            yield self.judged(chunk, self.probabilities(chunk.activations, manifest, store), manifest)

    def judged(self, chunk: Chunk, probabilities: NDArray[np.float32], manifest: Manifest) -> Scores:
        """Score a chunk's frames with a version, given its ``probabilities`` (m, l)."""
        tables = Tables.from_json(manifest.table, manifest.strengths)
        found = ticks(probabilities, tables, validator_of(self._settings, manifest))
        return Scores(
            tasks=chunk.tasks,
            probabilities=probabilities,
            labels=found.labels,
            distances=found.distances,
            plain=found.plain,
            margins=found.margins,
            unreadable=chunk.unreadable,
        )

    def bank(self, frames: Sequence[Frame], digests: Sequence[bytes], label_count: int) -> Bank:
        """The views of frames that `activations` went through with the settings' number of views."""
        return Bank(self, label_count, frames, digests, self._settings.views)

    def explained(
        self, activations: NDArray[np.float32], manifest: Manifest, store: VersionStore
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return a version's probabilities (n, l) and class activation maps (n, l, h, w).

        Both are computed from trunk activations (n, c, h, w): see `msml.maps.activation_maps`.
        """
        from ml_backend.msml.maps import activation_maps

        with self._with_tail(manifest, store) as network:
            return activation_maps(network, activations)

    def probabilities(
        self, activations: NDArray[np.float32], manifest: Manifest, store: VersionStore
    ) -> NDArray[np.float32]:
        """Return the probabilities (m, l) that a version's tail computes from activations (m, c, h, w)."""
        with self._with_tail(manifest, store) as network:
            return network.probabilities(activations)

    @contextmanager
    def _with_tail(self, manifest: Manifest, store: VersionStore) -> Iterator[Network]:
        """Yield the network with a version's tail loaded, to one thread at a time."""
        label_count = len(manifest.label_names)
        network = self.network(label_count)
        with self._tail:
            if self._loaded.get(label_count) != manifest.version:
                network.load_tail(store.tail(manifest.version))
                self._loaded[label_count] = manifest.version
            yield network
