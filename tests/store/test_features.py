from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from ml_backend.store import features
from ml_backend.store.features import RECENCY_SECONDS, FeatureStore, key

MIB = 1 << 20


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[FeatureStore]:
    with FeatureStore(tmp_path / "cache", 4 * MIB, clock) as opened:
        yield opened


def record(name: bytes, size: int = 20_000) -> NDArray[np.float16]:
    """An array that follows from its key, so that any reader can check it."""
    seed = int.from_bytes(hashlib.sha256(name).digest()[:8], "big")
    return np.random.default_rng(seed).random(size // 2, dtype=np.float32).astype(np.float16)


def names(count: int, prefix: str = "") -> list[bytes]:
    return [key(f"{prefix}{number}".encode(), "trunk") for number in range(count)]


def present(store: FeatureStore, wanted: list[bytes]) -> list[bool]:
    return [found is not None for found in store.get_many(wanted)]


@settings(max_examples=60, deadline=None)
@given(
    array=st.sampled_from(["<f2", "<f4", ">f4", "f8", "u1", "i2", "i8", "?"]).flatmap(
        lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
    )
)
def test_an_array_comes_back_as_it_went(array: NDArray[Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    with FeatureStore(tmp_path_factory.mktemp("cache"), MIB) as store:
        store.put_many({b"k": array})
        (found,) = store.get_many([b"k"])
    assert found is not None
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert found.tobytes() == array.tobytes()
    assert found.flags.writeable


def test_arrays_come_in_the_order_asked_and_missing_ones_are_none(store: FeatureStore) -> None:
    first, second, third = names(3)
    store.put_many({first: np.arange(3), third: np.arange(6).reshape(2, 3).T})
    found = store.get_many([third, second, first, third])
    assert found[1] is None
    assert [None if array is None else array.tolist() for array in found] == [
        [[0, 3], [1, 4], [2, 5]],
        None,
        [0, 1, 2],
        [[0, 3], [1, 4], [2, 5]],
    ]
    assert store.get_many([]) == []


def test_a_record_can_be_replaced_and_outlives_the_store(store: FeatureStore) -> None:
    store.put_many({b"k": np.zeros(3)})
    store.put_many({b"k": np.ones(2, np.uint8)})
    store.close()
    with FeatureStore(store.folder, store.budget_bytes) as again:
        (found,) = again.get_many([b"k"])
    assert found is not None
    assert found.tolist() == [1, 1]


def test_a_closed_store_opens_again_by_itself(store: FeatureStore) -> None:
    store.put_many({b"k": np.zeros(3)})
    store.close()
    store.close()
    assert present(store, [b"k"]) == [True]


def test_two_stores_of_one_process_share_a_folder(store: FeatureStore) -> None:
    with FeatureStore(store.folder, store.budget_bytes) as other:
        store.put_many({b"k": np.zeros(3)})
        assert present(other, [b"k"]) == [True]
    assert present(store, [b"k"]) == [True]


def test_keys_differ_by_frame_trunk_and_view() -> None:
    parts = [(b"a", "t", 0), (b"b", "t", 0), (b"a", "u", 0), (b"a", "t", 1), (b"at", "", 0), (b"", "at", 0)]
    assert len({key(*part) for part in parts}) == len(parts)
    assert key(b"a", "t") == key(b"a", "t", 0)
    assert len(key(b"x" * 1000, "t" * 1000, 12345)) == 32


@pytest.mark.parametrize("wrong", [np.array(["text"]), np.array([None]), np.zeros(2, complex)])
def test_other_dtypes_are_refused(store: FeatureStore, wrong: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="not kept"):
        store.put_many({b"k": wrong})


@pytest.mark.parametrize("wrong", [b"", b"k" * 512])
def test_keys_of_another_length_are_refused(store: FeatureStore, wrong: bytes) -> None:
    with pytest.raises(ValueError, match="1 to 511 bytes"):
        store.put_many({wrong: np.zeros(1)})


def _damage(store: FeatureStore, change: Callable[[Any, Any], None]) -> None:
    """Change the file behind the store's back."""
    store.close()
    environment = lmdb.open(str(store.folder), max_dbs=2, map_size=store.budget_bytes)
    database = environment.open_db(b"records")
    with environment.begin(write=True, db=database) as transaction:
        change(transaction, database)
    environment.close()


@pytest.mark.parametrize("place", [0, 5, 9, 16, 17, 30, -1])
def test_one_flipped_bit_makes_a_miss_that_is_dropped(
    place: int, store: FeatureStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.put_many({b"k": np.arange(40), b"other": np.arange(4)})

    def flip(transaction: Any, database: Any) -> None:
        torn = bytearray(transaction.get(b"k"))
        torn[place] ^= 4
        transaction.put(b"k", bytes(torn))

    _damage(store, flip)
    assert present(store, [b"k", b"other"]) == [False, True]
    _damage(store, lambda transaction, database: pytest.fail("kept") if transaction.get(b"k") else None)
    store.put_many({b"k": np.arange(2)})
    assert present(store, [b"k"]) == [True]
    assert caplog.records == []


@pytest.mark.parametrize("length", [0, 3, 17, 20, 336])
def test_a_shortened_record_is_a_miss(length: int, store: FeatureStore) -> None:
    store.put_many({b"k": np.arange(40)})
    _damage(store, lambda transaction, database: transaction.put(b"k", transaction.get(b"k")[:length]))
    assert present(store, [b"k"]) == [False]


def test_a_record_under_anothers_key_is_a_miss(store: FeatureStore) -> None:
    store.put_many({b"k": np.arange(40), b"q": np.arange(40, 80)})
    _damage(store, lambda transaction, database: transaction.put(b"q", transaction.get(b"k")))
    assert present(store, [b"k", b"q"]) == [True, False]


def test_the_file_stays_within_the_budget_and_keeps_the_newest(store: FeatureStore, clock: Clock) -> None:
    written = names(1000)
    for name in written:
        clock.now += 1
        store.put_many({name: record(name)})
    kept = present(store, written)
    assert (store.folder / "data.mdb").stat().st_size <= 4 * MIB
    assert kept == sorted(kept)
    assert 100 < sum(kept) < 200
    for name, array in zip(written[-20:], store.get_many(written[-20:]), strict=True):
        assert array is not None
        assert np.array_equal(array, record(name))


def test_more_than_fits_in_one_call_keeps_what_fits(store: FeatureStore, caplog: pytest.LogCaptureFixture) -> None:
    written = names(1000)
    store.put_many({name: record(name) for name in written})
    assert 100 < sum(present(store, written)) < 200
    store.put_many({b"huge": np.zeros(4 * MIB, np.uint8), b"small": np.zeros(3)})
    assert present(store, [b"huge", b"small"]) == [False, True]
    assert caplog.records == []


def test_records_of_all_sizes_find_room(store: FeatureStore, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """Freed pages lie scattered: a large record among small ones must find its place all the same."""
    dice = random.Random(1)
    for number in range(600):
        clock.now += 1
        name = names(1, f"{number}-")[0]
        store.put_many({name: record(name, dice.choice([20, 5_000, 20_000, 400_000]))})
        assert present(store, [name]) == [True]
    assert (store.folder / "data.mdb").stat().st_size <= 4 * MIB
    assert caplog.records == []


def test_what_was_read_lately_stays(store: FeatureStore, clock: Clock) -> None:
    written = names(120)
    for name in written:
        clock.now += 1
        store.put_many({name: record(name)})
    assert all(present(store, written))
    clock.now += RECENCY_SECONDS
    read = written[:20]
    store.get_many(read)
    for name in names(90, "later"):
        clock.now += 1
        store.put_many({name: record(name)})
    assert all(present(store, read))
    assert sum(present(store, written)) < 100


def test_reading_writes_at_most_once_an_hour(store: FeatureStore, clock: Clock) -> None:
    def transactions() -> int:
        with features._use(store.folder, store.budget_bytes) as opened:
            last: int = opened.environment.info()["last_txnid"]
            return last

    store.put_many({b"k": np.zeros(3)})
    written = transactions()
    clock.now += RECENCY_SECONDS - 1
    store.get_many([b"k", b"missing"])
    assert transactions() == written
    clock.now += 1
    store.get_many([b"k"])
    assert transactions() == written + 1
    store.get_many([b"k"])
    assert transactions() == written + 1


def test_a_budget_of_nothing_switches_it_off(tmp_path: Path) -> None:
    with FeatureStore(tmp_path / "cache", 0) as store:
        store.put_many({b"k": np.zeros(3)})
        assert store.get_many([b"k"]) == [None]
    assert not (tmp_path / "cache").exists()


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.getMessage() for entry in caplog.records if entry.levelno == logging.WARNING]


def test_a_folder_that_cannot_be_made_costs_only_speed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    with FeatureStore(tmp_path / "file" / "cache", MIB) as store:
        store.put_many({b"k": np.zeros(3)})
        assert store.get_many([b"k", b"q"]) == [None, None]
    assert len(_warnings(caplog)) == 1
    assert str(tmp_path / "file" / "cache") in _warnings(caplog)[0]
    assert "delete it" in _warnings(caplog)[0]


@pytest.mark.parametrize("kind", ["noise", "overwritten"])
def test_a_damaged_file_costs_only_speed(kind: str, store: FeatureStore, caplog: pytest.LogCaptureFixture) -> None:
    written = names(50)
    store.put_many({name: record(name) for name in written})
    store.close()
    path = store.folder / "data.mdb"
    content = path.read_bytes()
    keep = 0 if kind == "noise" else 2 * 4096
    path.write_bytes(content[:keep] + os.urandom(len(content) - keep))
    assert not any(present(store, written))
    store.put_many({b"k": np.zeros(3)})
    assert len(_warnings(caplog)) == 1


def _run(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _finished(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return output


READ = """
import sys
from pathlib import Path
from ml_backend.store.features import FeatureStore
from tests.store.test_features import names, record
found = FeatureStore(Path(sys.argv[1]), int(sys.argv[2])).get_many(names(50))
assert all(array is None or (array == record(name)).all() for name, array in zip(names(50), found))
print(sum(array is not None for array in found))
"""


def test_a_file_cut_short_is_survived(store: FeatureStore) -> None:
    """Without care the process that reads it dies of SIGBUS: it is another process that reads it."""
    written = names(50)
    store.put_many({name: record(name) for name in written})
    store.close()
    path = store.folder / "data.mdb"
    os.truncate(path, path.stat().st_size // 2)
    assert int(_finished(_run(READ, store.folder, store.budget_bytes))) < 50


def test_a_full_disk_costs_only_speed(store: FeatureStore, caplog: pytest.LogCaptureFixture) -> None:
    """The limit on a file's size stands for the disk: the write fails in the same place."""
    written = names(100)
    store.put_many({written[0]: record(written[0])})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((store.folder / "data.mdb").stat().st_size + 8192, hard))
    try:
        store.put_many({name: record(name) for name in written[1:]})
        assert present(store, written[:2]) == [True, False]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(_warnings(caplog)) == 1
    store.put_many({name: record(name) for name in written[1:]})
    assert all(present(store, written))


WRITE = """
import sys
from pathlib import Path
from ml_backend.store.features import FeatureStore
from tests.store.test_features import names, record
folder, budget, prefix, count = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
store = FeatureStore(folder, budget)
print("started", flush=True)
number = 0
while count < 0 or number < count:
    batch = names(number + 5, prefix)[number:]
    store.put_many({name: record(name) for name in batch})
    found = store.get_many(batch)
    assert all(array is None or (array == record(name)).all() for name, array in zip(batch, found))
    number += 5
print(sum(array is not None for array in found), store._warned)
"""


def test_several_processes_write_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    """Four writers, one of the names twice, with room for all of it."""
    processes = [_run(WRITE, tmp_path, 32 * MIB, prefix, 100) for prefix in ("a", "b", "c", "c")]
    assert [_finished(process).split() for process in processes] == [["started", "5", "False"]] * 4
    with FeatureStore(tmp_path, 32 * MIB) as store:
        for prefix in "abc":
            for name, array in zip(names(100, prefix), store.get_many(names(100, prefix)), strict=True):
                assert array is not None
                assert np.array_equal(array, record(name))


def test_several_processes_share_a_budget_that_is_too_small(tmp_path: Path) -> None:
    processes = [_run(WRITE, tmp_path, 2 * MIB, prefix, 200) for prefix in ("a", "b", "c")]
    for process in processes:
        assert _finished(process).split()[0] == "started"
    assert (tmp_path / "data.mdb").stat().st_size <= 2 * MIB


def test_a_killed_writer_leaves_whole_records_only(tmp_path: Path) -> None:
    """Killed eight times at any moment; what is there is right, and the next writer is not held up."""
    dice = random.Random(0)
    for attempt in range(8):
        process = _run(WRITE, tmp_path, 4 * MIB, f"{attempt}-", -1)
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=dice.uniform(0.01, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    with FeatureStore(tmp_path, 4 * MIB) as store:
        count = 0
        for attempt in range(8):
            written = names(300, f"{attempt}-")
            for name, array in zip(written, store.get_many(written), strict=True):
                assert array is None or np.array_equal(array, record(name))
                count += array is not None
        assert count > 20
        store.put_many({b"k": np.zeros(3)})
        assert present(store, [b"k"]) == [True]
        assert not store._warned


def _in_a_fork(store: FeatureStore, pipe: Any) -> None:
    pipe.send(len(features._environments))  # LMDB's own rule: an environment must not cross a fork
    written = names(50, "child")
    store.put_many({name: record(name) for name in written})
    pipe.send(present(store, [*names(50), *written]))


def test_a_fork_uses_the_store_of_its_parent(store: FeatureStore, caplog: pytest.LogCaptureFixture) -> None:
    """As gunicorn and RQ do: made before the fork, used after it on both sides, and by a thread while it happens."""
    written = names(50)
    store.put_many({name: record(name) for name in written})
    stop = threading.Event()
    missed: list[bool] = []

    def read() -> None:
        while not stop.is_set():
            missed.append(not all(present(store, written)))

    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    thread = threading.Thread(target=read)
    thread.start()
    try:
        for _ in range(3):
            # Python 3.12 warns of any fork beside threads: here it is what is tested.
            with pytest.warns(DeprecationWarning, match="fork") if sys.version_info >= (3, 12) else nullcontext():
                child = context.Process(target=_in_a_fork, args=(store, theirs))
                child.start()
            assert ours.poll(60)
            assert ours.recv() == 0
            assert ours.poll(60)
            assert ours.recv() == [True] * 100
            child.join()
            assert child.exitcode == 0
    finally:
        stop.set()
        thread.join()
    assert missed
    assert not any(missed)
    assert all(present(store, names(50, "child")))
    assert caplog.records == []
