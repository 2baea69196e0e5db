from __future__ import annotations

import hashlib
import logging
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from ml_backend.store.features import RECENCY_SECONDS, FeatureStore, key

MIB = 1 << 20


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "cache", 4 * MIB)


def record(name: bytes, size: int = 20_000) -> NDArray[np.float16]:
    """An array that follows from its key, so that any reader can check it."""
    seed = int.from_bytes(hashlib.sha256(name).digest()[:8], "big")
    return np.random.default_rng(seed).random(size // 2, dtype=np.float32).astype(np.float16)


def names(count: int, prefix: str = "") -> list[bytes]:
    return [key(f"{prefix}{number}".encode(), "trunk") for number in range(count)]


def present(store: FeatureStore, wanted: list[bytes]) -> list[bool]:
    return [found is not None for found in store.get_many(wanted)]


def occupied(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def file_of(store: FeatureStore, name: bytes) -> Path:
    return store.folder / name.hex()[:2] / name.hex()


def used(store: FeatureStore, wanted: list[bytes], ago: float) -> None:
    """Make records look as if they had last been used so many seconds ago, each a second before the next."""
    now = time.time()
    for place, name in enumerate(wanted):
        at = now - ago - len(wanted) + place
        os.utime(file_of(store, name), (at, at))


@settings(max_examples=60, deadline=None)
@given(
    array=st.sampled_from(["<f2", "<f4", ">f4", "f8", "u1", "i2", "i8", "?"]).flatmap(
        lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
    )
)
def test_an_array_is_read_back_unchanged(array: NDArray[Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    store = FeatureStore(tmp_path_factory.mktemp("cache"), MIB)
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
    (found,) = FeatureStore(store.folder, store.budget_bytes).get_many([b"k"])
    assert found is not None
    assert found.tolist() == [1, 1]


def test_a_record_is_there_or_not(store: FeatureStore) -> None:
    store.put_many({b"k": np.zeros(3)})
    assert store.has_many([b"q", b"k"]) == [False, True]


def test_keys_differ_by_frame_trunk_and_view() -> None:
    parts = [(b"a", "t", 0), (b"b", "t", 0), (b"a", "u", 0), (b"a", "t", 1), (b"at", "", 0), (b"", "at", 0)]
    assert len({key(*part) for part in parts}) == len(parts)
    assert key(b"a", "t") == key(b"a", "t", 0)
    assert len(key(b"x" * 1000, "t" * 1000, 12345)) == 32


@pytest.mark.parametrize("wrong", [np.array(["text"]), np.array([None]), np.zeros(2, complex)])
def test_other_dtypes_are_refused(store: FeatureStore, wrong: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="not kept"):
        store.put_many({b"k": wrong})


@pytest.mark.parametrize("wrong", [b"", b"k" * 101])
def test_keys_of_another_length_are_refused(store: FeatureStore, wrong: bytes) -> None:
    with pytest.raises(ValueError, match="1 to 100 bytes"):
        store.put_many({wrong: np.zeros(1)})


@pytest.mark.parametrize("place", [0, 5, 9, 16, 17, 30, -1])
def test_a_record_with_one_flipped_bit_is_a_miss_and_removed(
    place: int, store: FeatureStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.put_many({b"k": np.arange(40), b"other": np.arange(4)})
    path = file_of(store, b"k")
    torn = bytearray(path.read_bytes())
    torn[place] ^= 4
    path.write_bytes(torn)
    assert present(store, [b"k", b"other"]) == [False, True]
    assert not path.exists()
    store.put_many({b"k": np.arange(2)})
    assert present(store, [b"k"]) == [True]
    assert caplog.records == []


@pytest.mark.parametrize("length", [0, 3, 17, 20, 336])
def test_a_shortened_record_is_a_miss(length: int, store: FeatureStore) -> None:
    store.put_many({b"k": np.arange(40)})
    os.truncate(file_of(store, b"k"), length)
    assert present(store, [b"k"]) == [False]


def test_a_record_under_anothers_key_is_a_miss(store: FeatureStore) -> None:
    store.put_many({b"k": np.arange(40), b"q": np.arange(40, 80)})
    file_of(store, b"q").write_bytes(file_of(store, b"k").read_bytes())
    assert present(store, [b"k", b"q"]) == [True, False]


def test_the_folder_stays_within_the_budget_and_keeps_the_newest(store: FeatureStore) -> None:
    written = names(1000)
    for name in written:
        store.put_many({name: record(name)})
        assert occupied(store.folder) <= 4 * MIB
    kept = present(store, written)
    assert 140 < sum(kept) < 200
    assert all(kept[-130:])
    for name, array in zip(written[-20:], store.get_many(written[-20:]), strict=True):
        assert array is not None
        assert np.array_equal(array, record(name))


def test_more_than_fits_in_one_call_keeps_what_fits(store: FeatureStore, caplog: pytest.LogCaptureFixture) -> None:
    written = names(1000)
    store.put_many({name: record(name) for name in written})
    assert 140 < sum(present(store, written)) < 200
    store.put_many({b"huge": np.zeros(4 * MIB, np.uint8), b"small": np.zeros(3)})
    assert present(store, [b"huge", b"small"]) == [False, True]
    assert caplog.records == []


def test_recently_read_records_stay(store: FeatureStore) -> None:
    written = names(120)
    store.put_many({name: record(name) for name in written})
    used(store, written, RECENCY_SECONDS)
    read = written[:20]
    assert all(present(store, read))
    store.put_many({name: record(name) for name in names(90, "later")})
    assert all(present(store, read))
    assert sum(present(store, written)) < 100


def test_reading_writes_at_most_once_an_hour(store: FeatureStore) -> None:
    store.put_many({b"k": np.zeros(3)})
    path = file_of(store, b"k")
    before = time.time() - RECENCY_SECONDS + 60
    os.utime(path, (before, before))
    store.get_many([b"k"])
    assert path.stat().st_mtime == before
    os.utime(path, (before - 60, before - 60))
    store.get_many([b"k"])
    assert path.stat().st_mtime > before


def test_the_cache_of_the_previous_release_is_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("data.mdb", "lock.mdb"):
        (tmp_path / name).write_bytes(b"old")
    with caplog.at_level(logging.INFO):
        FeatureStore(tmp_path, MIB).put_many({b"k": np.zeros(3)})
    assert [path.name for path in tmp_path.iterdir()] == [b"k".hex()[:2]]
    assert len(caplog.records) == 2


def test_leftovers_of_a_killed_writer_are_removed_in_time(store: FeatureStore) -> None:
    store.put_many({b"k": np.zeros(3)})
    shard = file_of(store, b"k").parent
    left, fresh = shard / ".aside-left", shard / ".aside-fresh"
    for path in (left, fresh):
        path.write_bytes(b"half")
    os.utime(left, (0, 0))
    FeatureStore(store.folder, store.budget_bytes).put_many({b"k": np.zeros(3)})
    assert not left.exists()
    assert fresh.exists()


def test_files_and_folders_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        store = FeatureStore(tmp_path / "cache", MIB)
        store.put_many({b"k": np.zeros(3)})
    finally:
        os.umask(before)
    path = file_of(store, b"k")
    assert [stat.S_IMODE(one.stat().st_mode) for one in (path, path.parent, store.folder)] == [0o664, 0o775, 0o775]


def test_a_budget_of_nothing_switches_it_off(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "cache", 0)
    store.put_many({b"k": np.zeros(3)})
    assert store.get_many([b"k"]) == [None]
    assert store.has_many([b"k"]) == [False]
    assert not (tmp_path / "cache").exists()


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.getMessage() for entry in caplog.records if entry.levelno == logging.WARNING]


def test_a_folder_that_cannot_be_made_costs_only_speed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    store = FeatureStore(tmp_path / "file" / "cache", MIB)
    store.put_many({b"k": np.zeros(3)})
    assert store.get_many([b"k", b"q"]) == [None, None]
    assert len(_warnings(caplog)) == 1
    assert str(tmp_path / "file" / "cache") in _warnings(caplog)[0]


def _run(code: str, *arguments: object, apart: Sequence[str] = ()) -> subprocess.Popen[str]:
    command = [*apart, sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _finished(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return output


def test_a_full_disk_costs_only_speed(store: FeatureStore, caplog: pytest.LogCaptureFixture) -> None:
    """The limit on a file's size stands for the disk: the write fails in the same place."""
    written = names(100)
    store.put_many({written[0]: record(written[0])})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
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
    store = FeatureStore(tmp_path, 32 * MIB)
    for prefix in "abc":
        for name, array in zip(names(100, prefix), store.get_many(names(100, prefix)), strict=True):
            assert array is not None
            assert np.array_equal(array, record(name))


def test_several_processes_share_a_budget_that_is_too_small(tmp_path: Path) -> None:
    processes = [_run(WRITE, tmp_path, 2 * MIB, prefix, 200) for prefix in ("a", "b", "c")]
    for process in processes:
        output = _finished(process).split()
        assert (output[0], output[-1]) == ("started", "False")
    assert MIB < occupied(tmp_path) <= 2 * MIB


def test_processes_that_do_not_see_each_other_share_it(tmp_path: Path) -> None:
    """As containers do: LMDB's reader table, which release 0.1.0 relied on, does not work across them."""
    apart = ["unshare", "--pid", "--fork"]
    if not shutil.which("unshare") or subprocess.run([*apart, "true"], capture_output=True).returncode != 0:
        pytest.skip("this user may not make a process namespace")
    processes = [_run(WRITE, tmp_path, 8 * MIB, "same", 100, apart=apart) for _ in range(2)]
    assert [_finished(process).split() for process in processes] == [["started", "5", "False"]] * 2
    assert all(present(FeatureStore(tmp_path, 8 * MIB), names(100, "same")))


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
    store = FeatureStore(tmp_path, 4 * MIB)
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
