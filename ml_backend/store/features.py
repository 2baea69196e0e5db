"""The cache of trunk activations: on disk, within a budget, shared by every process of a machine."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import lmdb
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

RECENCY_SECONDS = 3600.0  # a read is noted at most this often, so that reading does not mean writing
CHUNK_BYTES = 32 << 20  # written in one transaction, while which other writers wait
SMALLEST_BUDGET = 1 << 20

_MAGIC = b"act1"
_HEAD = struct.Struct("<4sI8sB")  # magic, checksum of key and all that follows, dtype, number of dimensions
_TIME = struct.Struct("<d")
_PAGE = 4096
# Shares of the budget: beyond the first, records go until the second is reached; LMDB needs the rest to work. Where a
# write finds no place all the same, because free pages lie scattered or a reader holds them, the next levels are tried.
_LEVELS = ((0.85, 0.75), (0.5, 0.5), (0.25, 0.25), (0.0, 0.0))

_log = logging.getLogger(__name__)


def key(content_hash: bytes, trunk_key: str, view: int = 0) -> bytes:
    """Return the 32-byte key of one augmented view (0: the frame itself) of a frame under one trunk."""
    digest = hashlib.blake2b(digest_size=32)
    for part in (content_hash, trunk_key.encode(), str(view).encode()):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()


class FeatureStore:
    """Arrays by key in an LMDB file under `folder` that never grows beyond `budget_bytes`.

    Any number of threads and processes of one machine may use it at once, and fork; one that is killed leaves only
    whole records behind. Where room is needed the least recently used records go. It is a cache: a damaged record is a
    miss and is dropped, and where the folder cannot be used (read-only, disk full, damaged) everything is a miss and
    one warning is logged. A budget of 0 switches it off, any other is at least 1 MiB. The folder must not lie on a
    network file system.
    """

    def __init__(self, folder: Path, budget_bytes: int, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self.budget_bytes = 0 if budget_bytes <= 0 else max(budget_bytes, SMALLEST_BUDGET) // _PAGE * _PAGE
        self._clock = clock
        self._warned = False

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; the next use opens it again."""
        with _gate:
            _close(self.folder)

    def get_many(self, keys: Sequence[bytes]) -> list[Array | None]:
        """Return a copy of each key's array, in order, None for what is not there."""
        arrays: list[Array | None] = [None] * len(keys)
        if self.budget_bytes == 0:
            return arrays
        damaged: list[bytes] = []
        unnoted: list[bytes] = []
        now = self._clock()
        with self._degrading(), _use(self.folder, self.budget_bytes) as opened:
            with opened.environment.begin(buffers=True) as transaction:
                for index, name in enumerate(keys):
                    record = transaction.get(name, db=opened.records)
                    if record is None:
                        continue
                    arrays[index] = _unpack(name, record)
                    if arrays[index] is None:
                        damaged.append(name)
                    elif now - _noted(transaction.get(name, db=opened.recency)) >= RECENCY_SECONDS:
                        unnoted.append(name)
            if damaged or unnoted:
                with suppress(lmdb.MapFullError):  # the next write makes room
                    self._tidy(opened, damaged, unnoted, now)
        return arrays

    def put_many(self, arrays: Mapping[bytes, Array]) -> None:
        """Keep arrays (bool, integer or float, any shape) by key (1 to 511 bytes); what is there is replaced.

        Raises ValueError for another dtype or key length. What is larger than the store takes is not kept.
        """
        chunk: dict[bytes, bytes] = {}
        size = 0
        limit = min(CHUNK_BYTES, self.budget_bytes // 8)
        for name, array in arrays.items():
            record = _pack(name, array)
            if len(record) > limit:
                continue
            if size + len(record) > limit:
                self._put(chunk)
                chunk, size = {}, 0
            chunk[name] = record
            size += len(record)
        if chunk:
            self._put(chunk)

    def _put(self, chunk: Mapping[bytes, bytes]) -> None:
        with self._degrading(), _use(self.folder, self.budget_bytes) as opened:
            wanted = sum(_pages(len(record)) for record in chunk.values())
            for full, roomy in _LEVELS:
                try:
                    self._make_room(opened, wanted, full * self.budget_bytes, roomy * self.budget_bytes)
                    with opened.environment.begin(write=True) as transaction:
                        now = _TIME.pack(self._clock())
                        for name, record in chunk.items():
                            transaction.put(name, record, db=opened.records)
                            transaction.put(name, now, db=opened.recency)
                    return
                except lmdb.MapFullError:
                    opened.environment.reader_check()
                    if roomy == 0:
                        raise

    def _make_room(self, opened: _Opened, wanted: int, full: float, roomy: float) -> None:
        with opened.environment.begin(write=True, buffers=True) as transaction:
            used = sum(_used(transaction.stat(database)) for database in (opened.records, opened.recency))
            if used + wanted <= full:
                return
            excess = used + wanted - roomy
            oldest = sorted((_noted(at), bytes(name)) for name, at in transaction.cursor(opened.recency))
            for _, name in oldest:
                if excess <= 0:
                    break
                record = transaction.get(name, db=opened.records)
                excess -= 0 if record is None else _pages(len(record))
                transaction.delete(name, db=opened.records)
                transaction.delete(name, db=opened.recency)

    def _tidy(self, opened: _Opened, damaged: Sequence[bytes], unnoted: Sequence[bytes], now: float) -> None:
        with opened.environment.begin(write=True, buffers=True) as transaction:
            for name in damaged:
                record = transaction.get(name, db=opened.records)
                if record is not None and _unpack(name, record) is None:  # not replaced meanwhile
                    transaction.delete(name, db=opened.records)
                    transaction.delete(name, db=opened.recency)
            for name in unnoted:
                if transaction.get(name, db=opened.records) is not None:
                    transaction.put(name, _TIME.pack(now), db=opened.recency)

    @contextmanager
    def _degrading(self) -> Iterator[None]:
        try:
            yield
        except (lmdb.Error, OSError) as error:
            if not self._warned:
                self._warned = True
                _log.warning(
                    "Working without the cache of activations in %s, slower but with the same results: %s. Make the "
                    "folder writable, free disk space, or delete it where it is damaged.",
                    self.folder,
                    error,
                )


class _Opened(NamedTuple):
    environment: Any
    records: Any
    recency: Any


# LMDB allows one environment per file and process and none across a fork (even closing an inherited one would unprotect
# the parent's readers). So all stores of a process share one, and before a fork it is closed, once nobody is using it;
# parent and child open their own at the next use.
_gate = threading.Condition()
_environments: dict[Path, _Opened] = {}
_users = 0


@contextmanager
def _use(folder: Path, map_size: int) -> Iterator[_Opened]:
    global _users
    folder = folder.resolve()
    with _gate:
        if folder not in _environments:
            _environments[folder] = _open(folder, map_size)
        opened = _environments[folder]
        _users += 1
    try:
        yield opened
    finally:
        with _gate:
            _users -= 1
            _gate.notify_all()


def _open(folder: Path, map_size: int) -> _Opened:
    folder.mkdir(parents=True, exist_ok=True)
    # Without metasync a power cut may cost the last transaction, never the file.
    environment = lmdb.open(str(folder), map_size=map_size, max_dbs=2, max_readers=1024, metasync=False)
    try:
        environment.reader_check()  # forget the readers that were killed
        _lengthen(folder / "data.mdb", (environment.info()["last_pgno"] + 1) * environment.stat()["psize"])
        return _Opened(environment, environment.open_db(b"records"), environment.open_db(b"recency"))
    except BaseException:
        environment.close()
        raise


def _lengthen(path: Path, size: int) -> None:
    # Reading a mapped page that a truncated file no longer has would end the process; a page of zeros is a clean error.
    with path.open("r+b") as file:
        present = os.fstat(file.fileno()).st_size
        if present < size:
            os.posix_fallocate(file.fileno(), present, size - present)


def _close(folder: Path | None = None) -> None:
    _gate.wait_for(lambda: _users == 0)
    for path in list(_environments):
        if folder is None or path == folder.resolve():
            _environments.pop(path).environment.close()


def _before_fork() -> None:
    _gate.acquire()
    _close()


def _after_fork_in_child() -> None:
    global _gate
    _gate = threading.Condition()


os.register_at_fork(before=_before_fork, after_in_parent=lambda: _gate.release(), after_in_child=_after_fork_in_child)


def _pack(name: bytes, array: Array) -> bytes:
    if not 1 <= len(name) <= 511:
        raise ValueError(f"a key has 1 to 511 bytes, not {len(name)}")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"arrays of {array.dtype} are not kept")
    shape = struct.pack(f"<{array.ndim}q", *array.shape)
    body = shape + array.tobytes()
    kind = array.dtype.str.encode()
    checksum = _checksum(name, kind.ljust(8, b"\0"), array.ndim, body)
    return _HEAD.pack(_MAGIC, checksum, kind, array.ndim) + body


def _unpack(name: bytes, record: memoryview) -> Array | None:
    """Return the array of a record, None where a single bit of it is not as it was written."""
    if len(record) < _HEAD.size:
        return None
    magic, checksum, kind, dimensions = _HEAD.unpack_from(record)
    body = record[_HEAD.size :]
    if magic != _MAGIC or checksum != _checksum(name, kind, dimensions, body):
        return None
    shape = struct.unpack_from(f"<{dimensions}q", body)
    values = np.frombuffer(body, np.dtype(kind.rstrip(b"\0").decode()), offset=8 * dimensions)
    return values.reshape(shape).copy()


def _checksum(name: bytes, kind: bytes, dimensions: int, body: bytes | memoryview) -> int:
    # The key counts too: a whole record under another's key is as wrong as a torn one.
    return zlib.crc32(body, zlib.crc32(bytes([len(name) & 255, dimensions]) + name + kind))


def _noted(stamp: Any) -> float:
    return 0.0 if stamp is None or len(stamp) != _TIME.size else float(_TIME.unpack(stamp)[0])


def _pages(size: int) -> int:
    return math.ceil((size + 16) / _PAGE) * _PAGE


def _used(statistics: Mapping[str, int]) -> int:
    pages = statistics["branch_pages"] + statistics["leaf_pages"] + statistics["overflow_pages"]
    return pages * statistics["psize"]
