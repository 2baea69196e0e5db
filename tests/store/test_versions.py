from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, TimeoutError
from contextlib import suppress
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path

import pytest

from ml_backend.errors import ActiveVersionChanged, VersionSuperseded, VersionUnknown
from ml_backend.store.activations import Activations
from ml_backend.store.files import read_json, write_aside
from ml_backend.store.locks import alone
from ml_backend.store.versions import MANIFEST, Manifest, TrainedOn, VersionStore


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


def write_tail(content: bytes) -> Callable[[Path], object]:
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


def test_a_place_in_the_line_is_taken_once(tmp_path: Path) -> None:
    store = VersionStore(tmp_path)
    first = store.create(manifest(), write_tail(b"w"), number=1)
    with pytest.raises(VersionSuperseded, match="version 1 was stored by another job"):
        store.create(manifest(seed=1), write_tail(b"w"), number=1)
    assert store.names() == [first.version]
    assert len(list((tmp_path / "versions").iterdir())) == 1


def test_of_many_at_once_one_gets_the_place(tmp_path: Path) -> None:
    def create(seed: int) -> str | None:
        with suppress(VersionSuperseded):
            return VersionStore(tmp_path).create(manifest(seed=seed), write_tail(b"w"), number=1).version
        return None

    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(create, range(16)))
    assert [one for one in created if one] == VersionStore(tmp_path).names()
    assert len(VersionStore(tmp_path).names()) == 1


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
    store.activate(created.version, by="a test")
    assert store.active() == created.version
    for unknown in ("msml-0009-00000000", "../../etc/passwd", ""):
        with pytest.raises(VersionUnknown):
            store.activate(unknown, by="a test")
    assert store.active() == created.version


def test_the_active_manifest_is_none_where_there_is_nothing_to_read(tmp_path: Path) -> None:
    store = VersionStore(tmp_path)
    assert store.active_manifest() is None
    first = store.create(manifest(), write_tail(b"w"))
    assert store.active_manifest() is None  # there, but not active
    store.activate(first.version, by="a test")
    store.create(manifest(seed=1), write_tail(b"w"))
    assert store.active_manifest() == first
    path = tmp_path / "versions" / first.version / MANIFEST
    path.write_text("{}")
    assert store.active_manifest() is None
    shutil.rmtree(path.parent)
    assert store.active_manifest() is None


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


def test_a_manifest_of_a_newer_release_is_read(tmp_path: Path) -> None:
    store = VersionStore(tmp_path)
    created = store.create(manifest(), write_tail(b"w"))
    path = tmp_path / "versions" / created.version / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"a field of tomorrow": 1}))
    store = VersionStore(tmp_path)
    assert store.get(created.version) == created


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


def test_the_newest_and_active_versions_of_many_projects_stay_in_memory(tmp_path: Path) -> None:
    stores = [VersionStore(tmp_path / str(project)) for project in range(32)]
    for store in stores:
        first, _ = (store.create(manifest(seed=seed), write_tail(b"weights")) for seed in range(2))
        store.activate(first.version, by="a test")

    def read() -> list[Manifest | None]:
        return [one for store in stores for one in (store.newest(), store.active_manifest())]

    before = read()
    assert all(again is one for one, again in zip(before, read(), strict=True))


def activate_often(folder: Path, by: str) -> None:
    """Make a project's versions active in turn, each five times; runs in a process of its own."""
    store = VersionStore(folder)
    for version in store.names() * 5:
        store.activate(version, by=by)


class TestActivations:
    @pytest.fixture
    def store(self, tmp_path: Path) -> VersionStore:
        """Five versions, each the child of the one before, all active once."""
        store = VersionStore(tmp_path)
        for seed in range(5):
            newest = store.newest()
            created = store.create(
                manifest(seed=seed, parent=newest.version if newest else None), write_tail(b"weights")
            )
            store.activate(created.version, by=f"job {seed}")
        return store

    def test_it_is_remembered_who_made_a_version_active_and_when(self, store: VersionStore) -> None:
        assert [(one.version, one.by) for one in store.activations()] == [
            (name, f"job {number}") for number, name in enumerate(store.names())
        ]
        assert all(datetime.fromisoformat(one.at).tzinfo for one in store.activations())

    def test_a_rollback_undoes_the_last_activation_whatever_it_was(self, store: VersionStore) -> None:
        names = store.names()
        store.activate(names[1], by="a person")
        assert store.before() == names[4]
        store.activate(names[4], by="a person", undo=True)
        assert store.before() == names[3]

    def test_rolling_back_again_goes_further_back(self, store: VersionStore) -> None:
        names = store.names()
        for expected in (names[3], names[2], names[1], names[0]):
            before = store.before()
            assert before == expected
            store.activate(before, by="a person", undo=True)
        assert store.before() is None

    def test_after_a_rollback_the_next_activation_is_what_is_undone(self, store: VersionStore) -> None:
        names = store.names()
        store.activate(names[3], by="a person", undo=True)
        store.activate(names[0], by="a person")
        assert store.before() == names[3]
        store.activate(names[3], by="a person", undo=True)
        assert store.before() == names[2]  # not names[4], which was undone

    def test_activating_the_same_version_again_is_no_step(self, store: VersionStore) -> None:
        names = store.names()
        store.activate(names[4], by="a person")
        assert store.before() == names[3]

    def test_the_expected_version_must_be_active(self, store: VersionStore) -> None:
        names = store.names()
        with pytest.raises(ActiveVersionChanged, match=names[4]):
            store.activate(names[0], by="a job", expected=names[3])
        with pytest.raises(ActiveVersionChanged):
            store.activate(names[0], by="a job", expected=None)
        assert (store.active(), len(store.activations())) == (names[4], 5)
        store.activate(names[0], by="a job", expected=names[4])
        assert store.active() == names[0]

    def test_of_many_that_expect_the_same_version_one_is_activated(self, store: VersionStore) -> None:
        names = store.names()

        def activate(name: str) -> int:
            with suppress(ActiveVersionChanged):
                store.activate(name, by="a job", expected=names[4])
                return 1
            return 0

        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(activate, names[:4])) == 1
        assert len(store.activations()) == 6

    def test_a_new_version_is_activated_in_the_same_step(self, store: VersionStore) -> None:
        active = store.active()
        created = store.create(manifest(seed=9), write_tail(b"w"), by="a job", expected=active)
        assert (store.active(), created.held_back, store.before()) == (created.version, "", active)

    def test_a_new_version_that_comes_after_a_persons_choice_is_held_back(self, store: VersionStore) -> None:
        names = store.names()
        store.activate(names[0], by="a person")
        created = store.create(manifest(seed=9), write_tail(b"w"), by="a job", expected=names[4])
        assert (store.active(), store.newest()) == (names[0], created)
        assert created.held_back == f"{names[0]} was made active while it was trained"
        assert store.complete() is None

    @pytest.mark.parametrize("undo", [False, True])
    def test_an_activation_that_a_crash_cut_off_is_completed_once(
        self, store: VersionStore, monkeypatch: pytest.MonkeyPatch, undo: bool
    ) -> None:
        names = store.names()
        with monkeypatch.context() as crash:
            crash.setattr(Activations, "point", lambda *_: None)
            store.activate(names[3], by="a person", undo=undo)
        assert store.active() == names[4]
        assert store.before() == names[3]
        assert store.complete() == names[3] == store.active()
        assert store.complete() is None
        assert store.before() == (names[2] if undo else names[4])

    def test_a_version_that_is_gone_is_not_gone_back_to(self, store: VersionStore) -> None:
        names = store.names()
        shutil.rmtree(store.tail(names[3]).parent)
        assert store.before() == names[2]

    def test_before_the_first_there_is_nothing(self, tmp_path: Path) -> None:
        assert (VersionStore(tmp_path).before(), VersionStore(tmp_path).activations()) == (None, [])

    def test_of_many_at_the_same_time_no_entry_is_lost(self, store: VersionStore) -> None:
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            for job in [pool.submit(activate_often, store.folder, f"process {number}") for number in range(2)]:
                job.result()
        assert Counter(one.by for one in store.activations()[5:]) == {"process 0": 25, "process 1": 25}
        assert store.active() == store.activations()[-1].version

    def test_removing_waits_for_whoever_makes_a_version_active(self, store: VersionStore) -> None:
        names = store.names()
        with ThreadPoolExecutor(1) as pool:
            with alone(store.folder / ".versions.lock"):
                removed = pool.submit(store.prune, 1)
                with pytest.raises(TimeoutError):
                    removed.result(timeout=0.3)
                (store.folder / "active").write_text(names[0])
            assert removed.result(timeout=10) == names[1:3]  # by the history, names[3] served before

    def test_a_damaged_history_blocks_nothing(self, store: VersionStore, tmp_path: Path) -> None:
        (tmp_path / "activations.json").write_text("[{")
        assert store.activations() == []
        store.activate(store.names()[0], by="a person")
        assert [one.by for one in store.activations()] == ["a person"]

    def test_a_crash_between_history_and_pointer_leaves_the_old_version(
        self, store: VersionStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        replaced: list[str] = []
        replace = Path.replace

        def crash(self: Path, target: Path) -> Path:
            replaced.append(target.name)
            if target.name == "active":
                raise KeyboardInterrupt
            return replace(self, target)

        monkeypatch.setattr(Path, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            store.activate(store.names()[0], by="a person")
        assert replaced == ["activations.json", "active"]
        assert store.active() == store.names()[4]

    @pytest.mark.parametrize(
        ("keep", "active", "left"),
        [
            (1, 4, [3, 4]),  # the newest is active, and its parent stays
            (3, 4, [2, 3, 4]),
            (1, 2, [1, 2, 4]),  # the active one, its parent and the newest
            (1, 0, [0, 4]),
            (99, 4, [0, 1, 2, 3, 4]),
        ],
    )
    def test_old_versions_go_and_needed_ones_stay(
        self, store: VersionStore, keep: int, active: int, left: list[int], tmp_path: Path
    ) -> None:
        names = store.names()
        store.activate(names[active], by="a person")
        assert store.prune(keep) == [name for number, name in enumerate(names) if number not in left]
        assert store.names() == [names[number] for number in left]
        assert store.prune(keep) == []
        assert sorted(path.name for path in (tmp_path / "versions").iterdir()) == store.names()


WHOLE = (2).to_bytes(8, "little") + b"{}"


class TestDamage:
    @pytest.fixture
    def store(self, tmp_path: Path) -> VersionStore:
        """Three whole versions that were active one after the other."""
        store = VersionStore(tmp_path)
        for seed in range(3):
            store.create(manifest(seed=seed), write_tail(WHOLE), by="a job")
        return store

    def damage(self, store: VersionStore, version: str, how: str) -> None:
        tail = store.tail(version)
        path = tail.with_name(MANIFEST) if "manifest" in how else tail
        if how.startswith("truncated"):
            path.write_bytes(path.read_bytes()[:-1])
        elif how.startswith("no"):
            path.unlink()
        else:
            shutil.rmtree(tail.parent)

    def test_whole_versions_stay(self, store: VersionStore) -> None:
        assert (store.set_aside_damaged(), store.damaged(), len(store.names())) == ({}, [], 3)

    def test_a_project_without_a_folder_gets_none(self, tmp_path: Path) -> None:
        assert VersionStore(tmp_path / "nobody").set_aside_damaged() == {}
        assert not (tmp_path / "nobody").exists()

    @pytest.mark.parametrize("how", ["truncated manifest", "truncated tail", "no manifest", "no tail"])
    def test_a_damaged_newest_version_is_set_aside_and_the_one_before_goes_on(
        self, store: VersionStore, how: str
    ) -> None:
        first, second, third = store.names()
        self.damage(store, third, how)
        assert list(store.set_aside_damaged()) == [third]
        assert (store.names(), store.active(), store.damaged()) == ([first, second], second, [third])
        assert store.before() == first
        assert store.newest() == store.active_manifest()
        assert (store.folder / "versions" / f"damaged-{third}").is_dir()
        assert store.set_aside_damaged() == {}
        following = store.create(manifest(seed=9), write_tail(WHOLE), number=3, by="a job", expected=second)
        assert store.active() == following.version

    def test_a_version_whose_folder_is_gone_falls_back_too(self, store: VersionStore) -> None:
        first, second, third = store.names()
        self.damage(store, third, "all")
        assert store.set_aside_damaged() == {third: "its folder is missing"}
        assert (store.names(), store.active(), store.damaged()) == ([first, second], second, [])

    def test_it_falls_back_to_what_served_last_and_not_to_what_was_held_back(self, store: VersionStore) -> None:
        first, second, third = store.names()
        held = store.create(manifest(seed=9, held_back="worse"), write_tail(WHOLE), by="a job")
        store.activate(first, by="a person")
        store.activate(third, by="a person")
        self.damage(store, third, "no tail")
        store.set_aside_damaged()
        assert (store.names(), store.active()) == ([first, second, held.version], first)

    def test_without_history_the_newest_whole_version_serves(self, store: VersionStore) -> None:
        first, second, third = store.names()
        (store.folder / "activations.json").unlink()
        for version in (second, third):
            self.damage(store, version, "no manifest")
        assert list(store.set_aside_damaged()) == [third, second]
        assert store.active() == first

    def test_without_any_whole_version_the_project_starts_anew(self, store: VersionStore) -> None:
        for version in store.names():
            self.damage(store, version, "truncated tail")
        assert len(store.set_aside_damaged()) == 3
        assert (store.names(), store.active(), store.newest()) == ([], None, None)
        assert store.create(manifest(), write_tail(WHOLE)).number == 1

    def test_the_same_version_may_be_damaged_twice(self, store: VersionStore) -> None:
        third = store.names()[2]
        self.damage(store, third, "no tail")
        store.set_aside_damaged()
        shutil.copytree(store.folder / "versions" / f"damaged-{third}", store.tail(third).parent)
        store.set_aside_damaged()
        assert store.damaged() == [third, f"{third}-again"]

    def test_an_unreadable_folder_does_not_count_as_damage(
        self, store: VersionStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(self: Path, *_: object, **__: object) -> object:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as broken:
            broken.setattr(Path, "stat", fail)
            with pytest.raises(OSError, match="Input/output"):
                store.set_aside_damaged()
        assert len(store.names()) == 3
