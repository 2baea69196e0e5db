from __future__ import annotations

import hashlib
import logging
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ml_backend.store.embeddings import EmbeddingStore
from ml_backend.store.vectors import ABSENT, VectorStore

HEAD, RECORD, VECTOR = 1, 40, 1024  # rows of the head, bytes of a row in each file


@pytest.fixture
def store(tmp_path: Path) -> EmbeddingStore:
    return EmbeddingStore(tmp_path / "new" / "embeddings")


def names(*numbers: object) -> list[bytes]:
    return [hashlib.sha256(str(number).encode()).digest() for number in numbers]


def vectors_of(keys: list[bytes]) -> NDArray[np.float16]:
    """Vectors that follow from their keys, so that any reader can check them."""
    rows = [np.random.default_rng(int.from_bytes(name[:8], "big")).standard_normal(512) for name in keys]
    return np.array(rows, np.float16).reshape(len(keys), 512)


def add(store: EmbeddingStore, *numbers: object) -> None:
    keys = names(*numbers)
    store.add(keys, vectors_of(keys))


def found(store: EmbeddingStore, *numbers: object) -> list[bool]:
    """Which of them are there, and right wherever they are there."""
    keys = names(*numbers)
    rows = store.rows(keys)
    there = rows != ABSENT
    np.testing.assert_array_equal(store.vectors[rows[there]], vectors_of(keys)[there], strict=True)
    there_too: list[bool] = there.tolist()
    return there_too


def sizes(store: EmbeddingStore) -> tuple[int, int]:
    return (store.folder / "keys").stat().st_size, (store.folder / "vectors").stat().st_size


def set_aside(store: VectorStore) -> int:
    return len(list(store.folder.glob(".aside-*")))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


class TestAddAndFind:
    pytestmark = pytest.mark.unit

    def test_vectors_come_back_by_key_in_this_process_and_the_next(self, store: EmbeddingStore) -> None:
        add(store, 1, 2, 3)
        for one in (store, EmbeddingStore(store.folder)):
            assert one.rows(names(3, "other", 1, 3)).tolist() == [2, ABSENT, 0, 2]
            np.testing.assert_array_equal(one.vectors, vectors_of(names(1, 2, 3)), strict=True)
            assert not one.vectors.flags.writeable
            assert one.rows([]).shape == (0,)

    def test_an_empty_store_has_nothing_and_writes_nothing(self, store: EmbeddingStore) -> None:
        assert found(store, 1, 2) == [False, False]
        assert store.vectors.shape == (0, 512)
        add(store)
        assert not store.folder.exists()

    def test_a_known_key_keeps_its_vector_and_takes_no_room(self, store: EmbeddingStore) -> None:
        add(store, 1, 2)
        before = sizes(store)
        store.add(names(2, 1), np.zeros((2, 512), np.float16))
        assert sizes(store) == before
        store.add(names(3, 1, 3), vectors_of(names(3, 1, 4)))
        assert sizes(store) == ((HEAD + 3) * RECORD, (HEAD + 3) * VECTOR)
        assert found(store, 1, 2, 3) == [True, True, True]

    def test_what_another_process_adds_is_seen(self, store: EmbeddingStore) -> None:
        other = EmbeddingStore(store.folder)
        add(store, 1)
        assert found(other, 1) == [True]
        add(other, 2, 3)
        add(store, 3, 4)
        assert found(store, 1, 2, 3, 4) == found(other, 1, 2, 3, 4) == [True] * 4
        assert sizes(store)[1] == (HEAD + 4) * VECTOR

    def test_what_was_looked_up_stays_as_it_is_while_others_add(self, store: EmbeddingStore) -> None:
        add(store, 1)
        store.rows([])
        before = store.vectors
        add(EmbeddingStore(store.folder), 2)
        assert store.vectors is before
        assert len(before) == 1

    @pytest.mark.parametrize(
        ("keys", "vectors"),
        [
            (names(1), np.full((1, 512), np.nan, np.float16)),
            (names(1, 2), np.r_[np.zeros((1, 512)), np.full((1, 512), -np.inf)].astype(np.float16)),
            (names(1), np.zeros((1, 512), np.float32)),
            (names(1), np.zeros((1, 511), np.float16)),
            (names(1), np.zeros((2, 512), np.float16)),
            ([b"short"], np.zeros((1, 512), np.float16)),
        ],
    )
    def test_what_is_no_embedding_is_refused(
        self, store: EmbeddingStore, keys: list[bytes], vectors: NDArray[np.float16]
    ) -> None:
        with pytest.raises(ValueError, match=r"finite|key"):
            store.add(keys, vectors)
        assert not store.folder.exists()

    @settings(max_examples=60, deadline=None)
    @given(
        steps=st.lists(
            st.tuples(
                st.sampled_from(["add", "rows", "reopen", "torn vectors", "torn both"]),
                st.lists(st.integers(0, 12), max_size=6),
                st.integers(0, 1),
            ),
            max_size=12,
        )
    )
    def test_two_stores_on_a_folder_do_what_a_dict_does(
        self, steps: list[tuple[str, list[int], int]], tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        folder = tmp_path_factory.mktemp("embeddings")
        stores = [EmbeddingStore(folder), EmbeddingStore(folder)]
        model: dict[int, int] = {}
        for step, numbers, which in steps:
            if step == "add":
                add(stores[which], *numbers)
                for number in numbers:
                    model.setdefault(number, len(model))
            elif step == "reopen":
                stores[which] = EmbeddingStore(folder)
            elif step.startswith("torn") and model:
                tear(folder, len(model), also_keys=step == "torn both")
            rows = stores[which].rows(names(*numbers)).tolist()
            assert rows == [model.get(number, ABSENT) for number in numbers]
        for one in stores:
            assert all(found(one, *model))
            assert len(one.vectors) == len(model)


def tear(folder: Path, count: int, also_keys: bool) -> None:
    """Leave behind ``count`` rows what a writer leaves that is killed while it writes vectors, or writes keys."""
    torn = [("vectors", VECTOR, 3 * VECTOR if also_keys else 700)] + [("keys", RECORD, RECORD - 1)] * also_keys
    for name, size, left in torn:
        os.truncate(folder / name, (HEAD + count) * size)
        with (folder / name).open("ab") as file:
            file.write(b"\xff" * left)


class TestDamage:
    pytestmark = pytest.mark.unit

    @pytest.mark.parametrize("reader", ["the same", "another"])
    @pytest.mark.parametrize(
        "harm",
        [
            lambda folder: (folder / "keys").write_bytes(b"garbage"),
            lambda folder: (folder / "vectors").write_bytes(b""),
            lambda folder: (folder / "keys").write_bytes(os.urandom(4000)),
            lambda folder: (folder / "vectors").write_bytes(os.urandom(10_000)),
            lambda folder: (folder / "keys").unlink(),
            lambda folder: (folder / "vectors").unlink(),
            lambda folder: paired_with_another(folder),
        ],
        ids=["short keys", "no vectors", "other keys", "other vectors", "keys gone", "vectors gone", "of another pair"],
    )
    def test_damaged_files_are_set_aside_and_made_again(
        self, store: EmbeddingStore, harm: Callable[[Path], None], reader: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        add(store, 1, 2)
        harm(store.folder)
        one = store if reader == "the same" else EmbeddingStore(store.folder)
        assert found(one, 1, 2) == [False, False]
        add(one, 2, 5)
        assert found(one, 1, 2, 5) == found(EmbeddingStore(store.folder), 1, 2, 5) == [False, True, True]
        assert found(store, 1, 2, 5) == [False, True, True]
        told = warnings(caplog)
        assert told
        assert all(line.startswith("vectors set aside") for line in told)
        assert len(told) == set_aside(store)

    @pytest.mark.parametrize(("file", "place"), [("vectors", 1 * VECTOR), ("vectors", 3 * VECTOR - 1), ("keys", 81)])
    def test_a_single_bit_is_noticed(self, store: EmbeddingStore, file: str, place: int) -> None:
        add(store, 1, 2, 3)
        content = bytearray((store.folder / file).read_bytes())
        content[place] ^= 16
        (store.folder / file).write_bytes(content)
        again = EmbeddingStore(store.folder)
        assert found(again, 1, 2, 3) == [False] * 3
        assert set_aside(store) == 2

    def test_a_file_that_becomes_shorter_is_not_read_where_it_ended(self, store: EmbeddingStore) -> None:
        add(store, *range(20))
        assert all(found(store, *range(20)))
        os.truncate(store.folder / "vectors", 3 * VECTOR)
        assert found(store, *range(20)) == [True] * 2 + [False] * 18
        add(store, *range(20))
        assert all(found(store, *range(20)))

    def test_rows_that_a_process_has_mapped_stay_readable_when_another_sets_them_aside(
        self, store: EmbeddingStore
    ) -> None:
        add(store, 1, 2)
        store.rows([])
        before = store.vectors
        (store.folder / "keys").write_bytes(b"garbage")
        other = EmbeddingStore(store.folder)
        add(other, 3)
        np.testing.assert_array_equal(before, vectors_of(names(1, 2)))
        assert found(store, 1, 2, 3) == [False, False, True]

    def test_a_copy_of_keys_and_vectors_made_while_they_grow_is_good(self, store: EmbeddingStore) -> None:
        add(store, 1, 2)
        old_keys = (store.folder / "keys").read_bytes()
        old_vectors = (store.folder / "vectors").read_bytes()
        add(store, 3)
        (store.folder / "keys").write_bytes(old_keys)
        assert found(EmbeddingStore(store.folder), 1, 2, 3) == [True, True, False]
        add(EmbeddingStore(store.folder), 3)
        (store.folder / "vectors").write_bytes(old_vectors)
        again = EmbeddingStore(store.folder)
        assert found(again, 1, 2, 3) == [True, True, False]
        add(again, 4)
        assert found(EmbeddingStore(store.folder), 1, 2, 3, 4) == [True, True, False, True]
        assert set_aside(store) == 0


def paired_with_another(folder: Path) -> None:
    other = EmbeddingStore(folder.parent / "other")
    add(other, 7, 8)
    (other.folder / "keys").rename(folder / "keys")


def test_a_full_disk_costs_only_speed(store: EmbeddingStore, caplog: pytest.LogCaptureFixture) -> None:
    """The limit on a file's size stands for the disk: the write fails in the same place."""
    add(store, *range(4))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 * VECTOR + 100, hard))
    try:
        for start in (10, 20):
            add(store, *range(start, start + 10))
            assert found(store, 0, start) == [True, False]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(warnings(caplog)) == 1
    assert str(store.folder) in warnings(caplog)[0]
    add(store, *range(10, 20))
    assert all(found(store, *range(4), *range(10, 20)))


def test_a_folder_that_cannot_be_made_costs_only_speed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    store = EmbeddingStore(tmp_path / "file" / "embeddings")
    for number in range(3):
        add(store, number)
        assert found(store, number) == [False]
    assert len(warnings(caplog)) == 1


WRITE = """
import sys
from pathlib import Path
from ml_backend.store.embeddings import EmbeddingStore
from tests.store.test_vectors import add
store = EmbeddingStore(Path(sys.argv[1]))
print("started", flush=True)
number, last = int(sys.argv[2]), int(sys.argv[3])
while number < last:
    add(store, *range(number, number + 7))
    number += 5
"""


def run(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return output


def test_processes_append_at_once(store: EmbeddingStore, caplog: pytest.LogCaptureFixture) -> None:
    """Three processes, two of them with the same frames: every frame once, and every vector its own."""
    for process in [run(WRITE, store.folder, start, start + 150) for start in (0, 0, 100)]:
        finished(process)
    assert all(found(store, *range(250)))
    assert len(store.vectors) == len({vector.tobytes() for vector in store.vectors}) == len(range(252))
    assert set_aside(store) == 0
    assert not warnings(caplog)


@pytest.mark.integration  # real processes, really killed
def test_killed_writers_leave_whole_rows_only(store: EmbeddingStore, caplog: pytest.LogCaptureFixture) -> None:
    """Killed eight times at any moment, two at once; what is there is right, and the next writer is not held up."""
    dice = random.Random(0)
    for attempt in range(4):
        pair = [run(WRITE, store.folder, start, 10**9) for start in (attempt * 10_000, attempt * 10_000 + 3)]
        for process in pair:
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n"
        for process in pair:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=dice.uniform(0.05, 0.3))
            process.send_signal(signal.SIGKILL)
        for process in pair:
            process.communicate()
            assert process.returncode == -signal.SIGKILL
    there = list(range(40_000))  # more than a quick machine writes before it is killed
    assert sum(found(store, *there)) > 40
    assert sum(found(store, *there)) == len(store.vectors)
    add(store, "last")
    assert found(EmbeddingStore(store.folder), "last") == [True]
    assert set_aside(store) == 0
    assert not warnings(caplog)


KILL_AT_EVERY_LINE = """
import os, signal, sys
from pathlib import Path
from ml_backend.store import files, vectors
from ml_backend.store.embeddings import EmbeddingStore
from tests.store.test_vectors import add, found

folder, first = Path(sys.argv[1]), sys.argv[2] == "first"
WATCHED = (vectors.__file__, files.__file__)

def killed_at(line, numbers):
    left = line
    def trace(frame, event, argument):
        nonlocal left
        if frame.f_code.co_filename not in WATCHED:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    child = os.fork()
    if child == 0:
        store = EmbeddingStore(folder)
        sys.settrace(trace)
        add(store, *numbers)
        os._exit(0)
    return os.waitpid(child, 0)[1] == signal.SIGKILL

line, kept = 1, []
while True:
    if first:
        for path in folder.glob("*"):
            path.unlink()
        kept = []
    new = [f"{line} {number}" for number in range(3)]
    killed = killed_at(line, new)
    there = found(EmbeddingStore(folder), *new)
    assert there in ([False] * 3, [True] * 3), (line, there)
    add(EmbeddingStore(folder), *new, line)
    kept += [*new, line]
    assert all(found(EmbeddingStore(folder), *kept)), line
    if not killed:
        break
    line += 1
print(line - 1)
"""


@pytest.mark.integration  # real processes, really killed
@pytest.mark.parametrize("when", ["first", "later"])
def test_a_writer_may_be_killed_at_every_line(store: EmbeddingStore, when: str) -> None:
    """All rows of a call are there or none, those from before always, and the next writer goes on."""
    store.folder.mkdir(parents=True)
    assert int(finished(run(KILL_AT_EVERY_LINE, store.folder, when))) > 30
    if when == "later":
        assert set_aside(store) <= 4  # only before the first two heads stood side by side


def test_rows_smaller_than_the_head(tmp_path: Path) -> None:
    """A row of two numbers is shorter than what says that the files belong together."""
    store = VectorStore(tmp_path / "small", 2, "<f4")
    keys, rows = names(*range(5)), np.arange(10, dtype=np.float32).reshape(5, 2)
    store.add(keys[:3], rows[:3])
    store.add(keys[2:], rows[2:])
    again = VectorStore(tmp_path / "small", 2, "<f4")
    places = again.rows(keys[::-1])
    np.testing.assert_array_equal(again.vectors[places], rows[::-1], strict=True)
    with (store.folder / "vectors").open("r+b") as file:  # the last number of the fourth row
        file.seek(-9, os.SEEK_END)
        file.write(b"\x7f")
    fresh = VectorStore(tmp_path / "small", 2, "<f4")
    assert fresh.rows(keys).tolist() == [ABSENT] * 5
    assert set_aside(fresh) == 2


def test_a_row_is_made_of_whole_words(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="12 bytes"):
        VectorStore(tmp_path, 3, "<f4")
