"""One fine-tune after another: what is trained on, what is never, and what a version remembers."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from ml_backend.errors import FrameUnreadable, NotEnoughLabels, StudioUnavailable, VersionSuperseded
from ml_backend.frames.frame import Frame
from ml_backend.frames.predictor import Predictor
from ml_backend.loop import confirm
from ml_backend.loop import train as training
from ml_backend.msml.network import Network
from ml_backend.services import Services
from ml_backend.store import versions
from ml_backend.store.activations import Activations
from ml_backend.store.audits import Draw
from ml_backend.store.features import FeatureStore
from ml_backend.store.locks import alone
from ml_backend.store.versions import Manifest
from ml_backend.studio.payloads import Prediction, prediction_payload
from ml_backend.tsal import adaptive, metrics
from ml_backend.tsal.acquisition import STRATEGIES
from ml_backend.tsal.audit import AuditSample
from ml_backend.tsal.correlation import CorrelationTable, build
from ml_backend.tsal.split import held_out
from ml_backend.tsal.strengths import StrengthTable
from ml_backend.tsal.ticks import VALIDATORS, Tables
from tests.installation import COMBINATIONS, CONFIGURATION, PROJECT, XML, settings_in, task_with_frame
from tests.studio_stand_in import StudioStandIn, one_thread

__all__ = ["one_thread"]

# With seed 0 and a share of 0.3 the patient p2 is held out.
TASKS = range(1, 13)
PATIENTS = {task: f"p{(task - 1) // 3 + 1}" for task in TASKS}
HELD = {task for task, patient in PATIENTS.items() if patient == "p2"}
SHARE = 0.3


@dataclass
class Installation:
    """One project on its own data folder; the network and its cache are shared."""

    folder: Path
    data: Path
    studio: StudioStandIn
    predictor: Predictor

    def services(self, **changes: object) -> Services:
        values = {"data_dir": self.data, "hold_out": SHARE, "minimum_steps": 4, "views": 2} | changes
        services = Services(settings_in(self.folder, **values))
        services.studio = self.studio  # type: ignore[assignment]
        services.predictor = self.predictor
        return services

    def trained(self, **changes: object) -> Manifest:
        return training.fine_tune(self.services(**changes), PROJECT, silent)

    def tail(self, manifest: Manifest) -> dict[str, np.ndarray]:
        return safetensors.numpy.load_file(self.services().versions(PROJECT).tail(manifest.version))

    def digest(self, manifest: Manifest) -> str:
        return hashlib.sha256(self.services().versions(PROJECT).tail(manifest.version).read_bytes()).hexdigest()

    def network(self, manifest: Manifest | None) -> Network:
        network = self.predictor.fresh(len(COMBINATIONS[0]))
        if manifest is not None:
            network.load_tail(self.services().versions(PROJECT).tail(manifest.version))
        return network

    def probabilities(self, manifest: Manifest, tasks: Sequence[int]) -> np.ndarray:
        frames = [Frame(task, str(self.studio.task_data[task]["image"])) for task in tasks]
        (chunk,) = self.predictor.activations(frames, len(COMBINATIONS[0]))
        return self.network(manifest).probabilities(chunk.activations)


def silent(stage: str, done: int, total: int) -> None:
    return None


def labels_of(task: int) -> list[int]:
    return COMBINATIONS[task % len(COMBINATIONS)].tolist()


def tasks_of(seen: Sequence[Any]) -> set[int]:
    return {one.task for one in seen}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Predictor:
    return Services(settings_in(folder, views=2)).predictor


@pytest.fixture
def installed(folder: Path, tmp_path: Path, predictor: Predictor) -> Installation:
    """Twelve frames of four patients in Label Studio, nothing annotated yet."""
    studio = StudioStandIn()
    for task in TASKS:
        studio.add(folder, task, patient=PATIENTS[task])
    return Installation(folder, tmp_path / "data", studio, predictor)


@pytest.fixture
def confirmed(installed: Installation) -> Installation:
    """The same with everything annotated."""
    for task in TASKS:
        installed.studio.confirm(task, labels_of(task))
    return installed


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
        plain = (probabilities > 0.5).astype(np.uint8)
        assert manifest.metrics == {
            "frames": 3,
            "symptoms": metrics.per_label(truth, plain, CONFIGURATION.label_names),
            "exact_match": metrics.exact_match(truth, plain),
            "exact_match_validated": metrics.exact_match(truth, stored.validate(probabilities)[0]),
            "exact_match_parent": None,
        }

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

    def test_too_little_that_can_be_read_does_so_too(self, confirmed: Installation) -> None:
        for place, one in enumerate(confirmed.studio.annotations):
            if labels_of(one.task) != [1, 0, 0]:
                confirmed.studio.annotations[place] = replace(one, data={"image": "/data/local-files/?d=nowhere.png"})
        with pytest.raises(NotEnoughLabels, match="two different label combinations"):
            confirmed.trained()
        assert confirmed.services().versions(PROJECT).names() == []

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
    def test_it_goes_on_from_its_parent(self, confirmed: Installation) -> None:
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
        assert rows.keys() == {(0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 1, 1)}
        np.testing.assert_array_equal(rows[0, 1, 0], [0.0, 1.0, 0.0])
        np.testing.assert_allclose(rows[0, 1, 1], new[0, 1, 1], atol=1e-5)
        np.testing.assert_array_equal(rows[1, 0, 0], [0.9, 0.05, 0.05])
        np.testing.assert_array_equal(rows[1, 1, 1], [0.2, 0.3, 0.5])

    def test_other_symptoms_start_a_new_line(self, confirmed: Installation, caplog: pytest.LogCaptureFixture) -> None:
        first = confirmed.trained()
        confirmed.studio.xml = XML.replace(
            '<Choice value="Healthy"/>', '<Choice value="Healthy"/><Choice value="New"/>'
        )
        with caplog.at_level(logging.WARNING):
            second = confirmed.trained()
        assert (second.number, second.parent) == (2, None)
        assert second.label_names == ("Healthy", "New", "A-line", "B-line")
        assert [note for note in second.notes if first.version in note and "other symptoms" in note]
        fresh = replace(confirmed, data=confirmed.data / "fresh")
        assert confirmed.digest(second) == fresh.digest(fresh.trained())
        assert confirmed.trained().parent == second.version

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

    def test_weights_that_have_seen_a_held_out_patient_are_not_gone_on_from(self, confirmed: Installation) -> None:
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


class TestAnnotations:
    def test_of_several_annotations_of_a_frame_the_latest_counts(self, confirmed: Installation) -> None:
        studio = confirmed.studio
        studio.change(1, labels_of(1), at="2026-01-02")
        studio.confirm(1, [0, 1, 1], number=50, at="2026-01-03")
        studio.confirm(1, [1, 0, 0], number=49, at="2026-01-01")
        studio.change(2, labels_of(2), at="2026-01-05")
        studio.confirm(2, [1, 0, 0], number=51, at="2026-01-05")  # at the same time: the larger number
        studio.change(3, labels_of(3), at="2026-01-05")
        studio.confirm(3, [0, 1, 1], number=53, at="2026-01-05")
        studio.confirm(3, [0, 1, 0], number=52, at="2026-01-05")
        labelled = training.confirmed(confirmed.services(), PROJECT, CONFIGURATION)
        assert [one.annotation.task for one in labelled] == list(TASKS)
        assert [(one.annotation.id, one.labels.tolist()) for one in labelled[:3]] == [
            (50, [0, 1, 1]),
            (51, [1, 0, 0]),
            (53, [0, 1, 1]),
        ]
        manifest = confirmed.trained()
        assert {one.annotation for one in manifest.seen} == {50, 51, 53, *range(4, 13)}

    def test_annotations_outside_the_configuration_are_left_out_by_name(
        self, confirmed: Installation, caplog: pytest.LogCaptureFixture
    ) -> None:
        value = {"choices": ["Rust"]}
        result = [{"from_name": "symptoms", "to_name": "image", "type": "choices", "value": value}]
        confirmed.studio.annotations[0] = replace(confirmed.studio.annotations[0], result=result)
        with caplog.at_level(logging.WARNING):
            manifest = confirmed.trained()
        assert 1 not in tasks_of(manifest.seen)
        (message,) = [message for message in caplog.messages if message.startswith("left out")]
        assert message.endswith("count=1 ids=1")
        assert manifest.notes[0] == ("left out 1 annotations with symptoms that the configuration does not have: 1")

    def test_what_changes_in_label_studio_changes_the_next_training_set(self, confirmed: Installation) -> None:
        first = confirmed.trained()
        studio, services = confirmed.studio, confirmed.services()

        def fresh() -> list[int]:
            labelled = training.confirmed(services, PROJECT, CONFIGURATION)
            return [one.annotation.task for one in training.changed_since(labelled, first)]

        assert fresh() == []
        studio.annotations = [one for one in studio.annotations if one.id != 5]
        assert fresh() == []
        studio.change(1, [0, 1, 1], at="later")
        assert fresh() == [1]
        second = confirmed.trained()
        assert tasks_of(second.seen) == set(TASKS) - {5}
        assert {one.updated_at for one in second.seen if one.task == 1} == {"later"}
        assert second.batch["annotations"] == 1
        # The same two versions without the change have other weights.
        without = replace(confirmed, data=confirmed.data / "without")
        studio.change(1, labels_of(1), at="then")
        without.trained()
        assert without.digest(without.trained()) != confirmed.digest(second)

    def test_frames_that_cannot_be_read_are_left_out_noted_and_counted_as_seen(self, confirmed: Installation) -> None:
        (place,) = [place for place, one in enumerate(confirmed.studio.annotations) if one.task == 2]
        for at, data in ((place, {"image": "/data/local-files/?d=nowhere.png"}), (place + 1, {"text": "no image"})):
            confirmed.studio.annotations[at] = replace(confirmed.studio.annotations[at], data=data)
        manifest = confirmed.trained()
        assert tasks_of(manifest.left_out) == {2, 3}
        assert tasks_of(manifest.trained_on) == set(TASKS) - HELD - {2, 3}
        assert "2 frames could not be read and were left out" in manifest.notes
        labelled = training.confirmed(confirmed.services(), PROJECT, CONFIGURATION)
        assert training.changed_since(labelled, manifest) == []
        # As if they had never been annotated.
        other = replace(confirmed, data=confirmed.data / "other")
        other.studio.annotations = [one for one in other.studio.annotations if one.task not in (2, 3)]
        assert other.digest(other.trained()) == confirmed.digest(manifest)

    def test_a_frame_that_goes_while_the_job_runs_is_said(self, confirmed: Installation, tmp_path: Path) -> None:
        gone = confirmed.folder / "files" / "1.png"
        content = gone.read_bytes()
        services = confirmed.services(hold_out=0)
        services.predictor = Predictor(services.settings, services.fetcher, FeatureStore(tmp_path / "none", 0))
        services.predictor._networks[3] = confirmed.predictor.network(3)

        def report(stage: str, done: int, total: int) -> None:
            if stage == "training" and done == total:
                gone.unlink()

        try:
            with pytest.raises(FrameUnreadable, match=r"1\.png"):
                training.fine_tune(services, PROJECT, report)
        finally:
            gone.write_bytes(content)
        assert services.versions(PROJECT).names() == []


class TestDisagreement:
    A, B, AB = [0, 1, 0], [0, 0, 1], [0, 1, 1]

    def settled(self, installed: Installation, rule: str, *opinions: list[int]) -> list[tuple[int, list[int]]]:
        for number, opinion in enumerate(opinions, 101):
            installed.studio.confirm(1, opinion, number=number, at=f"2026-01-{number}")
        installed.studio.confirm(2, self.A, number=201)
        found = training.confirmed(installed.services(disagreement=rule), PROJECT, CONFIGURATION)
        return [(one.annotation.id, one.labels.tolist()) for one in found]

    @pytest.mark.parametrize(
        ("rule", "opinions", "settled"),
        [
            ("latest", (A, A, B), (103, B)),
            ("majority", (A, A, B), (102, A)),
            ("majority", (A, B, B, A), (104, A)),  # a tie: the last of all
            ("majority", (A, B, AB), (103, AB)),
            ("majority", (B,), (101, B)),
            ("leave out", (A, A), (102, A)),
        ],
    )
    def test_a_stated_rule_settles_it(
        self, installed: Installation, rule: str, opinions: tuple[list[int], ...], settled: tuple[int, list[int]]
    ) -> None:
        assert self.settled(installed, rule, *opinions) == [settled, (201, self.A)]

    def test_a_frame_is_left_out_and_reported(self, installed: Installation, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING):
            assert self.settled(installed, "leave out", self.A, self.A, self.B) == [(201, self.A)]
        (message,) = [message for message in caplog.messages if message.startswith("left out")]
        assert "tasks whose annotations disagree" in message
        assert message.endswith("count=1 ids=1")

    def test_an_opinion_that_turns_the_majority_is_new(self, confirmed: Installation) -> None:
        services = confirmed.services(disagreement="majority")
        first = training.fine_tune(services, PROJECT, silent)
        confirmed.studio.confirm(1, [1, 1, 1], number=101, at="2027-01-01")
        confirmed.studio.confirm(1, [1, 1, 1], number=102, at="2027-01-02")
        fresh = training.changed_since(training.confirmed(services, PROJECT, CONFIGURATION), first)
        assert [(one.annotation.id, one.labels.tolist()) for one in fresh] == [(102, [1, 1, 1])]


class TestGuard:
    @pytest.fixture
    def many(self, installed: Installation) -> Installation:
        """Twenty more frames of p2, so that a fall is more than chance, all annotated."""
        for task in range(13, 33):
            installed.studio.add(installed.folder, task, patient="p2")
        for task in (*TASKS, *range(13, 33)):
            installed.studio.confirm(task, labels_of(task))
        return installed

    def spoil(self, installed: Installation, monkeypatch: pytest.MonkeyPatch, good: Manifest) -> None:
        """From now on the active version is right about every held-out frame, and new ones about none."""
        active = installed.tail(good)
        truth = {task: np.array(labels_of(task), np.float32) for task in range(1, 33)}
        real = training._probabilities

        def probabilities(predictor: Predictor, network: Network, frames: Sequence[Frame]) -> Any:
            found = real(predictor, network, frames)
            state = network.trainable_state()
            old = np.array_equal(state["tail.classifier.weight"], active["tail.classifier.weight"])
            right = np.stack([truth[frame.task] for frame in frames]) * 0.8 + 0.1
            return right.astype(np.float32) if old else (1 - right).astype(np.float32) + 0 * found

        monkeypatch.setattr(training, "_probabilities", probabilities)

    def test_a_worse_version_is_kept_and_not_used(
        self, many: Installation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        first = many.trained()
        self.spoil(many, monkeypatch, first)
        with caplog.at_level(logging.WARNING):
            second = many.trained()
        store = many.services().versions(PROJECT)
        assert (store.names(), store.active()) == ([first.version, second.version], first.version)
        assert second.held_back.startswith("exact match on 23 frames of held-out patients fell from 1.000 to 0.000")
        assert (second.metrics["exact_match_parent"], second.metrics["exact_match"]) == (1.0, 0.0)
        assert [message for message in caplog.messages if message.startswith("version held back")]
        confirm.recover(many.services(), PROJECT)
        assert store.active() == first.version
        # The next one goes on from the version that serves, with everything that was confirmed.
        third = many.trained(largest_fall=1.0)
        assert (third.parent, third.held_back, store.active()) == (first.version, "", third.version)

    def test_the_parents_figure_is_taken_on_the_same_frames_before_training(self, many: Installation) -> None:
        first = many.trained()
        second = many.trained()
        held = sorted(tasks_of(second.held_out))
        truth = np.array([labels_of(task) for task in held], np.uint8)
        plain = (many.probabilities(first, held) > 0.5).astype(np.uint8)
        assert second.metrics["exact_match_parent"] == metrics.exact_match(truth, plain)

    def test_after_a_rollback_the_older_version_is_gone_on_from(self, confirmed: Installation) -> None:
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
        assert [message for message in caplog.messages if "version held back" in message and "made active" in message]
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
            monkeypatch.setattr(Network, "save_tail", lambda *args: (save(*args), activate_elsewhere()))
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

    def test_where_the_active_version_is_damaged_the_newest_is_gone_on_from(self, confirmed: Installation) -> None:
        first, second = confirmed.trained(), confirmed.trained()
        store = confirmed.services().versions(PROJECT)
        store.activate(first.version, by="a person")
        (store.tail(first.version).parent / "manifest.json").write_text("{}")
        assert confirmed.trained().parent == second.version

    def test_a_crash_before_the_switch_is_made_good(
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
        with caplog.at_level(logging.INFO):
            confirm.recover(confirmed.services(), PROJECT)
            assert store.active() == store.names()[1]
            confirm.recover(confirmed.services(), PROJECT)
        (message,) = [message for message in caplog.messages if message.startswith("version active")]
        assert "a crash had cut this off" in message


class TestManualShare:
    def shown(self, task: int, validated: Sequence[int] | None, plain: Sequence[int] | None) -> dict[str, Any]:
        """A prediction as Label Studio stored it."""
        audit = {} if plain is None else {"plain": CONFIGURATION.label_set.decode(np.array(plain, np.uint8))}
        labels = None if validated is None else np.array(validated, np.uint8)
        return prediction_payload(Prediction(task, labels, 0.5, "msml-0001-0123abcd.1", audit), CONFIGURATION)

    def test_before_the_first_version_everything_is_by_hand(self, confirmed: Installation) -> None:
        confirmed.studio.shown = {task: self.shown(task, None, None) for task in TASKS}
        assert confirmed.trained().batch == {
            "annotations": 12,
            "with_default": 0,
            "manual_share_validated": 1.0,
            "manual_share_plain": 1.0,
        }

    def test_shares_are_those_of_a_count_by_hand(self, installed: Installation) -> None:
        studio = installed.studio
        for task in range(1, 7):
            studio.confirm(task, labels_of(task))
        installed.trained()

        def wrong(task: int) -> list[int]:
            return labels_of(task + 1)

        right = labels_of
        for task in range(7, 12):
            studio.confirm(task, labels_of(task), number=task + 100)
        studio.confirm(12, [0, 0, 0], number=112)
        studio.change(1, [0, 1, 1], at="later")
        studio.shown = {
            107: self.shown(7, right(7), right(7)),  # by neither
            108: self.shown(8, right(8), wrong(8)),  # by the plain label only
            109: self.shown(9, wrong(9), right(9)),  # by the validated one only
            110: self.shown(10, right(10), None),  # no plain label was kept
            # 111 and 112 were shown nothing: by both, even where no symptom was confirmed
            1: self.shown(1, [0, 1, 1], [0, 1, 0]),  # changed since, so it counts again: by the plain label only
            2: self.shown(2, wrong(2), wrong(2)),  # of the last batch: not counted
        }
        assert installed.trained().batch == {
            "annotations": 7,
            "with_default": 5,
            "manual_share_validated": pytest.approx(3 / 7),
            "manual_share_plain": pytest.approx(5 / 7),
        }

    def test_nothing_new_has_no_share(self, confirmed: Installation) -> None:
        confirmed.trained()
        batch = confirmed.trained().batch
        assert (batch["annotations"], batch["manual_share_validated"], batch["manual_share_plain"]) == (0, None, None)


class TestTrial:
    @pytest.fixture
    def half(self, installed: Installation) -> Installation:
        """The first two patients are annotated and a version is trained on them; p2, tasks 4 to 6, is held out.

        Every frame was drawn for an audit.
        """
        for task in range(1, 7):
            installed.studio.confirm(task, labels_of(task))
        installed.trained()
        drawn = Draw(order="diversity.1", version=None, drawn_at="then", seed=0, pool=12, tasks=tuple(TASKS))
        installed.services().audits(PROJECT).add(drawn)
        return installed

    def test_only_audit_frames_are_tried(self, installed: Installation) -> None:
        for task in range(1, 7):
            installed.studio.confirm(task, labels_of(task))
        installed.trained()
        drawn = Draw(order="diversity.1", version=None, drawn_at="then", seed=0, pool=12, tasks=(8, 12))
        installed.services().audits(PROJECT).add(drawn)
        for task in (7, 8, 9):
            installed.studio.confirm(task, labels_of(task))
        assert (installed.trained().trial or {})["annotations"] == 1
        installed.studio.confirm(10, labels_of(10))
        assert installed.trained().trial is None

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

    def test_a_first_version_has_none_and_chooses_the_papers(self, confirmed: Installation) -> None:
        manifest = confirmed.trained()
        assert manifest.trial is None
        assert (manifest.choice["strategy"], manifest.choice["validator"]) == ("mlm", "strengths")
        assert "no batch has been tried yet" in manifest.choice["reasons"][0]
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
        sample = AuditSample(half.probabilities(parent, new), truth)
        expected = adaptive.trial(sample, tables, np.random.default_rng(0))
        assert expected is not None
        assert expected.annotations == 6
        assert second.trial == asdict(expected)

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
        assert second.choice["validator"] == "table"
        after = half.probabilities(second, list(range(7, 13)))
        assert ((after > 0.5) != [1, 0, 0]).any()  # what is said after training differs

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
        trial = {"annotations": 8, "found": {"mlm": 0.1, "mle": 0.4}, "manual": {"table": 0.5, "plain": 0.25}}
        self.replaced(half, trial=trial)
        second = half.trained()
        assert second.trial is None
        assert (second.choice["strategy"], second.choice["validator"]) == ("mle", "plain")

    def test_the_choice_follows_from_all_trials_of_the_line(self, half: Installation) -> None:
        def made(strategy: str, validator: str, annotations: int) -> adaptive.Trial:
            found = {name: 0.8 if name == strategy else 0.2 for name in STRATEGIES}
            manual = {name: 0.1 if name == validator else 0.6 for name in VALIDATORS}
            return adaptive.Trial(annotations, found, manual)

        # Weights at the end: 1000 * 0.7 * 0.7 = 490 of the first, 600 * 0.7 = 420 of the second, and one frame.
        trials = [made("mle", "strengths", 1000), made("lc", "plain", 600)]
        first = self.replaced(half, trial=asdict(trials[0]))
        self.replaced(half, parent=first.version, trial=asdict(trials[1]))
        half.studio.confirm(7, labels_of(7))
        manifest = half.trained()
        assert manifest.trial is not None
        assert manifest.trial["annotations"] == 1
        assert (manifest.choice["strategy"], manifest.choice["validator"]) == ("mle", "strengths")
        expected = adaptive.choose([*trials, adaptive.Trial(**manifest.trial)])
        assert manifest.choice == asdict(expected) | {"reasons": list(expected.reasons)}
        assert manifest.choice["reasons"][0].startswith("mle found most errors: mlm 0.")
        assert half.services().versions(PROJECT).get(manifest.version) == manifest

    @pytest.mark.parametrize("damage", ["gone", "unreadable"])
    def test_an_ancestor_that_is_lost_is_forgotten(self, half: Installation, damage: str) -> None:
        trial = {"annotations": 1000, "found": {"mlm": 0.1, "mle": 0.4}, "manual": {"table": 0.5, "plain": 0.25}}
        first = self.replaced(half, trial=trial)
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
        monkeypatch.setattr(training, "REMEMBERED", 1)
        old = {"annotations": 1000, "found": {"mlm": 0.1, "mle": 0.4}, "manual": {"table": 0.5, "plain": 0.25}}
        new = {"annotations": 1, "found": {"mlm": 0.1, "lc": 0.4}, "manual": {"table": 0.5, "strengths": 0.25}}
        first = self.replaced(half, trial=old)
        self.replaced(half, parent=first.version, trial=new)
        choice = half.trained().choice
        assert (choice["strategy"], choice["validator"]) == ("lc", "strengths")

    def test_a_parent_from_before_there_were_trials_is_gone_on_from(self, half: Installation) -> None:
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
        trial = {"annotations": 8, "found": {"mlm": 0.1, "mle": 0.4}, "manual": {"table": 0.5, "plain": 0.25}}
        self.replaced(half, trial=trial, trunk_key="0" * 32)
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
