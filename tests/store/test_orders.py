from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from ml_backend.store.orders import WORDS, About, Order, OrderStore
from tests.events import events


def order(name: str, version: str | None = None) -> Order:
    about = About(
        name=name, version=version, strategy="mlm", created_at="t", seed=0, unreadable={7: "broken"}, seconds={}
    )
    return Order(about, np.array([5, 3, 9], np.int64), np.array([0.1, 0.2, 0.4]))


def test_names_avoid_those_here_and_those_in_label_studio(tmp_path: Path) -> None:
    store = OrderStore(tmp_path)
    version = "msml-0002-0123abcd"
    assert store.next_name(None, []) == "place in queue, diversity.1"
    store.save(order("diversity.4"))
    assert store.next_name(None, []) == "place in queue, diversity.5"
    assert store.next_name(None, ["place in queue, diversity.10", "diversity.x", "other.99"]) == f"{WORDS}diversity.11"
    assert store.next_name(version, [f"{version}.2", "msml-0001-0123abcd.7"]) == f"{WORDS}{version}.3"


def test_an_order_is_current_only_when_activated(tmp_path: Path) -> None:
    store = OrderStore(tmp_path)
    store.save(order("diversity.1"))
    assert store.current() is None
    store.activate("diversity.1")
    current = store.current()
    assert current is not None
    assert current.about == order("diversity.1").about
    assert current.tasks.tolist() == [5, 3, 9]
    assert current.informativeness.tolist() == [0.1, 0.2, 0.4]


def test_place_lies_between_its_neighbours() -> None:
    one = order("diversity.1")
    assert [one.place(value) for value in (0.0, 0.15, 0.3, 0.5)] == [0.0, 1 / 3, 2 / 3, 1.0]


def test_prune_keeps_what_is_named_and_what_is_current(tmp_path: Path) -> None:
    store = OrderStore(tmp_path)
    for serial in range(1, 5):
        store.save(order(f"diversity.{serial}"))
    store.activate("diversity.1")
    store.prune(["diversity.3"])
    assert [serial for serial in range(1, 5) if store.get(f"diversity.{serial}")] == [1, 3]


def test_an_order_removed_while_it_is_read_is_absent(tmp_path: Path) -> None:
    store = OrderStore(tmp_path)
    store.save(order("diversity.1"))
    (tmp_path / "orders" / "diversity.1.npz").unlink()  # what the reader finds after the first of two files
    assert store.get("diversity.1") is None


def test_an_order_from_before_there_were_validators_is_read(tmp_path: Path) -> None:
    store = OrderStore(tmp_path)
    store.save(order("diversity.1"))
    path = tmp_path / "orders" / "diversity.1.json"
    content = json.loads(path.read_text())
    assert content.pop("validator") is None
    path.write_text(json.dumps(content))
    read = store.get("diversity.1")
    assert read is not None
    assert read.about == order("diversity.1").about


@pytest.mark.parametrize(
    ("suffix", "content"),
    [("npz", b""), ("npz", b"PK\x03\x04half"), ("npz", b"\0" * 500), ("json", b"{"), ("json", b"{}")],
)
def test_a_damaged_order_counts_as_absent(tmp_path: Path, suffix: str, content: bytes) -> None:
    store = OrderStore(tmp_path)
    store.save(order("diversity.1"))
    store.activate("diversity.1")
    (tmp_path / "orders" / f"diversity.1.{suffix}").write_bytes(content)
    assert store.get("diversity.1") is None
    assert store.current() is None
    assert store.current_name() == "diversity.1"


def test_an_order_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: BinaryIO, **arrays: object) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        OrderStore(tmp_path).save(order("diversity.1"))
    assert list((tmp_path / "orders").iterdir()) == []


@pytest.mark.parametrize(
    ("mark", "offset", "value"),
    [(b"PK\x01\x02", 6, 191), (b"PK\x01\x02", 8, 1), (b"PK\x05\x06", 14, 1)],
    ids=["of a later format", "encrypted", "directory before its beginning"],
)
def test_a_single_wrong_byte_is_damage_too(tmp_path: Path, mark: bytes, offset: int, value: int) -> None:
    store = OrderStore(tmp_path)
    store.save(order("diversity.1"))
    path = tmp_path / "orders" / "diversity.1.npz"
    content = bytearray(path.read_bytes())
    content[content.index(mark) + offset] = value
    path.write_bytes(content)
    assert store.get("diversity.1") is None


def test_damage_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = OrderStore(tmp_path)
    store.save(order("diversity.1"))
    assert store.get("diversity.2") is None
    assert store.get("diversity.1") is not None
    assert caplog.messages == []
    (tmp_path / "orders" / "diversity.1.npz").write_bytes(b"")
    for _ in range(3):
        assert OrderStore(tmp_path).get("diversity.1") is None
    (told,) = events(caplog, "order damaged")
    assert told["order"] == tmp_path / "orders" / "diversity.1"


def test_an_order_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    flush = os.fsync

    def noted(descriptor: int) -> None:
        if not (tmp_path / "orders" / "diversity.1.npz").exists():
            flushed.append(os.fstat(descriptor).st_size)
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    OrderStore(tmp_path).save(order("diversity.1"))
    assert flushed == [(tmp_path / "orders" / "diversity.1.npz").stat().st_size]


def test_reasons_are_kept_frame_by_frame(tmp_path: Path) -> None:
    store = OrderStore(tmp_path)
    reasons = ("audit", "likeness", "audit")
    made = replace(order("diversity.1"), tasks=np.arange(3), informativeness=np.zeros(3), reasons=reasons)
    store.save(made)
    kept = store.get("diversity.1")
    assert kept is not None
    assert kept.reasons == reasons
    # As they were kept before: one word a frame.
    np.savez(tmp_path / "orders" / "diversity.1.npz", tasks=made.tasks, informativeness=np.zeros(3), reasons=reasons)
    kept = store.get("diversity.1")
    assert kept is not None
    assert kept.reasons == reasons


def test_the_file_of_an_order_does_not_grow_with_the_length_of_reasons(tmp_path: Path) -> None:
    sizes = []
    for word in ("a", "a" * 100):
        made = replace(order("diversity.1"), tasks=np.arange(1000), informativeness=np.zeros(1000))
        OrderStore(tmp_path).save(replace(made, reasons=(word,) * 1000))
        sizes.append((tmp_path / "orders" / "diversity.1.npz").stat().st_size)
    assert sizes[1] - sizes[0] < 1000


def test_what_an_order_is_can_be_read_without_its_frames(tmp_path: Path) -> None:
    store = OrderStore(tmp_path)
    made = order("diversity.1")
    store.save(made)
    (tmp_path / "orders" / "diversity.1.npz").unlink()
    assert store.about("diversity.1") == made.about
    assert store.about("diversity.2") is None
    assert store.get("diversity.1") is None
