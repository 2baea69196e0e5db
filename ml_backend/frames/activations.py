"""From a frame to the trunk's activations: fetch, decode, trunk, and a cache so that each is done once."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import BackendError, FrameUnreadable
from ml_backend.frames.addresses import Known
from ml_backend.frames.frame import Fetcher, Frame
from ml_backend.frames.networks import Networks
from ml_backend.logs import event
from ml_backend.msml import frames as msml_frames
from ml_backend.settings import Settings
from ml_backend.store.features import FeatureStore, key
from ml_backend.store.quantised import CODEC, quantise, restore

logger = logging.getLogger(__name__)
CHUNK = 64
FAILED_CHECKS = 8  # after so many a server is taken to be away, and nothing more is asked this time

Record = NDArray[np.uint8]
Failures = list[BackendError]  # of checks of files on servers, in one go over the frames
Vector = NDArray[np.float16]
Kept = Callable[[Sequence[bytes]], Mapping[bytes, Vector]]
"""Returns the embeddings (512,) that are kept, by the digest of the content, of those asked for."""


@dataclass(frozen=True)
class Chunk:
    """Trunk activations of some frames.

    ``frames``: the m readable ones; ``digests`` of their files' content; ``activations`` (k, c, h, w) float32 of those
    that are not in ``embedded``; ``embedded``: kept embeddings that made activations needless, by place among the
    frames; ``unreadable`` {task: reason} for the frames left out.
    """

    frames: list[Frame]
    digests: list[bytes]
    activations: NDArray[np.float32]
    embedded: dict[int, Vector]
    unreadable: dict[int, str]

    @property
    def tasks(self) -> NDArray[np.int64]:
        """Tasks of the readable frames, (m,)."""
        return np.array([frame.task for frame in self.frames], np.int64)


class Activations(Networks):
    """The trunk of one process and its cache; safe to use from several threads."""

    def __init__(self, settings: Settings, fetcher: Fetcher, features: FeatureStore, computes: bool = True) -> None:
        super().__init__(settings, computes)
        self._fetcher = fetcher
        self._features = features
        # One lock for each part, so that a cached frame need not wait for another request's first pass.
        self._computing = threading.Lock()
        self._counting = threading.Lock()
        self.looked_up: Counter[str] = Counter()
        """Frames that were looked up in the cache by this process: ``hit`` and ``miss``."""
        self._told: Counter[str] = Counter()

    def looked_up_since(self) -> dict[str, int]:
        """What was added to `looked_up` since this was asked last."""
        with self._counting:
            fresh = self.looked_up - self._told
            self._told = self.looked_up.copy()
        return dict(fresh)

    def activations(
        self,
        frames: Sequence[Frame],
        label_count: int,
        views: int = 1,
        without_studio: bool = False,
        check: bool = False,
        kept: Kept | None = None,
    ) -> Iterator[Chunk]:
        """Yield trunk activations in pieces, from the cache where they are there, so that memory stays flat.

        While the trunk works on one piece the next is fetched and decoded. With ``views`` above 1 the augmented views
        of each frame are computed and cached as well (`Bank` draws from them); what is yielded is the frame itself. A
        frame that cannot be read costs only itself. It is fetched again only where something of it is not in the cache,
        or with ``check`` where its file may have been replaced: then what the new file gives is used. Where Label
        Studio is away StudioUnavailable is raised; ``without_studio`` its frames count as unreadable then. Activations
        of a frame whose embedding is ``kept`` are not looked for.
        """
        harmless = BackendError if without_studio else FrameUnreadable
        pieces = [frames[start : start + CHUNK] for start in range(0, len(frames), CHUNK)]
        pool = ThreadPoolExecutor(self._settings.fetch_workers, thread_name_prefix="frames")
        try:
            failed: Failures | None = [] if check else None
            begun: _Begun | None = None
            for piece in pieces:
                begun, previous = self._begin(piece, views, pool, failed, kept), begun
                if previous is not None:
                    yield self._finish(label_count, previous, harmless)
            if begun is not None:
                yield self._finish(label_count, begun, harmless)
        finally:
            pool.shutdown(cancel_futures=True)

    def has(self, frames: Sequence[Frame], kept: Kept | None = None) -> bool:
        """Whether `activations` would find all these frames; a record may still turn out to be damaged."""
        known = self._known(frames)
        digests = {one.digest for one in known.values()}
        digests -= set(kept([*digests]) if kept else ())
        names = [self.record_key(digest, 0) for digest in digests]
        return len(known) == len(frames) and all(self._features.has_many(names))

    def records(
        self, label_count: int, frames: Sequence[Frame], digests: Sequence[bytes], drawn: NDArray[np.intp]
    ) -> list[Record]:
        """One view of each frame, ``drawn`` (n,) says which; what the cache lost is computed again."""
        names = [self.record_key(digest, int(view)) for digest, view in zip(digests, drawn, strict=True)]
        found = self._features.get_many(names)
        for row, stored in enumerate(found):
            if stored is None:
                view = int(drawn[row])
                prepared = self._prepare(frames[row], [view])
                if prepared.known.digest != digests[row]:
                    _log_replaced([frames[row]])
                found[row] = self._compute(label_count, [prepared])[0][view]
        return [record for record in found if record is not None]

    def _known(self, frames: Sequence[Frame]) -> dict[int, Known]:
        """What the cache knows of the frames' addresses, by row."""
        records = self._features.get_many([self.address_key(frame.url) for frame in frames])
        return {row: one for row, one in enumerate(map(Known.of, records)) if one is not None}

    def _begin(
        self,
        frames: Sequence[Frame],
        views: int,
        pool: ThreadPoolExecutor,
        failed: Failures | None,
        kept: Kept | None,
    ) -> _Begun:
        """Look a piece up in the cache and start to fetch and decode what is not there, or may be another by now."""
        known = self._known(frames)
        digests = {row: one.digest for row, one in known.items()}
        vectors = kept([*digests.values()]) if kept else {}
        embedded = {row: vectors[digest] for row, digest in digests.items() if digest in vectors}
        wanted = [(row, view) for row in digests if row not in embedded for view in range(views)]
        stored = self._features.get_many([self.record_key(digests[row], view) for row, view in wanted])
        found: dict[int, dict[int, Record]] = {row: {} for row in range(len(frames))}
        for (row, view), record in zip(wanted, stored, strict=True):
            if record is not None:
                found[row][view] = record
        fetched: dict[int, Future[_Prepared | None]] = {
            row: pool.submit(self._prepare, frames[row], range(views))
            for row, records in found.items()
            if len(records) < views and row not in embedded
        }
        with self._counting:
            self.looked_up.update(hit=len(frames) - len(fetched), miss=len(fetched))
        for row, one in known.items():
            if failed is not None and row not in fetched and one.due:
                fetched[row] = pool.submit(self._check, frames[row], range(views), one, failed)
        records = {row: of_row[0] for row, of_row in found.items() if 0 in of_row}
        return _Begun(frames, digests, records, embedded, fetched)

    def _prepare(self, frame: Frame, views: Sequence[int]) -> _Prepared:
        """Fetch a frame and make those of its ``views`` whose activations are not in the cache."""
        found = self._fetcher.look(frame.url, frame.task)
        if found is None:
            raise FrameUnreadable("is said to be unchanged, although nobody asked")
        return self._prepared(frame, views, *found)

    def _check(self, frame: Frame, views: Sequence[int], known: Known, failed: Failures) -> _Prepared | None:
        """Look whether the file is still the same; None where it is, or where that cannot be said."""
        if not known.local and len(failed) >= FAILED_CHECKS:
            return None
        try:
            found = self._fetcher.look(frame.url, frame.task, known.stamp)
            if found is not None:
                return self._prepared(frame, views, *found)
        except BackendError as error:
            if not known.local:
                failed.append(error)
                if len(failed) == FAILED_CHECKS:
                    event(logger, "files not checked", level=logging.WARNING, task=frame.task, reason=error)
        if not known.local:
            self._features.put_many({self.address_key(frame.url): replace(known, checked=time.time()).record()})
        return None

    def _prepared(self, frame: Frame, views: Sequence[int], content: bytes, stamp: str) -> _Prepared:
        digest = hashlib.sha256(content).digest()
        names = [self.record_key(digest, view) for view in views]
        stored = zip(views, self._features.get_many(names), strict=True)
        records = {view: record for view, record in stored if record is not None}
        wanted = [view for view in views if view not in records]
        pixels = msml_frames.views(msml_frames.decode(content), views[-1] + 1, digest)[wanted] if wanted else None
        return _Prepared(frame, Known(digest, stamp, time.time()), records, wanted, pixels)

    def _finish(self, label_count: int, begun: _Begun, harmless: type[BackendError]) -> Chunk:
        """Run the trunk on what was fetched, remember it, and put the piece together; ``harmless`` costs one frame."""
        digests, records, embedded = dict(begun.digests), dict(begun.found), dict(begun.embedded)
        prepared: dict[int, _Prepared] = {}
        unreadable: dict[int, str] = {}
        for row, future in begun.fetched.items():
            try:
                one = future.result()
                if one is not None:
                    prepared[row] = one
                    digests[row] = one.known.digest
            except harmless as error:
                records.pop(row, None)
                unreadable[begun.frames[row].task] = str(error)
                event(logger, "frame unreadable", level=logging.WARNING, task=begun.frames[row].task, reason=str(error))
        for row, computed in zip(prepared, self._compute(label_count, list(prepared.values())), strict=True):
            records[row] = computed[0]
            embedded.pop(row, None)
        _log_replaced([begun.frames[row] for row in prepared if digests[row] != begun.digests.get(row, digests[row])])
        rows = sorted(records | embedded)
        return Chunk(
            frames=[begun.frames[row] for row in rows],
            digests=[digests[row] for row in rows],
            activations=restore([records[row] for row in rows if row in records], self.trunk.shape),
            embedded={place: embedded[row] for place, row in enumerate(rows) if row in embedded},
            unreadable=unreadable,
        )

    def _compute(self, label_count: int, prepared: Sequence[_Prepared]) -> list[dict[int, Record]]:
        """Run the trunk on the views of frames that lack it and keep the result; returns {view: record} for each frame.

        The result is quantised even if it is used at once, so that a value is the same from the cache and without it.
        """
        pixels = [one.pixels for one in prepared if one.pixels is not None]
        rows: Iterator[Record] = iter(())
        if pixels:
            network = self.network(label_count)
            with self._computing:
                rows = iter(quantise(network.activations(np.concatenate(pixels))))
        computed = [{view: next(rows) for view in one.views} for one in prepared]
        kept: dict[bytes, NDArray[Any]] = {}
        for one, records in zip(prepared, computed, strict=True):
            kept |= {self.record_key(one.known.digest, view): record for view, record in records.items()}
            kept[self.address_key(one.frame.url)] = one.known.record()
        self._features.put_many(kept)
        return [one.records | records for one, records in zip(prepared, computed, strict=True)]

    def record_key(self, digest: bytes, view: int) -> bytes:
        """Where the cache keeps a view of a frame."""
        return key(digest, f"{self.trunk.name} {CODEC}", view)

    def address_key(self, url: str) -> bytes:
        """Where the cache keeps what is known of an address."""
        return hashlib.sha256(f"{self._settings.label_studio_url} {url}".encode()).digest()


@dataclass(frozen=True)
class _Prepared:
    """A fetched frame.

    ``records`` of some views are in the cache; the trunk is yet to see ``pixels`` (len(views), 224, 224, 3) uint8 of
    the other ``views``, None where there are none. View 0 is the frame itself.
    """

    frame: Frame
    known: Known
    records: dict[int, Record]
    views: Sequence[int]
    pixels: NDArray[np.uint8] | None


@dataclass(frozen=True)
class _Begun:
    """A piece under way.

    By row: the ``digests``, the records of view 0 that were ``found`` in the cache, the kept embeddings that spare
    looking for them, and what is being fetched.
    """

    frames: Sequence[Frame]
    digests: dict[int, bytes]
    found: dict[int, Record]
    embedded: dict[int, Vector]
    fetched: dict[int, Future[_Prepared | None]]


def _log_replaced(frames: Sequence[Frame]) -> None:
    """Tell whose files are other ones than before: what was annotated and learnt was learnt from the old ones."""
    if frames:
        event(logger, "files replaced", level=logging.WARNING, tasks=",".join(str(frame.task) for frame in frames))
