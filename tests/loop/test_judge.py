"""Which frames a version is judged by, what holds it back, and how the ticks are counted."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ml_backend.frames.frame import Frame
from ml_backend.frames.predictor import Predictor
from ml_backend.loop import confirm
from ml_backend.loop import train as training
from ml_backend.loop.collect import Labelled, Material
from ml_backend.loop.judge import judge
from ml_backend.msml.network import Network
from ml_backend.settings import load
from ml_backend.store.audits import AuditTold
from ml_backend.store.versions import Manifest
from ml_backend.studio.annotations import ConfirmedAnnotation
from ml_backend.studio.payloads import Prediction, prediction_payload
from ml_backend.tsal.correlation import build
from ml_backend.tsal.judgement import Figure, figure
from ml_backend.tsal.split import HELD_OUT, Split, held_out
from tests.events import events
from tests.installation import CONFIGURATION, PROJECT
from tests.loop.installed import HELD, PATIENTS, SHARE, TASKS, Installation, labels_of, tasks_of
from tests.studio_stand_in import one_thread

__all__ = ["one_thread"]

NAMES = [f"q{number}" for number in range(60)]
OTHERS = [name for name, held in zip(NAMES, held_out(NAMES, SHARE, 0), strict=True) if held][:6]
ADDED = {task: OTHERS[(task - 13) // 4] for task in range(13, 37)}
"""Twenty-four more tasks of six held-out patients, so that a fall is more than chance."""


class TestGuard:
    @pytest.fixture
    def many(self, installed: Installation) -> Installation:
        for task, patient in ADDED.items():
            installed.studio.add(installed.folder, task, patient=patient)
        for task in (*TASKS, *ADDED):
            installed.studio.confirm(task, labels_of(task))
        return installed

    def spoil(
        self, installed: Installation, monkeypatch: pytest.MonkeyPatch, good: Manifest, lost: Sequence[int]
    ) -> None:
        """From now on the active version is right about every frame, and new ones about all but the ``lost``."""
        active = installed.tail(good)
        truth = {task: np.array(labels_of(task), np.float32) for task in (*TASKS, *ADDED)}

        def probabilities(predictor: Predictor, network: Network, frames: Sequence[Frame]) -> Any:
            state = network.trainable_state()
            old = np.array_equal(state["tail.classifier.weight"], active["tail.classifier.weight"])
            right = np.stack([truth[frame.task] for frame in frames]) * 0.8 + 0.1
            wrong = np.array([not old and frame.task in lost for frame in frames])
            return np.where(wrong[:, None], 1 - right, right).astype(np.float32)

        monkeypatch.setattr(training, "_probabilities", probabilities)

    def test_a_version_worse_in_most_patients_is_kept_and_not_used(
        self, many: Installation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        first = many.trained()
        # One frame of each of five of the seven held-out patients.
        self.spoil(many, monkeypatch, first, lost=[13, 17, 21, 25, 29])
        with caplog.at_level(logging.WARNING):
            second = many.trained()
        store = many.services().versions(PROJECT)
        assert (store.names(), store.active()) == ([first.version, second.version], first.version)
        assert second.held_back
        assert (second.metrics["patients_worse"], second.metrics["patients_better"]) == (5, 0)
        before, after = second.figure("exact_match_parent"), second.figure("exact_match")
        assert before is not None
        assert after is not None
        assert (before.value, after.value, after.frames, after.patients) == (1.0, 22 / 27, 27, 7)
        assert [one["version"] for one in events(caplog, "version held back")] == [second.version]
        confirm.recover(many.services(), PROJECT)
        assert store.active() == first.version
        # The next one goes on from the version that serves, with everything that was confirmed.
        third = many.trained(largest_fall=1.0)
        assert (third.parent, third.held_back, store.active()) == (first.version, "", third.version)

    def test_many_frames_of_one_patient_do_not_hold_a_version_back(
        self, installed: Installation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Counted as if independent they would: 24 of 27 held-out frames are lost."""
        for task in ADDED:
            installed.studio.add(installed.folder, task, patient=OTHERS[0])
        for task in (*TASKS, *ADDED):
            installed.studio.confirm(task, labels_of(task))
        first = installed.trained()
        self.spoil(installed, monkeypatch, first, lost=list(ADDED))
        second = installed.trained()
        after = second.figure("exact_match")
        assert after is not None
        assert (after.value, after.frames) == (3 / 27, 27)
        assert second.held_back == ""
        assert installed.services().versions(PROJECT).active() == second.version

    def test_the_parents_figure_is_taken_on_the_same_frames_before_training(self, many: Installation) -> None:
        first = many.trained()
        second = many.trained()
        held = sorted(tasks_of(second.held_out))
        patients = PATIENTS | ADDED
        truth = np.array([labels_of(task) for task in held], np.uint8)
        right = ((many.probabilities(first, held) > 0.5) == truth).all(axis=1)
        assert second.figure("exact_match_parent") == figure(right, [patients[task] for task in held], 0)


class TestSplit:
    def test_audited_frames_of_held_out_patients_judge_where_there_are_any(self, confirmed: Installation) -> None:
        confirmed.audit(1, 5, 8)
        manifest = confirmed.trained()
        assert tasks_of(manifest.held_out) == HELD
        assert (manifest.metrics["judged_on"], manifest.metrics["sample"]) == ("held-out patients", "uniform")
        truth = np.array([labels_of(5)], np.uint8)
        right = ((confirmed.probabilities(manifest, [5]) > 0.5) == truth).all(axis=1)
        assert manifest.figure("exact_match") == figure(right, ["p2"], 0)
        assert (manifest.metrics["frames"], manifest.metrics["patients"]) == (1, 1)

    def test_without_an_audit_all_their_frames_judge_and_the_version_says_so(self, confirmed: Installation) -> None:
        manifest = confirmed.trained()
        assert (manifest.metrics["frames"], manifest.metrics["sample"]) == (3, "not uniform")
        assert [note for note in manifest.notes if "not a uniform sample" in note]

    def test_where_nobody_is_held_out_the_newest_audit_frames_judge(self, installed: Installation) -> None:
        installed.audit(2, 5, 8, 11)
        for task in range(1, 7):
            installed.studio.confirm(task, labels_of(task))
        first = installed.trained(hold_out=0)
        assert tasks_of(first.held_out) == {2, 5}
        for task in range(7, 13):
            installed.studio.confirm(task, labels_of(task))
        second = installed.trained(hold_out=0)
        assert second.parent == first.version
        # What judged the version before is trained on now, and what is new is kept back.
        assert tasks_of(second.held_out) == {8, 11}
        assert tasks_of(second.trained_on) == set(TASKS) - {8, 11}
        assert (second.metrics["judged_on"], second.metrics["sample"]) == ("newest audit frames", "uniform")
        assert [note for note in second.notes if "newest audit frames alone" in note]
        truth = np.array([labels_of(8), labels_of(11)], np.uint8)
        right = ((installed.probabilities(first, [8, 11]) > 0.5) == truth).all(axis=1)
        assert second.figure("exact_match_parent") == figure(right, ["p3", "p4"], 0)

    def test_without_both_a_version_is_not_judged_and_says_so(self, confirmed: Installation) -> None:
        manifest = confirmed.trained(hold_out=0)
        assert tasks_of(manifest.trained_on) == set(TASKS)
        assert (manifest.metrics["judged_on"], manifest.figure("exact_match")) == ("nobody", None)
        assert [note for note in manifest.notes if note.startswith("not judged")]


def test_the_patient_of_each_of_many_frames_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []

    def patient(one: Labelled) -> str:
        reads.append(one.named)
        return one.named

    monkeypatch.setattr(Labelled, "patient", property(patient))
    labels, known = np.eye(3, dtype=np.uint8)[np.arange(60) % 3], np.ones((60, 3), bool)
    frames = [Frame(task, "") for task in range(60)]
    labelled = [
        Labelled(ConfirmedAnnotation(task, task, "", {}, []), labels[task], known[task], f"patient {task % 20}")
        for task in range(60)
    ]
    judged = np.arange(60) % 20 < 10
    says = (labels * 0.8 + 0.1).astype(np.float32)
    figures, _ = judge(
        Material(labelled, frames, [b""] * 60, labels, known, []),
        Split(~judged, judged, HELD_OUT, True),
        None,
        says,
        [],
        build(labels, says),
        ["a", "b", "c"],
        load(),
    )
    assert (figures["frames"], figures["patients"], figures["exact_match"]["value"]) == (30, 10, 1.0)
    assert len(reads) == 60


class TestTicks:
    def shown(self, task: int, validated: Sequence[int] | None, plain: Sequence[int] | None) -> dict[str, Any]:
        """A prediction as Label Studio stored it."""
        audit = {} if plain is None else {"plain": CONFIGURATION.label_set.decode(np.array(plain, np.uint8))}
        labels = None if validated is None else np.array(validated, np.uint8)
        return prediction_payload(Prediction(task, labels, 0.5, "msml-0001-0123abcd.1", audit), CONFIGURATION)

    def test_before_the_first_version_every_label_is_manual(self, confirmed: Installation) -> None:
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

    def test_only_audit_frames_measure_the_ticks(self, installed: Installation) -> None:
        studio = installed.studio
        for task in range(1, 7):
            studio.confirm(task, labels_of(task))
        installed.trained()
        installed.audit(1, 7, 8, 10)
        for task in range(7, 13):
            studio.confirm(task, labels_of(task), number=task + 100)
        studio.change(1, [0, 1, 1], at="later")
        wrong = labels_of(6)
        studio.shown = {
            1: self.shown(1, [0, 1, 1], [0, 1, 1]),  # audited, but an earlier version has learnt it
            107: self.shown(7, labels_of(7), wrong),
            108: self.shown(8, wrong, wrong),
            # 110 was shown nothing
            109: self.shown(9, wrong, wrong),  # the strategy asked for the rest
            111: self.shown(11, wrong, wrong),
            112: self.shown(12, wrong, wrong),
        }
        manifest = installed.trained()
        ticks = manifest.ticks
        assert ticks["frames"] == 3
        stood = Figure.read(ticks["stood"])
        assert stood == figure(np.array([True, False]), ["p3", "p3"], 0)
        assert Figure.read(ticks["manual_share_validated"]) == figure(np.array([0, 1, 1], bool), ["p3", "p3", "p4"], 0)
        assert Figure.read(ticks["manual_share_plain"]) == figure(np.array([1, 1, 1], bool), ["p3", "p3", "p4"], 0)

    def test_without_an_audit_the_ticks_are_not_measured(self, confirmed: Installation) -> None:
        ticks = confirmed.trained().ticks
        assert ticks["frames"] == 0
        measured = ("stood", "manual_share_validated", "manual_share_plain", "calibration_error")
        assert [ticks[name] for name in measured] == [None] * 4
        assert ticks["automation_bias"]["value"] is None

    def test_a_version_keeps_what_the_audit_said_of_confidence_and_bias(self, confirmed: Installation) -> None:
        confirmed.audit(1, 2, 3)
        one = AuditTold(ticks=tuple(CONFIGURATION.label_set.decode(labels_of(1))), confidence=0.75, source="memory")
        told = {1: one, 2: one, 3: one.model_copy(update={"blind": True}), 4: one}  # 4 was never drawn
        confirmed.services().audits(PROJECT).note_told(told)
        ticks = confirmed.trained().ticks
        # Frames 2 and 3 have other labels: 1 of 3 is right at a confidence of 0.75; changed 1 of 2, hidden 1 of 1.
        assert ticks["calibration_error"] == pytest.approx(0.75 - 1 / 3)
        assert ticks["automation_bias"]["value"] == pytest.approx(0.5)
