"""The cache of activations as one file a record, against LMDB with the same records: `python -m benchmarks.cache`.

LMDB is measured where it is installed (``pip install lmdb``). Records have the size of ResNet50's; a pool is read as
rescoring reads it, once from the page cache and once from the disk.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ml_backend.store.features import FeatureStore, key

POOL = 6836  # frames, as many as the paper's data set
CHUNK = 64
Row = Callable[[str, str, float], None]


class Store(Protocol):
    """What is compared."""

    def get_many(self, keys: Sequence[bytes]) -> list[NDArray[Any] | None]:
        """Read records."""

    def put_many(self, arrays: Mapping[bytes, NDArray[Any]]) -> None:
        """Write records."""


class Lmdb:
    """The same records in one LMDB file, with the checksum that a killed machine makes necessary."""

    def __init__(self, folder: Path, budget: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._environment = import_module("lmdb").open(str(folder), map_size=budget, metasync=False)

    def get_many(self, keys: Sequence[bytes]) -> list[NDArray[Any] | None]:
        """Read records."""
        arrays: list[NDArray[Any] | None] = []
        with self._environment.begin(buffers=True) as transaction:
            for name in keys:
                record = transaction.get(name)
                whole = record is not None and zlib.crc32(record[4:]) == int.from_bytes(record[:4], "little")
                arrays.append(np.frombuffer(record[4:], np.uint8).copy() if whole else None)
        return arrays

    def put_many(self, arrays: Mapping[bytes, NDArray[Any]]) -> None:
        """Write records."""
        with self._environment.begin(write=True) as transaction:
            for name, array in arrays.items():
                body = array.tobytes()
                transaction.put(name, zlib.crc32(body).to_bytes(4, "little") + body)


KINDS: dict[str, Callable[[Path, int], Store]] = {"files": FeatureStore, "lmdb": Lmdb}


def main() -> int:
    """Measure both and print a table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--records", type=int, default=10_000, help="how many are written")
    parser.add_argument("--bytes", type=int, default=100_360, help="size of one; ResNet50's have 100,360")
    parser.add_argument("--folder", type=Path, help="where to write; unset: the folder of temporary files")
    options = parser.parse_args()
    table: dict[tuple[str, str], dict[str, float]] = {}
    kinds = [kind for kind in KINDS if kind == "files" or find_spec("lmdb")]
    for kind in kinds:
        with tempfile.TemporaryDirectory(prefix="bench-cache-", dir=options.folder) as folder:
            measure(
                kind,
                Path(folder),
                options.records,
                options.bytes,
                lambda what, unit, value, kind=kind: table.setdefault((what, unit), {}).update({kind: value}),  # type: ignore[misc]
            )
    print(f"{options.records:,} records of {options.bytes:,} bytes\n{'':<52}{''.join(f'{kind:>12}' for kind in kinds)}")
    for (what, unit), values in table.items():
        shown = "".join(f"{values[kind]:>12,.2f}" if kind in values else f"{'-':>12}" for kind in kinds)
        print(f"{what + ', ' + unit:<52}{shown}")
    return 0


def measure(kind: str, folder: Path, records: int, size: int, row: Row) -> None:
    """Measure one kind of store in an empty folder."""
    plenty = 2 * records * (size + 8192)
    path = folder / "whole"
    row("one writer", "records/s", records / _timed(lambda: _write(kind, path, plenty, "a", records, size)))
    used = sum(file.stat().st_blocks * 512 for file in _files(path))
    row("bytes on disk for a byte of record", "ratio", used / (records * size))
    pool = min(POOL, records)
    row(f"reading {pool:,}, from memory", "s", _timed(lambda: _read(kind, path, plenty, "a", pool)))
    os.sync()
    for file in _files(path):
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
    row(f"reading {pool:,}, from the disk", "s", _timed(lambda: _read(kind, path, plenty, "a", pool)))
    shutil.rmtree(path)

    def two() -> None:
        writers = [_start(_write, kind, path, plenty, name, records // 2, size) for name in ("a", "b")]
        for writer in writers:
            writer.join()

    row("two writers", "records/s", records / _timed(two))
    shutil.rmtree(path)
    for attempt in range(5):
        writer = _start(_write, kind, path, plenty, str(attempt), records, size)
        time.sleep(0.3 + 0.05 * attempt)
        os.kill(writer.pid or 0, signal.SIGKILL)
        writer.join()
    names = [name for attempt in range(5) for name in _names(str(attempt), records)]
    found = [array for array in KINDS[kind](path, plenty).get_many(names) if array is not None]
    row("five writers killed: whole records", "count", len(found))
    row("wrong records among them", "count", sum(len(array) != size for array in found))
    shutil.rmtree(path)
    if kind == "files":  # LMDB has no budget; release 0.1.0 built one on top of it
        budget = records * size // 2
        seconds = _timed(lambda: _write(kind, path, budget, "a", records, size))
        row("one writer, budget for half of it", "records/s", records / seconds)
        row("largest share of the budget", "ratio", sum(file.stat().st_size for file in _files(path)) / budget)
        now = _timed(lambda: FeatureStore(path, budget).put_many({b"one": np.zeros(1)}))
        row("one look at the folder", "s", now)


def _write(kind: str, path: Path, budget: int, prefix: str, records: int, size: int) -> None:
    store, array = KINDS[kind](path, budget), np.random.default_rng(0).integers(0, 256, size, np.uint8)
    names = _names(prefix, records)
    for start in range(0, records, CHUNK):
        store.put_many(dict.fromkeys(names[start : start + CHUNK], array))


def _read(kind: str, path: Path, budget: int, prefix: str, records: int) -> None:
    def read() -> None:
        store, names = KINDS[kind](path, budget), _names(prefix, records)
        for start in range(0, records, CHUNK):
            assert all(array is not None for array in store.get_many(names[start : start + CHUNK]))

    # In a process of its own, because LMDB opens a file only once in each.
    reader = _start(read)
    reader.join()
    assert reader.exitcode == 0


def _names(prefix: str, count: int) -> list[bytes]:
    return [key(f"{prefix} {number}".encode(), "trunk") for number in range(count)]


def _files(folder: Path) -> Iterator[Path]:
    return (Path(parent, name) for parent, _, names in os.walk(folder) for name in names)


def _start(call: Callable[..., None], *arguments: object) -> Any:
    process = multiprocessing.get_context("fork").Process(target=call, args=arguments)
    process.start()
    return process


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
