from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from ml_backend.store.evidence_addresses import name_of
from ml_backend.store.grounds import Confirmed, Grounds, GroundsStore
from ml_backend.store.orders import About, Order, OrderStore
from ml_backend.store.shown import Frames, Shown
from ml_backend.tsal.belief import SOURCES
from ml_backend.tsal.likeness import Places, Scale, Trust

FRAMES = [
    Shown(1, "a", "clip", 0.0),
    Shown(2, "b", "clip", 1.0),
    Shown(3, "c", "clip", None),
    Shown(4, "d", "other", 0.5),
    Shown(5, "e", "clip", 2.5),
    Shown(6, "f", "clip", 1.5),
]


def grounds(memory: bool = True) -> Grounds:
    places = Places(np.arange(4, dtype=np.float16).reshape(2, 2), np.array([5, 6]), np.array([2.5, math.nan]))
    known = np.array([[True, True], [True, False]])
    confirmed = Confirmed(
        np.array([4, 3]), np.array([[0, 1], [1, 0]], np.uint8), known, ["Ada", ""], ["x", "y"], places
    )
    return Grounds(
        order="diversity.1",
        version=None,
        symptoms=("Healthy", "B-line"),
        frames=Frames.of(FRAMES),
        labels=np.array([[1, 0]] * 4, np.uint8),
        confidence=np.array([0.5, np.nan, 1, 0], np.float32),
        source=np.array([0, -1, 1, 2], np.int8),
        blind=frozenset({2}),
        confirmed=confirmed if memory else None,
        scale=Scale(np.zeros(2, np.float32), np.ones(2, np.float32)) if memory else None,
        trust=Trust(0.5, 0.25, 0.1) if memory else None,
    )


@pytest.mark.parametrize("memory", [True, False])
def test_what_is_kept_comes_back(tmp_path: Path, memory: bool) -> None:
    store, made = GroundsStore(tmp_path), grounds(memory)
    store.save(made)
    found = store.get("diversity.1")
    assert found is not None
    assert (found.order, found.version, found.symptoms) == (made.order, made.version, made.symptoms)
    assert (list(found.frames), found.blind, found.trust) == (FRAMES, made.blind, made.trust)
    np.testing.assert_array_equal(found.labels, made.labels)
    np.testing.assert_array_equal(found.confidence, made.confidence)
    np.testing.assert_array_equal(found.source, made.source)
    if not memory:
        assert (found.confirmed, found.scale) == (None, None)
        return
    assert found.confirmed is not None
    assert made.confirmed is not None
    assert (found.confirmed.people, found.confirmed.at) == (["Ada", ""], ["x", "y"])
    np.testing.assert_array_equal(found.confirmed.known, made.confirmed.known)
    np.testing.assert_array_equal(found.confirmed.places.embeddings, made.confirmed.places.embeddings)


def test_a_frame_is_found_by_the_name_in_its_address() -> None:
    made = grounds()
    assert [made.find(name_of(one.url)) for one in FRAMES] == list(range(6))
    assert made.find(name_of("elsewhere")) is None


def test_the_frames_around_one_are_of_its_clip_and_the_nearest_in_time() -> None:
    made = grounds()
    assert made.around(1) == (FRAMES[0], FRAMES[5])
    assert made.around(0) == (None, FRAMES[1])
    assert made.around(4) == (FRAMES[5], None)
    assert made.around(2) == made.around(3) == (None, None)


def test_clips_have_the_numbers_of_the_memory() -> None:
    assert [grounds().clip_number(row) for row in range(4)] == [5, 5, 5, 6]
    assert grounds(memory=False).clip_number(0) == -1


def test_a_copy_has_another_name_and_other_blind_frames(tmp_path: Path) -> None:
    store = GroundsStore(tmp_path)
    store.save(grounds())
    made = store.copy("diversity.1", "diversity.2", frozenset({4}))
    found = store.get("diversity.2")
    assert found is not None
    assert made is not None
    assert made.blind == found.blind
    assert (found.order, found.blind) == ("diversity.2", frozenset({4}))
    assert store.copy("gone", "diversity.3", frozenset()) is None
    assert store.get("diversity.3") is None


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04"])
def test_damage_counts_as_absence(tmp_path: Path, content: bytes) -> None:
    store = GroundsStore(tmp_path)
    store.save(grounds())
    store.path("diversity.1").write_bytes(content)
    assert store.get("diversity.1") is None


def test_a_changed_byte_counts_as_absence(tmp_path: Path) -> None:
    store = GroundsStore(tmp_path)
    store.save(grounds())
    content = bytearray(store.path("diversity.1").read_bytes())
    content[content.index(b"labels.npy") + 150] ^= 1
    store.path("diversity.1").write_bytes(content)
    assert store.get("diversity.1") is None


def test_what_was_read_stays_when_the_file_is_removed_or_replaced(tmp_path: Path) -> None:
    store = GroundsStore(tmp_path)
    store.save(grounds())
    found = store.get("diversity.1")
    assert found is not None
    store.save(grounds(memory=False))
    store.path("diversity.1").unlink()
    assert found.confirmed is not None
    assert [list(found.frames), found.labels.tolist()] == [FRAMES, [[1, 0]] * 4]


def test_the_source_of_a_row_is_that_of_its_label() -> None:
    made = grounds()
    assert [made.source_of(row) for row in range(6)] == [SOURCES[0], None, SOURCES[1], SOURCES[2], None, None]
    assert made.sources == {1: SOURCES[0], 3: SOURCES[1], 4: SOURCES[2]}


def test_they_go_with_their_order(tmp_path: Path) -> None:
    orders, store = OrderStore(tmp_path), GroundsStore(tmp_path)
    about = About(name="diversity.1", version=None, strategy="cover", created_at="", seed=0, unreadable={}, seconds={})
    orders.save(Order(about, np.array([1]), np.zeros(1)))
    store.save(grounds())
    orders.prune(["diversity.1"])
    assert store.path("diversity.1").exists()
    orders.prune([])
    assert not store.path("diversity.1").exists()
