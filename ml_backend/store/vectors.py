"""One short vector per key, for a project's whole pool, in two append-only files that are mapped into memory.

`vectors` and `keys` hold a row each for every key, after a head that says that the two belong together. Vectors are
on the disk before their keys are written, and only what both files hold counts, so a writer that is killed leaves rows
that nobody sees, and the next writer cuts them off. Nothing that counts is ever cut or changed in place: another
process may have it mapped.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from ml_backend.logs import event
from ml_backend.store.files import aside, flush, written_aside
from ml_backend.store.locks import alone

ABSENT = -1
KEY_BYTES = 32

_MAGIC = b"tsalemb1"
_RECORD = np.dtype([("key", f"V{KEY_BYTES}"), ("check", "<u8")])
_WORD_BYTES = 8

Vectors = NDArray[np.floating[Any]]
_log = logging.getLogger(__name__)


class _Damaged(Exception):
    """The files are not what was written."""


class VectorStore:
    """Vectors (n, width) of a floating ``dtype`` by key (32 bytes), in ``folder``, for any number of processes at once.

    Each process has one thread at a time here. The store can be lost: what is damaged is set aside with a line in the
    log, and where the folder cannot be used (read-only, disk full) nothing is kept and one warning is logged. Raises
    ValueError for a width whose rows are not whole words of 8 bytes.
    """

    def __init__(self, folder: Path, width: int, dtype: str) -> None:
        self.folder, self.width, self._dtype = folder, width, np.dtype(dtype)
        self._row_bytes = width * self._dtype.itemsize
        if self._row_bytes % _WORD_BYTES:
            raise ValueError(f"a row of {self._row_bytes} bytes is not made of whole words of {_WORD_BYTES}")
        self._head_rows = -(-_RECORD.itemsize // self._row_bytes)
        # Odd, so that no change of a single word of a row leaves its check as it was.
        self._weights = np.random.PCG64(1).random_raw((self._row_bytes + KEY_BYTES) // _WORD_BYTES) | np.uint64(1)
        self._keys_file, self._vectors_file = folder / "keys", folder / "vectors"
        self._warned = False
        self._forget()

    @property
    def vectors(self) -> Vectors:
        """What `rows` gave rows of when it was last asked, (n, width), read-only, mapped from the disk."""
        return self._vectors

    def rows(self, keys: Sequence[bytes]) -> NDArray[np.intp]:
        """Return each key's row in `vectors`, (m,), `ABSENT` where there is none."""
        try:
            self._look()
        except FileNotFoundError:
            self._forget()
        except OSError as error:
            self._warn(error)
        except _Damaged:
            self._mend()
        row = self._row
        return np.fromiter((row.get(name, ABSENT) for name in keys), np.intp, len(keys))

    def add(self, keys: Sequence[bytes], vectors: Vectors) -> None:
        """Append the vectors (m, width) of keys that are not there yet.

        Raises:
            ValueError: for keys that do not have 32 bytes, and for vectors of another shape or dtype or not finite.
        """
        if vectors.dtype != self._dtype or vectors.shape != (len(keys), self.width):
            wanted = f"({len(keys)}, {self.width}) of {self._dtype}"
            raise ValueError(f"{len(keys)} keys need vectors {wanted}, not {vectors.shape} of {vectors.dtype}")
        if any(len(name) != KEY_BYTES for name in keys):
            raise ValueError(f"a key has {KEY_BYTES} bytes")
        if not np.isfinite(vectors).all():
            raise ValueError("vectors must be finite")
        if all(name in self._row for name in keys):
            return
        try:
            with alone(self.folder / "lock"):
                self._look_or_begin()
                fresh: dict[bytes, int] = {}
                for place, name in enumerate(keys):
                    if name not in self._row:
                        fresh.setdefault(name, place)
                if fresh:
                    self._append(list(fresh), vectors[list(fresh.values())])
                    self._look()
        except OSError as error:
            self._warn(error)

    def _forget(self) -> None:
        self._head = b""
        self._row: dict[bytes, int] = {}
        self._vectors: Vectors = np.zeros((0, self.width), self._dtype)

    def _look(self) -> None:
        """Take in what was appended since the last look; FileNotFoundError where nothing is kept yet."""
        with self._keys_file.open("rb") as keys, self._vectors_file.open("rb") as vectors:
            head = keys.read(_RECORD.itemsize)
            if head[: len(_MAGIC)] != _MAGIC or vectors.read(_RECORD.itemsize) != head:
                raise _Damaged("the heads of the files do not belong together")
            if head != self._head:  # at first, and where another process has begun anew
                self._forget()
                self._head = head
            known, count = len(self._vectors), self._count(keys, vectors)
            if count < known:
                raise _Damaged("rows are missing that were there")
            if count > known:
                self._take(keys, vectors, known, count)

    def _take(self, keys: BinaryIO, vectors: BinaryIO, known: int, count: int) -> None:
        keys.seek((1 + known) * _RECORD.itemsize)
        records = np.frombuffer(keys.read((count - known) * _RECORD.itemsize), _RECORD)
        mapped = np.memmap(vectors, self._dtype, "r", self._head_rows * self._row_bytes, (count, self.width))
        names = np.ascontiguousarray(records["key"])
        if not np.array_equal(records["check"], self._checks(names, mapped[known:])):
            raise _Damaged("a row is not as it was written")
        self._row.update(zip(names.tolist(), range(known, count), strict=True))
        self._vectors = mapped

    def _append(self, keys: Sequence[bytes], vectors: Vectors) -> None:
        """Write rows behind those that both files hold; whoever calls holds the lock and has looked."""
        records = np.empty(len(keys), _RECORD)
        records["key"] = np.frombuffer(b"".join(keys), records["key"].dtype)
        rows = np.ascontiguousarray(vectors)
        records["check"] = self._checks(np.ascontiguousarray(records["key"]), rows)
        place = len(self._vectors)
        with _opened_at(self._vectors_file, (self._head_rows + place) * self._row_bytes) as file:
            file.write(rows.tobytes())
        flush(self._vectors_file)
        with _opened_at(self._keys_file, (1 + place) * _RECORD.itemsize) as file:
            file.write(records.tobytes())

    def _look_or_begin(self) -> None:
        """Look, and begin anew where there is nothing, or nothing of use; whoever calls holds the lock."""
        try:
            self._look()
            return
        except (FileNotFoundError, _Damaged) as error:
            self._forget()  # also what is mapped: the file may have become shorter than the map
            for path in (self._keys_file, self._vectors_file):
                if path.exists():
                    place = aside(path)
                    path.replace(place)
                    event(_log, "vectors set aside", level=logging.WARNING, file=place, reason=error)
        head = _MAGIC + uuid4().hex.encode()
        for path, size in (
            (self._vectors_file, self._head_rows * self._row_bytes),
            (self._keys_file, _RECORD.itemsize),
        ):
            with written_aside(path) as file:
                file.write(head.ljust(size, b"\0"))
        self._look()

    def _mend(self) -> None:
        """Look again while nobody writes, and set aside what is damaged indeed."""
        self._forget()
        try:
            with alone(self.folder / "lock"):
                self._look_or_begin()
        except OSError as error:
            self._warn(error)

    def _count(self, keys: BinaryIO, vectors: BinaryIO) -> int:
        """How many rows both files hold whole, without their heads."""
        sizes = ((keys, _RECORD.itemsize, 1), (vectors, self._row_bytes, self._head_rows))
        return min(os.fstat(file.fileno()).st_size // size - head for file, size, head in sizes)

    def _checks(self, keys: NDArray[np.void], vectors: Vectors) -> NDArray[np.uint64]:
        """A checksum of each row, (n,), from its key (n,) and its vector (n, width)."""
        words = self._row_bytes // _WORD_BYTES
        of_keys = keys.view("<u8").reshape(len(keys), KEY_BYTES // _WORD_BYTES) @ self._weights[words:]
        found: NDArray[np.uint64] = of_keys + vectors.view("<u8") @ self._weights[:words]
        return found

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            _log.warning(
                "Working without the vectors kept in %s, slower but with the same results: %s. Make the folder "
                "writable or free disk space.",
                self.folder,
                error,
            )


@contextmanager
def _opened_at(path: Path, end: int) -> Iterator[BinaryIO]:
    """Truncate a file to ``end`` bytes and continue writing there."""
    with path.open("r+b") as file:
        file.truncate(end)
        file.seek(end)
        yield file
