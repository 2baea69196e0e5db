"""The cache of trunk activations: one file a record, within a budget, shared by any number of processes and machines.

Why files and not LMDB, which release 0.1.0 used (`benchmarks/cache.py` of commit 4aa17ae measured both): LMDB's reader
table needs processes that see each other's process ids and a disk of this machine, so every container computed the same
activations again. Files are read nearly as fast, and need neither.
"""

from __future__ import annotations

import hashlib
import logging
import os
import struct
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.logs import event
from ml_backend.store.files import written_aside

Array = NDArray[Any]

RECENCY_SECONDS = 3600.0  # a read is noted at most this often, so that reading does not mean writing
ABANDONED_SECONDS = 3600.0  # no record takes so long to write: the process that wrote it was killed
SMALLEST_BUDGET = 1 << 20

_MAGIC = b"act2"
_HEAD = struct.Struct("<4sI8sB")  # magic, checksum of key and all that follows, dtype, number of dimensions
_BLOCK = 4096
# Shares of the budget: a process looks at the whole folder each time it has written the first; beyond the second, the
# oldest records go until the third is reached. Five processes that write at once stay within the budget.
_LOOK, _FULL, _ROOMY = 0.02, 0.9, 0.8
_OLD = ("data.mdb", "lock.mdb")  # the cache of release 0.1.0

_log = logging.getLogger(__name__)


def key(content_hash: bytes, trunk_key: str, view: int = 0) -> bytes:
    """Return the 32-byte key of one augmented view (0: the frame itself) of a frame under one trunk."""
    digest = hashlib.blake2b(digest_size=32)
    for part in (content_hash, trunk_key.encode(), str(view).encode()):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()


class FeatureStore:
    """Arrays by key, one file each below ``folder``, which together stay within ``budget_bytes``.

    Any number of threads, processes and containers may use the folder at once. A record
    is written aside and renamed, so a reader finds it whole or not at all, and a writer that is killed leaves nothing
    that counts. Where room is needed, the records that were not used for longest go. It is a cache: a damaged record
    is a miss and is removed, and where the folder cannot be used (read-only, disk full) everything is a miss and one
    warning is logged. A budget of 0 switches it off, any other is at least 1 MiB.
    """

    def __init__(self, folder: Path, budget_bytes: int) -> None:
        self.folder = folder
        self.budget_bytes = 0 if budget_bytes <= 0 else max(budget_bytes, SMALLEST_BUDGET)
        self._unchecked = self.budget_bytes  # bytes written since the last look at the folder: look at first
        self._warned = False

    def get_many(self, keys: Sequence[bytes]) -> list[Array | None]:
        """Return each key's array, in order; None for what is not there."""
        now = time.time()
        return [self._get(name, now) if self.budget_bytes else None for name in keys]

    def has_many(self, keys: Sequence[bytes]) -> list[bool]:
        """Return whether there is a record of each key, in order, without reading it: it may still be damaged."""
        return [self.budget_bytes > 0 and self._path(name).exists() for name in keys]

    def put_many(self, arrays: Mapping[bytes, Array]) -> None:
        """Keep arrays (bool, integer or float, any shape) by key (1 to 100 bytes); what is there is replaced.

        What is larger than an eighth of the budget is not kept.

        Raises:
            ValueError: for another dtype or key length.
        """
        for name, array in arrays.items():
            head, body = _pack(name, array)
            size = len(head) + body.nbytes
            if size > self.budget_bytes // 8:
                continue
            try:
                with written_aside(self._path(name), durable=False) as file:
                    file.write(head)
                    file.write(body.data if body.nbytes else b"")
                self._unchecked += _occupied(size)
                if self._unchecked >= _LOOK * self.budget_bytes:
                    self._make_room()
            except OSError as error:
                self._warn(error)

    def _path(self, name: bytes) -> Path:
        text = name.hex()
        return self.folder / text[:2] / text

    def _get(self, name: bytes, now: float) -> Array | None:
        path = self._path(name)
        try:
            with path.open("rb", buffering=0) as file:
                state = os.fstat(file.fileno())
                record = np.empty(state.st_size, np.uint8)
                length = file.readinto(record.data)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                self._warn(error)
            return None
        array = _unpack(name, record[:length].data)
        with suppress(OSError):  # gone meanwhile, or we may only read
            if array is None:
                path.unlink()
            elif now - state.st_mtime >= RECENCY_SECONDS:
                os.utime(path)
        return array

    def _make_room(self) -> None:
        """Remove what killed writers left, what release 0.1.0 left, and records beyond the budget, oldest first."""
        self._unchecked = 0
        for old in _OLD:
            if (self.folder / old).exists():
                event(_log, "cache of release 0.1.0 removed", file=self.folder / old)
                (self.folder / old).unlink(missing_ok=True)
        excess = sum(size for _, size, _ in self._records()) - _FULL * self.budget_bytes
        if excess <= 0:
            return
        excess += (_FULL - _ROOMY) * self.budget_bytes
        for _, size, path in sorted(self._records()):
            if excess <= 0:
                break
            Path(path).unlink(missing_ok=True)
            excess -= size

    def _records(self) -> Iterator[tuple[float, int, str]]:
        """Yield time of last use, bytes on disk, and path of every record."""
        abandoned = time.time() - ABANDONED_SECONDS
        for shard in os.scandir(self.folder):
            if len(shard.name) != 2 or not shard.is_dir():
                continue
            for entry in os.scandir(shard.path):
                with suppress(FileNotFoundError):  # another process made room meanwhile
                    state = entry.stat()
                    if not entry.name.startswith("."):
                        yield state.st_mtime, _occupied(state.st_size), entry.path
                    elif state.st_mtime < abandoned:
                        Path(entry.path).unlink()

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            _log.warning(
                "Working without the cache of activations in %s, slower but with the same results: %s. Make the "
                "folder writable or free disk space.",
                self.folder,
                error,
            )


def _pack(name: bytes, array: Array) -> tuple[bytes, Array]:
    if not 1 <= len(name) <= 100:
        raise ValueError(f"a key has 1 to 100 bytes, not {len(name)}")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"arrays of {array.dtype} are not kept")
    shape = struct.pack(f"<{array.ndim}q", *array.shape)
    kind = array.dtype.str.encode().ljust(8, b"\0")
    body = np.frombuffer(array.tobytes(), np.uint8)
    return _HEAD.pack(_MAGIC, _checksum(name, kind, array.ndim, shape, body.data), kind, array.ndim) + shape, body


def _unpack(name: bytes, record: memoryview) -> Array | None:
    """Return the array of a record, None where a single bit of it is not as it was written."""
    if len(record) < _HEAD.size:
        return None
    magic, checksum, kind, dimensions = _HEAD.unpack_from(record)
    start = _HEAD.size + 8 * dimensions
    shape, body = record[_HEAD.size : start], record[start:]
    if magic != _MAGIC or checksum != _checksum(name, kind, dimensions, shape, body):
        return None
    values = np.frombuffer(body, np.dtype(kind.rstrip(b"\0").decode()))
    return values.reshape(struct.unpack(f"<{dimensions}q", shape))


def _checksum(name: bytes, kind: bytes, dimensions: int, shape: bytes | memoryview, body: memoryview) -> int:
    # The key counts too: a whole record under another's key is as wrong as a torn one.
    start = zlib.crc32(bytes([len(name), dimensions]) + name + kind)
    return zlib.crc32(body, zlib.crc32(shape, start))


def _occupied(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
