"""One fine-tune after another: what is trained on, what is never, and what a version remembers."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml_backend.errors import NotEnoughLabels, StudioUnavailable, VersionSuperseded
from ml_backend.loop import confirm, trials
from ml_backend.loop import train as training
from ml_backend.msml.network import Network
from ml_backend.store import versions
from ml_backend.store.activations import Activations
from ml_backend.store.locks import alone
from ml_backend.store.versions import Manifest
from ml_backend.tsal import adaptive
from ml_backend.tsal.acquisition import STRATEGIES
from ml_backend.tsal.audit import AuditSample
from ml_backend.tsal.correlation import CorrelationTable, build
from ml_backend.tsal.judgement import figure
from ml_backend.tsal.split import held_out
from ml_backend.tsal.strengths import StrengthTable
from ml_backend.tsal.ticks import VALIDATORS, Tables
from tests.events import events
from tests.installation import CONFIGURATION, PROJECT, XML, task_with_frame
from tests.loop.installed import HELD, PATIENTS, SHARE, TASKS, Installation, labels_of, tasks_of
from tests.studio_stand_in import one_thread

__all__ = ["one_thread"]


def test_the_patients_of_these_tests_are_held_out_as_they_expect() -> None:
    assert {task for task, held in zip(TASKS, held_out(list(PATIENTS.values()), SHARE, 0), strict=True) if held} == HELD


class TestVersion:
    def test_a_version_is_stored_whole_and_serves(self, confirmed: Installation) -> None:
        stages: list[str] = []
        manifest = training.fine_tune(
            confirmed.services(), PROJECT, lambda stage, done, total: stages.append(stage), job="job-1", trigger="poll"
        )
        store = confirmed.services().versions(PROJECT)
        assert store.get(manifest.version) == manifest
        assert store.active() == manifest.version
        assert (manifest.number, manifest.parent, manifest.job, manifest.trigger) == (1, None, "job-1", "poll")
        assert (manifest.label_names, manifest.backbone) == (CONFIGURATION.label_names, "efficientnet_lite0")
        assert manifest.trunk_key == confirmed.network(None).trunk_key
        assert set(manifest.seconds) == {"read", "finetune", "total"}
        assert len(manifest.losses) == 4
        assert list(dict.fromkeys(stages)) == ["reading annotations", "reading frames", "training"]

    def test_held_out_patients_are_never_trained_on(self, confirmed: Installation) -> None:
        manifest = confirmed.trained()
        assert tasks_of(manifest.held_out) == HELD
        assert tasks_of(manifest.trained_on) == set(TASKS) - HELD
        # Whatever they show and however they are labelled, the weights are the same.
        for place, one in enumerate(confirmed.studio.annotations):
            if one.task in HELD:
                data = task_with_frame(confirmed.folder, one.task + 100, patient=PATIENTS[one.task])["data"]
                confirmed.studio.annotations[place] = replace(one, data=data)
                confirmed.studio.change(one.id, [0, 0, 1], at="then")
        again = replace(confirmed, data=confirmed.data / "again")
        assert again.digest(again.trained()) == confirmed.digest(manifest)

    def test_the_same_annotations_give_the_same_weights(self, confirmed: Installation) -> None:
        first = confirmed.trained()
        again = replace(confirmed, data=confirmed.data / "again")
        second = again.trained()
        assert again.digest(second) == confirmed.digest(first)
        assert (second.table, second.metrics, second.losses) == (first.table, first.metrics, first.losses)
        other = replace(confirmed, data=confirmed.data / "other")
        assert other.digest(other.trained(seed=4, hold_out=0)) != other.digest(other.trained(seed=5, hold_out=0))

    def test_table_and_figures_are_those_of_the_new_network(self, confirmed: Installation) -> None:
        manifest = confirmed.trained()
        train, held = sorted(set(TASKS) - HELD), sorted(HELD)
        truth = np.array([labels_of(task) for task in train], np.uint8)
        table = build(truth, confirmed.probabilities(manifest, train))
        stored = CorrelationTable.from_json(manifest.table)
        np.testing.assert_array_equal(stored.combinations, table.combinations)
        np.testing.assert_allclose(stored.vectors, table.vectors, atol=1e-5)
        probabilities = confirmed.probabilities(manifest, held)
        truth = np.array([labels_of(task) for task in held], np.uint8)
        right = ((probabilities > 0.5) == truth).all(axis=1)
        validated = (stored.validate(probabilities)[0] == truth).all(axis=1)
        assert (manifest.figure("exact_match"), manifest.figure("exact_match_validated")) == (
            figure(right, ["p2"] * 3, 0),
            figure(validated, ["p2"] * 3, 0),
        )
        assert manifest.figure("exact_match_parent") is None
        assert {name: manifest.metrics[name] for name in ("frames", "patients", "judged_on", "sample")} == {
            "frames": 3,
            "patients": 1,
            "judged_on": "held-out patients",
            "sample": "not uniform",
        }
        assert set(manifest.metrics["symptoms"]) == set(CONFIGURATION.label_names)

    @pytest.mark.parametrize("count", [0, 1])
    def test_too_little_leaves_everything_as_it_was(self, installed: Installation, count: int) -> None:
        for task in range(1, 6 * count + 1):
            installed.studio.confirm(task, [1, 0, 0])
        stages: list[str] = []
        with pytest.raises(NotEnoughLabels, match="two different label combinations"):
            training.fine_tune(installed.services(), PROJECT, lambda stage, done, total: stages.append(stage))
        assert stages == ["reading annotations"]
        store = installed.services().versions(PROJECT)
        assert (store.names(), store.active()) == ([], None)

    def test_too_few_readable_frames_leave_everything_as_it_was(self, confirmed: Installation) -> None:
        for place, one in enumerate(confirmed.studio.annotations):
            if labels_of(one.task) != [1, 0, 0]:
                confirmed.studio.annotations[place] = replace(one, data={"image": "/data/local-files/?d=nowhere.png"})
        with pytest.raises(NotEnoughLabels, match="two different label combinations"):
            confirmed.trained()
        assert confirmed.services().versions(PROJECT).names() == []

    def test_a_full_disk_ends_a_fine_tune_before_it_trains(
        self, confirmed: Installation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(self: Path, content: bytes) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        monkeypatch.setattr(training, "collect", None)  # is not reached
        with pytest.raises(OSError, match="No space"):
            confirmed.trained()

    def test_a_crash_while_writing_leaves_the_old_version_active(
        self, confirmed: Installation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = confirmed.trained()

        def full(self: Network, path: Path, metadata: dict[str, str]) -> None:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as broken:
            broken.setattr(Network, "save_tail", full)
            with pytest.raises(OSError, match="No space"):
                confirmed.trained()
        store = confirmed.services().versions(PROJECT)
        assert (store.names(), store.active()) == ([first.version], first.version)
        assert [path.name for path in (confirmed.data / "projects" / str(PROJECT) / "versions").iterdir()] == [
            first.version
        ]
        second = confirmed.trained()
        assert (second.number, second.parent, store.active()) == (2, first.version, second.version)


class TestChild:
    def test_training_starts_from_the_parent(self, confirmed: Installation) -> None:
        first = confirmed.trained()
        second = confirmed.trained()
        assert (second.number, second.parent) == (2, first.version)
        fresh = replace(confirmed, data=confirmed.data / "fresh")
        start = confirmed.network(None).trainable_state()
        parent, child, anew = confirmed.tail(first), confirmed.tail(second), fresh.tail(fresh.trained())
        for name in ("tail.classifier.weight", *(one for one in start if one.endswith("conv.weight"))):
            # The first step of the child is taken from where the parent ended, not from the pre-trained weights.
            assert not np.array_equal(child[name], anew[name])
            assert not np.array_equal(child[name], parent[name])
        np.testing.assert_array_equal(anew["tail.classifier.weight"], parent["tail.classifier.weight"])
        assert second.losses[0] < first.losses[0]

    def test_the_table_is_updated_by_rule_9(self, confirmed: Installation) -> None:
        first = confirmed.trained()
        # The parent's table with one vector that no new one can beat, one that any beats, one of a combination unseen.
        old = CorrelationTable(
            np.array([[0, 1, 0], [0, 1, 1], [1, 0, 0], [1, 1, 1]], np.uint8),
            np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.9, 0.05, 0.05], [0.2, 0.3, 0.5]]),
        )
        store = confirmed.services().versions(PROJECT)
        parent = store.create(
            first.model_copy(update={"table": old.to_json()}),
            lambda path: path.write_bytes(store.tail(first.version).read_bytes()),
        )
        store.activate(parent.version, by="a test")
        second = confirmed.trained()
        assert second.parent == parent.version
        train = sorted(set(TASKS) - HELD)
        truth = np.array([labels_of(task) for task in train], np.uint8)
        fresh = build(truth, confirmed.probabilities(second, train))
        table = CorrelationTable.from_json(second.table)
        rows = {tuple(row): vector for row, vector in zip(table.combinations.tolist(), table.vectors, strict=True)}
        new = {tuple(row): vector for row, vector in zip(fresh.combinations.tolist(), fresh.vectors, strict=True)}
        assert rows.keys() == {(0, 1, 0), (0, 1, 1), (1, 0, 0)}  # nobody holds 1, 1, 1 any more
        np.testing.assert_array_equal(rows[0, 1, 0], [0.0, 1.0, 0.0])
        np.testing.assert_allclose(rows[0, 1, 1], new[0, 1, 1], atol=1e-5)
        np.testing.assert_array_equal(rows[1, 0, 0], [0.9, 0.05, 0.05])

    def test_entirely_other_symptoms_start_a_new_line(self, confirmed: Installation) -> None:
        first = confirmed.trained()
        confirmed.studio.xml = XML.replace('"Healthy"', '"X"').replace('"A-line"', '"Y"').replace('"B-line"', '"Z"')
        confirmed.studio.annotations = []
        for task in TASKS:
            confirmed.studio.confirm(task, labels_of(task))
        second = confirmed.trained()
        assert (second.number, second.parent) == (2, None)
        assert [note for note in second.notes if first.version in note and "other symptoms" in note]

    def test_another_network_starts_a_new_line(self, confirmed: Installation) -> None:
        first = confirmed.trained()
        store = confirmed.services().versions(PROJECT)
        other = store.create(
            first.model_copy(update={"trunk_key": "0" * 32}), lambda path: path.write_bytes(b"of other weights")
        )
        store.activate(other.version, by="a test")
        second = confirmed.trained()
        assert (second.number, second.parent) == (3, None)
        assert [note for note in second.notes if other.version in note and "other weights" in note]

    def test_weights_that_have_seen_a_held_out_patient_are_not_used(self, confirmed: Installation) -> None:
        first = confirmed.trained(hold_out=0)
        assert tasks_of(first.trained_on) == set(TASKS)
        second = confirmed.trained()
        assert second.parent is None
        assert [note for note in second.notes if "held out now" in note]
        assert tasks_of(second.held_out) == HELD
        assert second.batch["annotations"] == 0  # nothing was annotated since
        third = confirmed.trained()
        assert third.parent == second.version
        assert tasks_of(third.trained_on) & HELD == set()

    def test_without_two_combinations_on_the_other_side_nobody_is_held_out(self, installed: Installation) -> None:
        for task in TASKS:
            installed.studio.confirm(task, labels_of(task) if task in HELD else [1, 0, 0])
        manifest = installed.trained()
        assert tasks_of(manifest.trained_on) == set(TASKS)
        assert manifest.held_out == ()
        assert [note for note in manifest.notes if note.startswith("nobody held out")]
        assert manifest.metrics["exact_match"] is None

    def test_a_frame_without_a_patient_is_one_of_its_own_and_that_is_noted(self, confirmed: Installation) -> None:
        assert not [note for note in confirmed.trained().notes if "without a patient" in note]
        for place, one in enumerate(confirmed.studio.annotations):
            without = {name: value for name, value in one.data.items() if name != "patient"}
            confirmed.studio.annotations[place] = replace(one, data=without | ({"patient": ""} if place % 2 else {}))
        manifest = replace(confirmed, data=confirmed.data / "other").trained()
        assert [note for note in manifest.notes if "without a patient" in note]
        expected = held_out([f"task {task}" for task in TASKS], SHARE, 0)
        assert tasks_of(manifest.held_out) == {task for task, held in zip(TASKS, expected, strict=True) if held}


class TestNewSymptom:
    """A fourth symptom, C-line, is put between the others when everything is annotated."""

    @pytest.fixture
    def grown(self, confirmed: Installation) -> tuple[Installation, Manifest]:
        for place, one in enumerate(confirmed.studio.annotations):
            confirmed.studio.annotations[place] = replace(one, updated_at="2026-01-01T00:00:00Z")
        first = confirmed.trained(hold_out=0)
        choice = '<Choice value="A-line"/>'
        confirmed.studio.xml = XML.replace(choice, f'<Choice value="C-line"/>{choice}')
        return confirmed, first

    def test_outputs_that_stay_keep_weights_and_table(self, grown: tuple[Installation, Manifest]) -> None:
        installed, first = grown
        second = installed.trained(hold_out=0, learning_rate=1e-9)
        assert second.parent == first.version
        assert second.label_names == ("Healthy", "C-line", "A-line", "B-line")
        assert [note for note in second.notes if "outputs that stay keep their weights" in note]
        old, new = installed.tail(first), installed.tail(second)
        for name in ("tail.classifier.weight", "tail.classifier.bias"):
            np.testing.assert_allclose(new[name][[0, 2, 3]], old[name], atol=1e-6)
        fresh = installed.predictor.fresh(4).trainable_state()["tail.classifier.weight"]
        np.testing.assert_allclose(new["tail.classifier.weight"][1], fresh[1], atol=1e-6)
        before, after = CorrelationTable.from_json(first.table), CorrelationTable.from_json(second.table)
        assert sorted(after.combinations[:, [0, 2, 3]].tolist()) == before.combinations.tolist()
        assert not after.combinations[:, 1].any()

    def test_it_is_unknown_in_older_annotations(self, grown: tuple[Installation, Manifest]) -> None:
        """Counted as absent in all twelve, a hard push would move its output; masked, it stays where it began."""
        installed, _ = grown
        second = installed.trained(hold_out=0, learning_rate=0.05, minimum_steps=20)
        bias = installed.tail(second)["tail.classifier.bias"]
        assert bias[1] == 0.0
        assert bias[[0, 2, 3]].all()
        assert second.positives["C-line"] == 0

    def test_a_person_who_confirms_it_anew_teaches_it(self, grown: tuple[Installation, Manifest]) -> None:
        installed, _ = grown
        installed.trained(hold_out=0)
        later = (datetime.now(timezone.utc) + timedelta(minutes=1)).isoformat()
        for task in (2, 5, 8, 11):
            installed.studio.change(task, [0, 1, 1, 1], at=later)
        third = installed.trained(hold_out=0, learning_rate=0.05, minimum_steps=20)
        assert installed.tail(third)["tail.classifier.bias"][1] > 0.0
        assert third.positives["C-line"] == 4
        combinations = CorrelationTable.from_json(third.table).combinations.tolist()
        assert [0, 1, 1, 1] in combinations
        assert [0, 0, 1, 1] not in combinations  # what is known in full has taken its place


class TestGuard:
    def test_after_a_rollback_training_starts_from_the_older_version(self, confirmed: Installation) -> None:
        first, _ = confirmed.trained(), confirmed.trained()
        store = confirmed.services().versions(PROJECT)
        store.activate(first.version, by="a person")
        confirm.recover(confirmed.services(), PROJECT)
        assert store.active() == first.version
        third = confirmed.trained()
        assert (third.number, third.parent) == (3, first.version)
        assert [one.by for one in store.activations()] == ["fine-tune", "fine-tune", "a person", "fine-tune"]

    def test_a_rollback_during_a_fine_tune_is_not_undone_by_it(
        self, confirmed: Installation, caplog: pytest.LogCaptureFixture
    ) -> None:
        first, second = confirmed.trained(), confirmed.trained()
        store = confirmed.services().versions(PROJECT)

        def roll_back(stage: str, done: int, total: int) -> None:
            if stage == "training":
                store.activate(first.version, by="a person")

        with caplog.at_level(logging.WARNING):
            third = training.fine_tune(confirmed.services(), PROJECT, roll_back)
        assert (third.parent, store.active()) == (second.version, first.version)
        assert third.held_back == f"{first.version} was made active while it was trained"
        (held,) = events(caplog, "version held back")
        assert held["version"] == third.version
        confirm.recover(confirmed.services(), PROJECT)
        assert store.active() == first.version
        assert confirmed.trained().parent == first.version

    @pytest.mark.parametrize("moment", ["tail", "lock"])
    def test_an_activation_at_the_last_moment_wins(
        self, confirmed: Installation, monkeypatch: pytest.MonkeyPatch, moment: str
    ) -> None:
        first, _ = confirmed.trained(), confirmed.trained()
        store = confirmed.services().versions(PROJECT)
        command = "import sys; from pathlib import Path; from ml_backend.store.versions import VersionStore; "
        command += "VersionStore(Path(sys.argv[1])).activate(sys.argv[2], by='a person')"

        def activate_elsewhere() -> None:
            subprocess.run([sys.executable, "-c", command, str(store.folder), first.version], check=True)

        # While the weights are written, and in the last moment before the lock is taken.
        if moment == "tail":
            save = Network.save_tail

            def saved(*given: Any) -> None:
                save(*given)
                activate_elsewhere()

            monkeypatch.setattr(Network, "save_tail", saved)
        else:

            def waiting(path: Path) -> AbstractContextManager[None]:
                if store.active() != first.version:
                    activate_elsewhere()
                return alone(path)

            monkeypatch.setattr(versions, "alone", waiting)
        third = confirmed.trained()
        assert store.active() == first.version
        assert third.held_back == f"{first.version} was made active while it was trained"
        assert store.get(third.version).held_back == third.held_back
        confirm.recover(confirmed.services(), PROJECT)
        assert store.active() == first.version

    def test_of_two_jobs_for_one_batch_one_stores_a_version(self, confirmed: Installation) -> None:
        first = confirmed.trained()
        others: list[Manifest] = []

        def compete(stage: str, done: int, total: int) -> None:
            if stage == "training" and not others:
                others.append(confirmed.trained())

        with pytest.raises(VersionSuperseded, match="version 2 was stored by another job"):
            training.fine_tune(confirmed.services(), PROJECT, compete)
        store = confirmed.services().versions(PROJECT)
        assert store.names() == [first.version, others[0].version]
        assert store.active() == others[0].version
        assert list(store.folder.rglob(".aside-*")) == []

    def test_frames_are_not_left_out_because_label_studio_is_away(self, confirmed: Installation) -> None:
        first = confirmed.trained()
        confirmed.studio.annotations[0] = replace(
            confirmed.studio.annotations[0], data={"image": "/data/upload/1/new.png", "patient": "p1"}
        )
        with pytest.raises(StudioUnavailable):  # nobody listens where these tests say that Label Studio is
            confirmed.trained()
        assert confirmed.services().versions(PROJECT).names() == [first.version]

    def test_if_the_active_version_is_damaged_training_starts_from_the_newest(self, confirmed: Installation) -> None:
        first, second = confirmed.trained(), confirmed.trained()
        store = confirmed.services().versions(PROJECT)
        store.activate(first.version, by="a person")
        (store.tail(first.version).parent / "manifest.json").write_text("{}")
        assert confirmed.trained().parent == second.version

    def test_an_activation_cut_off_by_a_crash_is_completed(
        self, confirmed: Installation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        first = confirmed.trained()
        store = confirmed.services().versions(PROJECT)

        def crash(self: Activations, version: str | None) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as broken:
            broken.setattr(Activations, "point", crash)
            with pytest.raises(KeyboardInterrupt):
                confirmed.trained()
        assert store.active() == first.version
        caplog.clear()
        with caplog.at_level(logging.INFO):
            confirm.recover(confirmed.services(), PROJECT)
            assert store.active() == store.names()[1]
            confirm.recover(confirmed.services(), PROJECT)
        assert [one["version"] for one in events(caplog, "version active")] == [store.active()]


CLEAR = {"annotations": 60, "uniform": True} | {
    "found": {"mlm": 0.1, "mle": 0.9},
    "manual": {"strengths": 0.5, "plain": 0.0},
}
"""A trial that leaves no doubt."""


class TestTrial:
    @pytest.fixture
    def half(self, installed: Installation) -> Installation:
        """The first two patients, with p2 held out (tasks 4 to 6), are learnt; an audit has drawn every task."""
        for task in range(1, 7):
            installed.studio.confirm(task, labels_of(task))
        installed.trained()
        installed.audit(*TASKS)
        return installed

    def newest(self, installed: Installation) -> Manifest:
        newest = installed.services().versions(PROJECT).newest()
        assert newest is not None
        return newest

    def replaced(self, installed: Installation, **changes: object) -> Manifest:
        """The newest version again with other content, active."""
        store, newest = installed.services().versions(PROJECT), self.newest(installed)
        tail = store.tail(newest.version).read_bytes()
        created = store.create(newest.model_copy(update=changes), lambda path: path.write_bytes(tail))
        store.activate(created.version, by="a test")
        return created

    def test_a_first_version_has_no_trial_and_chooses_the_defaults(self, confirmed: Installation) -> None:
        manifest = confirmed.trained()
        assert manifest.trial is None
        assert (manifest.choice["strategy"], manifest.choice["validator"]) == ("mlm", "strengths")
        assert manifest.choice["reasons"][0].startswith("0 of 30 audit frames")
        train = sorted(set(TASKS) - HELD)
        truth = np.array([labels_of(task) for task in train], np.uint8)
        strengths = StrengthTable.build(truth, confirmed.probabilities(manifest, train))
        stored = StrengthTable.from_json(manifest.strengths)
        np.testing.assert_array_equal(stored.combinations, strengths.combinations)
        np.testing.assert_allclose(stored.averages, strengths.averages, atol=1e-5)

    def test_it_is_taken_with_the_parents_network_and_tables_on_what_is_new(self, half: Installation) -> None:
        parent = self.newest(half)
        new = list(range(7, 13))
        for task in new:
            half.studio.confirm(task, labels_of(task))
        second = half.trained()
        assert second.parent == parent.version
        truth = np.array([labels_of(task) for task in new], np.uint8)
        tables = Tables.from_json(parent.table, parent.strengths)
        expected = adaptive.trial(AuditSample(half.probabilities(parent, new), truth), tables, np.random.default_rng(0))
        assert expected is not None
        assert expected.annotations == 6
        assert second.trial == asdict(expected)

    @pytest.mark.parametrize(
        ("old", "new", "places"),
        [
            ('<Choice value="A-line"/>', '<Choice value="C-line"/><Choice value="A-line"/>', [0, 2, 3]),
            ('<Choice value="A-line"/>', "", [0, 1]),
        ],
        ids=["added", "removed"],
    )
    def test_after_a_label_change_it_is_taken_on_the_symptoms_that_stay(
        self, half: Installation, old: str, new: str, places: list[int]
    ) -> None:
        parent = self.newest(half)
        half.studio.xml = XML.replace(old, new)
        columns = [
            parent.label_names.index(name) for name in ("Healthy", "A-line", "B-line") if name in half.studio.xml
        ]
        new_tasks = list(range(7, 13))
        for task in new_tasks:
            labels = np.zeros(half.studio.xml.count("<Choice "), int)
            labels[places] = np.array(labels_of(task))[columns]
            half.studio.confirm(task, labels.tolist())
        second = half.trained()
        assert second.parent == parent.version
        truth = np.array([labels_of(task) for task in new_tasks], np.uint8)[:, columns]
        tables = Tables.from_json(parent.table, parent.strengths).relabel(columns)
        sample = AuditSample(half.probabilities(parent, new_tasks)[:, columns], truth)
        expected = adaptive.trial(sample, tables, np.random.default_rng(0))
        assert expected is not None
        assert second.trial == asdict(expected)

    def test_without_the_healthy_label_nothing_is_tried(self, half: Installation) -> None:
        half.studio.xml = XML.replace('<Choice value="Healthy"/>', "")
        for task in range(7, 13):
            half.studio.confirm(task, [task % 2, 1 - task % 2])
        assert half.trained().trial is None

    def test_it_is_taken_before_training(self, half: Installation) -> None:
        """A parent that gives every frame 0.55, 0.45, 0.45 and has tables of one row: all is known by hand."""
        network = half.network(None)
        state = network.trainable_state()
        state["tail.classifier.weight"][:] = 0
        state["tail.classifier.bias"][:] = [0.2, -0.2, -0.2]
        network.load_trainable_state(state)
        row = np.array([[0.2, 0.4, 0.4]])
        store = half.services().versions(PROJECT)
        changes = {
            "table": CorrelationTable(np.array([[0, 1, 1]], np.uint8), row).to_json(),
            "strengths": StrengthTable(np.array([[0, 0, 0]], np.uint8), row).to_json(),
        }
        parent = store.create(self.newest(half).model_copy(update=changes), lambda path: network.save_tail(path, {}))
        store.activate(parent.version, by="a test")
        # Two of 7 to 12 have each combination; the first three of equal scores are 7, 8, 9, and 9 is healthy.
        for task in range(7, 13):
            half.studio.confirm(task, labels_of(task))
        second = half.trained(learning_rate=0.05)
        assert second.parent == parent.version
        assert second.trial is not None
        assert second.trial["annotations"] == 6
        assert second.trial["manual"] == {
            "table": pytest.approx(4 / 6),  # 0, 1, 1 for all
            "plain": pytest.approx(4 / 6),  # 1, 0, 0 for all
            "strengths": 1.0,  # 0, 0, 0 for all
        }
        assert second.trial["found"] == dict.fromkeys(STRATEGIES, pytest.approx(2 / 3))
        assert second.trial["uniform"] is True
        after = half.probabilities(second, list(range(7, 13)))
        assert ((after > 0.5) != [1, 0, 0]).any()  # what is said after training differs

    def test_only_audit_frames_are_a_fair_test(self, half: Installation) -> None:
        """The rest of a batch was chosen by one of the strategies that are tried."""
        (half.data / "projects" / str(PROJECT) / "audits.json").unlink()
        half.audit(8, 11)
        for task in range(7, 13):
            half.studio.confirm(task, labels_of(task))
        parent, second = self.newest(half), half.trained()
        truth = np.array([labels_of(8), labels_of(11)], np.uint8)
        tables = Tables.from_json(parent.table, parent.strengths)
        expected = adaptive.trial(
            AuditSample(half.probabilities(parent, [8, 11]), truth), tables, np.random.default_rng(0)
        )
        assert expected is not None
        assert second.trial == asdict(expected)

    def test_what_the_parent_was_trained_on_is_no_fair_test(self, half: Installation) -> None:
        parent = self.newest(half)
        assert tasks_of(parent.trained_on) == {1, 2, 3}
        half.studio.change(1, [0, 1, 1], at="later")
        second = half.trained()
        assert second.batch["annotations"] == 1
        assert second.trial is None
        half.studio.change(2, [0, 1, 0], at="later")
        half.studio.change(4, [1, 0, 0], at="later")  # held out, so never trained on
        third = half.trained()
        assert third.batch["annotations"] == 2
        assert third.trial is not None
        assert third.trial["annotations"] == 1
        probabilities = half.probabilities(second, [4])
        assert third.trial["manual"]["plain"] == float(((probabilities > 0.5) != [1, 0, 0]).any())

    def test_frames_that_cannot_be_read_are_not_tried(self, half: Installation) -> None:
        for task in (7, 8, 9):
            half.studio.confirm(task, labels_of(task))
        half.studio.annotations[-1] = replace(
            half.studio.annotations[-1], data={"image": "/data/local-files/?d=nowhere.png"}
        )
        second = half.trained()
        assert (second.trial or {})["annotations"] == 2
        assert second.clips == {f"task {task}": 1 for task in range(1, 9)}

    def test_nothing_new_is_no_trial_and_the_choice_stays(self, half: Installation) -> None:
        self.replaced(half, trial=CLEAR)
        second = half.trained()
        assert second.trial is None
        assert (second.choice["strategy"], second.choice["validator"]) == ("mle", "plain")

    def test_the_choice_follows_from_all_trials_of_the_line(self, half: Installation) -> None:
        def made(strategy: str, validator: str, annotations: int) -> adaptive.Trial:
            found = {name: 0.8 if name == strategy else 0.2 for name in STRATEGIES}
            manual = {name: 0.1 if name == validator else 0.6 for name in VALIDATORS}
            return adaptive.Trial(annotations, found, manual, uniform=True)

        # The first counts for 60 * 0.7 ** (6 / 15) = 52 frames, the second for 5, and there is one new frame.
        trials = [made("mle", "plain", 60), made("lc", "table", 5)]
        first = self.replaced(half, trial=asdict(trials[0]))
        self.replaced(half, parent=first.version, trial=asdict(trials[1]))
        half.studio.confirm(7, labels_of(7))
        manifest = half.trained()
        assert manifest.trial is not None
        assert manifest.trial["annotations"] == 1
        assert (manifest.choice["strategy"], manifest.choice["validator"]) == ("mle", "plain")
        expected = adaptive.choose([*trials, adaptive.Trial(**manifest.trial)])
        assert manifest.choice == asdict(expected) | {"reasons": list(expected.reasons)}
        assert manifest.choice["reasons"][0].startswith("mle serves")
        assert half.services().versions(PROJECT).get(manifest.version) == manifest

    @pytest.mark.parametrize("damage", ["gone", "unreadable"])
    def test_an_ancestor_that_is_lost_is_forgotten(self, half: Installation, damage: str) -> None:
        first = self.replaced(half, trial=CLEAR)
        self.replaced(half, parent=first.version, trial=None)
        folder = half.data / "projects" / str(PROJECT) / "versions" / first.version
        if damage == "gone":
            shutil.rmtree(folder)
        else:
            (folder / "manifest.json").write_text("{}")
        assert half.trained().choice["strategy"] == "mlm"

    def test_no_more_trials_are_remembered_than_count(
        self, half: Installation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(trials, "REMEMBERED", 1)
        new = CLEAR | {"found": {"mlm": 0.1, "lc": 0.9}, "manual": {"strengths": 0.5, "table": 0.0}}
        first = self.replaced(half, trial=CLEAR)
        self.replaced(half, parent=first.version, trial=new)
        choice = half.trained().choice
        assert (choice["strategy"], choice["validator"]) == ("lc", "table")

    def test_a_parent_without_trials_can_be_trained_further(self, half: Installation) -> None:
        store = half.services().versions(PROJECT)
        parent = self.newest(half)
        path = half.data / "projects" / str(PROJECT) / "versions" / parent.version / "manifest.json"
        content = json.loads(path.read_text())
        for name in ("strengths", "trial", "choice", "clips"):
            del content[name]
        path.write_text(json.dumps(content))
        assert store.get(parent.version).strengths == {}
        half.studio.confirm(7, labels_of(7))
        second = half.trained()
        assert second.parent == parent.version
        assert second.trial is None
        assert second.choice["strategy"] == "mlm"
        assert StrengthTable.from_json(second.strengths).averages.shape[1] == 3
        half.studio.confirm(8, labels_of(8))
        assert (half.trained().trial or {})["annotations"] == 1

    def test_a_new_line_of_versions_begins_without_trials(self, half: Installation) -> None:
        self.replaced(half, trial=CLEAR, trunk_key="0" * 32)
        half.studio.confirm(7, labels_of(7))
        second = half.trained()
        assert second.parent is None
        assert second.trial is None
        assert (second.choice["strategy"], second.choice["validator"]) == ("mlm", "strengths")


def test_labelled_frames_are_counted_by_clip(installed: Installation) -> None:
    clips = {1: "a", 2: "a", 3: "b", 4: "b", 5: "b", 6: "", 7: "c"}  # 4 to 6 are held out, and were asked all the same
    for task, clip in clips.items():
        installed.studio.add(installed.folder, task, patient=PATIENTS[task], clip=clip)
        installed.studio.confirm(task, labels_of(task))
    installed.studio.confirm(1, labels_of(1), number=50, at="twice")
    manifest = installed.trained()
    assert tasks_of(manifest.held_out) == HELD
    assert manifest.clips == {"a": 2, "b": 3, "task 6": 1, "c": 1}
    counted = np.sum([labels_of(task) for task in clips], axis=0).tolist()
    assert list(manifest.positives.values()) == counted
    assert tuple(manifest.positives) == manifest.label_names
