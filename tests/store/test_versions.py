from __future__ import annotations

import json
from pathlib import Path

import pytest

from ml_backend.errors import VersionUnknown
from ml_backend.store.versions import MANIFEST, Manifest, TrainedOn, VersionStore, read_json, write_aside


def manifest(**changes: object) -> Manifest:
    fields: dict[str, object] = {
        "parent": None,
        "project": 3,
        "created_at": "2026-01-01T00:00:00+00:00",
        "job": "finetune-3-after-nothing",
        "backbone": "efficientnet_lite0",
        "weights": "ImageNet",
        "trunk_key": "ab" * 16,
        "label_names": ("A-line", "B-line"),
        "trained_on": (TrainedOn(annotation=1, task=10, updated_at="t1"),),
        "held_out": (TrainedOn(annotation=2, task=20, updated_at="t2"),),
        "table": {},
        "metrics": {},
        "batch": {},
        "losses": (0.7, 0.5),
        "seconds": {"total": 1.0},
        "settings": {},
        "seed": 0,
    }
    return Manifest.model_validate(fields | changes)


def write_tail(content: bytes):
    return lambda path: path.write_bytes(content)


def test_versions_are_numbered_and_kept_in_order(tmp_path: Path) -> None:
    store = VersionStore(tmp_path)
    assert store.newest() is None
    created = [store.create(manifest(seed=seed), write_tail(b"weights")) for seed in range(12)]
    assert [one.number for one in created] == list(range(1, 13))
    assert store.names() == [one.version for one in created]
    assert store.newest() == created[-1]
    assert store.get(created[3].version) == created[3]
    assert store.tail(created[3].version).read_bytes() == b"weights"


def test_the_name_tells_different_content_apart(tmp_path: Path) -> None:
    first = VersionStore(tmp_path / "a").create(manifest(), write_tail(b"one"))
    other_tail = VersionStore(tmp_path / "b").create(manifest(), write_tail(b"two"))
    other_manifest = VersionStore(tmp_path / "c").create(manifest(seed=1), write_tail(b"one"))
    same = VersionStore(tmp_path / "d").create(manifest(), write_tail(b"one"))
    assert len({first.version, other_tail.version, other_manifest.version}) == 3
    assert first.version == same.version


def test_a_version_that_fails_to_be_written_leaves_nothing(tmp_path: Path) -> None:
    store = VersionStore(tmp_path)

    def full(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        store.create(manifest(), full)
    assert store.names() == []
    assert list((tmp_path / "versions").iterdir()) == []


def test_only_a_whole_version_becomes_active(tmp_path: Path) -> None:
    store = VersionStore(tmp_path)
    created = store.create(manifest(), write_tail(b"w"))
    assert store.active() is None
    store.activate(created.version)
    assert store.active() == created.version
    for unknown in ("msml-0009-00000000", "../../etc/passwd", ""):
        with pytest.raises(VersionUnknown):
            store.activate(unknown)
    assert store.active() == created.version


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    store = VersionStore(tmp_path)
    created = store.create(manifest(), write_tail(b"w"))
    (tmp_path / "versions" / created.version / MANIFEST).write_text("{}")
    with pytest.raises(VersionUnknown, match=created.version):
        store.get(created.version)


def test_a_manifest_from_before_there_were_trials_is_read(tmp_path: Path) -> None:
    store = VersionStore(tmp_path)
    created = store.create(manifest(), write_tail(b"w"))
    path = tmp_path / "versions" / created.version / MANIFEST
    content = json.loads(path.read_text())
    older = {name: value for name, value in content.items() if name not in ("strengths", "trial", "choice", "clips")}
    assert len(older) == len(content) - 4
    path.write_text(json.dumps(older))
    read = store.get(created.version)
    assert read == created
    assert (read.strengths, read.trial, read.choice, read.clips) == ({}, None, {}, {})


def test_trial_choice_and_clips_come_back_as_they_were(tmp_path: Path) -> None:
    store = VersionStore(tmp_path)
    created = store.create(
        manifest(
            strengths={"combinations": [[0, 1]], "averages": [[0.1, 1 / 3]]},
            trial={"annotations": 4, "found": {"mlm": 1 / 3}, "manual": {"table": 0.7}},
            choice={"strategy": "mle", "validator": "plain", "reasons": ["a", "b"]},
            clips={"clip a": 2, "task 7": 1},
        ),
        write_tail(b"w"),
    )
    assert VersionStore(tmp_path).get(created.version) == created


def test_seen_is_trained_on_held_out_and_left_out() -> None:
    left = TrainedOn(annotation=3, task=30, updated_at="t3")
    assert {one.task for one in manifest(left_out=(left,)).seen} == {10, 20, 30}


def test_write_aside_replaces_and_cleans_up(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.json"
    write_aside(path, json.dumps({"a": 1}))
    write_aside(path, json.dumps({"a": 2}))
    assert read_json(path) == {"a": 2}
    assert [entry.name for entry in path.parent.iterdir()] == ["file.json"]
    assert read_json(tmp_path / "none.json") is None


def test_a_manifest_that_was_read_before_is_read_again_when_the_file_is_another(tmp_path: Path) -> None:
    store = VersionStore(tmp_path)
    created = store.create(manifest(), write_tail(b"weights"))
    path = tmp_path / "versions" / created.version / MANIFEST
    assert store.get(created.version) == created
    path.write_text("{}")
    with pytest.raises(VersionUnknown, match="cannot be read"):
        store.get(created.version)
    path.unlink()
    with pytest.raises(VersionUnknown, match="is not in"):
        store.get(created.version)
