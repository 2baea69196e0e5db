"""From a task's frame to probabilities and a pseudo-label: fetch, trunk activations from the cache, tail, table."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import FrameUnreadable
from ml_backend.logs import event
from ml_backend.msml import frames as msml_frames
from ml_backend.msml.network import Network, build
from ml_backend.settings import Settings
from ml_backend.store.features import FeatureStore, key
from ml_backend.store.versions import Manifest, VersionStore
from ml_backend.studio.images import FrameFetcher
from ml_backend.tsal.acquisition import margin
from ml_backend.tsal.correlation import CorrelationTable, plain_labels

logger = logging.getLogger(__name__)
CHUNK = 64


@dataclass(frozen=True)
class Frame:
    """A task's frame: where Label Studio says it is."""

    task: int
    url: str


@dataclass(frozen=True)
class Chunk:
    """Trunk activations of some frames.

    ``tasks`` (m,) int64; ``activations`` (m, views, c, h, w); ``unreadable`` {task: reason} for the frames left out.
    """

    tasks: NDArray[np.int64]
    activations: NDArray[np.float32]
    unreadable: dict[int, str]


@dataclass(frozen=True)
class Scores:
    """What a version says of some frames, row by row.

    ``tasks`` (n,) int64; ``probabilities`` (n, l) float32 in [0, 1]; ``labels`` (n, l) uint8 the pseudo-label validated
    by the correlation table; ``distances`` (n,) Manhattan distance to its row; ``plain`` (n, l) uint8 the label by the
    0.5 threshold; ``margins`` (n,) the signed multi-label margin of eq. 4; ``unreadable`` {task: reason}.
    """

    tasks: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    labels: NDArray[np.uint8]
    distances: NDArray[np.float64]
    plain: NDArray[np.uint8]
    margins: NDArray[np.float64]
    unreadable: dict[int, str] = field(default_factory=dict)


class Predictor:
    """Runs the network for one process; safe to use from several threads.

    The trunk is loaded once; a version's tail is loaded when first asked for and exchanged when another one is.
    """

    def __init__(self, settings: Settings, fetcher: FrameFetcher, features: FeatureStore) -> None:
        self._settings = settings
        self._fetcher = fetcher
        self._features = features
        self._networks: dict[int, Network] = {}
        self._loaded: dict[int, str] = {}
        self._lock = threading.RLock()

    def network(self, label_count: int) -> Network:
        """The network with pre-trained weights and ``label_count`` outputs; its tail may be any version's."""
        with self._lock:
            if label_count not in self._networks:
                settings = self._settings
                self._networks[label_count] = build(settings.backbone, label_count, settings.weights, settings.seed)
            return self._networks[label_count]

    def fresh(self, label_count: int) -> Network:
        """A network of its own for training, with the pre-trained tail."""
        return build(self._settings.backbone, label_count, self._settings.weights, self._settings.seed)

    def activations(self, frames: Sequence[Frame], label_count: int, views: int = 1) -> Iterator[Chunk]:
        """Yield trunk activations in pieces, from the cache where they are there, so that memory stays flat.

        View 0 is the frame itself, the others are its augmented views. A frame that cannot be read costs only itself.
        """
        network = self.network(label_count)
        for start in range(0, len(frames), CHUNK):
            yield self._chunk(network, frames[start : start + CHUNK], views)

    def embeddings(
        self, frames: Sequence[Frame], label_count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], dict[int, str]]:
        """Pre-trained features for ordering by diversity: tasks (m,), features (m, d), {unreadable task: reason}."""
        network = self.network(label_count)
        tasks: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
        rows: list[NDArray[np.float32]] = []
        unreadable: dict[int, str] = {}
        for chunk in self.activations(frames, label_count):
            unreadable.update(chunk.unreadable)
            if len(chunk.tasks):
                tasks.append(chunk.tasks)
                rows.append(network.embed(chunk.activations[:, 0]))
        return np.concatenate(tasks), np.concatenate(rows) if rows else np.zeros((0, 1), np.float32), unreadable

    def scores(self, frames: Sequence[Frame], manifest: Manifest, store: VersionStore) -> Iterator[Scores]:
        """Yield what a version says of the frames, in pieces."""
        label_count = len(manifest.label_names)
        table = CorrelationTable.from_json(manifest.table)
        for chunk in self.activations(frames, label_count):
            probabilities = self._probabilities(chunk.activations[:, 0], manifest, store)
            labels, distances = table.validate(probabilities)
            yield Scores(
                tasks=chunk.tasks,
                probabilities=probabilities,
                labels=labels,
                distances=distances,
                plain=plain_labels(probabilities),
                margins=margin(probabilities),
                unreadable=chunk.unreadable,
            )

    def _probabilities(
        self, activations: NDArray[np.float32], manifest: Manifest, store: VersionStore
    ) -> NDArray[np.float32]:
        label_count = len(manifest.label_names)
        if len(activations) == 0:
            return np.zeros((0, label_count), np.float32)
        with self._lock:
            network = self.network(label_count)
            if self._loaded.get(label_count) != manifest.version:
                network.load_tail(store.tail(manifest.version))
                self._loaded[label_count] = manifest.version
            return network.probabilities(activations)

    def _chunk(self, network: Network, frames: Sequence[Frame], views: int) -> Chunk:
        """Activations of one piece: look up, compute what is missing, remember it."""
        digests = self._known_digests(frames)
        found: dict[int, NDArray[Any]] = {}
        for row, stored in zip(digests, self._stored_views(network, list(digests.values()), views), strict=True):
            if stored is not None:
                found[row] = stored
        missing = [row for row in range(len(frames)) if row not in found]
        computed, unreadable = self._compute(network, frames, missing, views)
        found.update(computed)
        for row, reason in unreadable.items():
            event(logger, "frame unreadable", level=logging.WARNING, task=frames[row].task, reason=reason)
        rows = sorted(found)
        return Chunk(
            tasks=np.array([frames[row].task for row in rows], np.int64),
            activations=np.stack([found[row] for row in rows]).astype(np.float32, copy=False)
            if rows
            else np.zeros((0, views, 1, 1, 1), np.float32),
            unreadable={frames[row].task: reason for row, reason in unreadable.items()},
        )

    def _known_digests(self, frames: Sequence[Frame]) -> dict[int, bytes]:
        """Content digests of the frames whose address was fetched before, by row."""
        known = self._features.get_many([self._address_key(frame.url) for frame in frames])
        return {row: digest.tobytes() for row, digest in enumerate(known) if digest is not None}

    def _stored_views(self, network: Network, digests: list[bytes], views: int) -> list[NDArray[Any] | None]:
        keys = [key(digest, network.trunk_key, view) for digest in digests for view in range(views)]
        stored = self._features.get_many(keys)
        result: list[NDArray[Any] | None] = []
        for start in range(0, len(stored), views):
            bank = [value for value in stored[start : start + views] if value is not None]
            result.append(np.stack(bank) if len(bank) == views else None)
        return result

    def _compute(
        self, network: Network, frames: Sequence[Frame], rows: list[int], views: int
    ) -> tuple[dict[int, NDArray[Any]], dict[int, str]]:
        """Fetch, decode and run the trunk for the rows that the cache does not have."""
        unreadable: dict[int, str] = {}
        digests: dict[int, bytes] = {}
        pixels: list[NDArray[np.uint8]] = []
        requests = [(frames[row].url, frames[row].task) for row in rows]
        for row, content in zip(rows, self._fetcher.fetch_many(requests, self._settings.fetch_workers), strict=True):
            try:
                if isinstance(content, FrameUnreadable):
                    raise content
                picture = msml_frames.decode(content)
            except FrameUnreadable as error:
                unreadable[row] = str(error)
                continue
            digests[row] = hashlib.sha256(content).digest()
            pixels.append(msml_frames.views(picture, views, digests[row]))
        if not digests:
            return {}, unreadable
        with self._lock:
            flat = network.activations(np.concatenate(pixels))
        banks = dict(zip(digests, flat.reshape(len(digests), views, *flat.shape[1:]), strict=True))
        self._features.put_many(
            {
                key(digest, network.trunk_key, view): banks[row][view]
                for row, digest in digests.items()
                for view in range(views)
            }
        )
        self._features.put_many(
            {self._address_key(frames[row].url): np.frombuffer(digest, np.uint8) for row, digest in digests.items()}
        )
        return banks, unreadable

    def _address_key(self, url: str) -> bytes:
        return hashlib.sha256(f"{self._settings.label_studio_url} {url}".encode()).digest()


def concatenate(pieces: Sequence[Scores], label_count: int) -> Scores:
    """Join pieces of scores into one."""
    unreadable = {task: reason for piece in pieces for task, reason in piece.unreadable.items()}
    if not pieces:
        empty = np.zeros((0, label_count))
        return Scores(
            np.zeros(0, np.int64),
            empty.astype(np.float32),
            empty.astype(np.uint8),
            np.zeros(0),
            empty.astype(np.uint8),
            np.zeros(0),
        )
    joined = {
        name: np.concatenate([getattr(piece, name) for piece in pieces])
        for name in ("tasks", "probabilities", "labels", "distances", "plain", "margins")
    }
    return Scores(**joined, unreadable=unreadable)
