"""Which annotations count: one a frame, looked at by a person, known to the configuration."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from ml_backend.errors import FrameUnreadable
from ml_backend.frames.predictor import Predictor
from ml_backend.loop import collect
from ml_backend.loop import train as training
from ml_backend.store.features import FeatureStore
from tests.events import events
from tests.installation import CONFIGURATION, NO_ANSWER, PROJECT
from tests.loop.installed import HELD, TASKS, Installation, labels_of, silent, tasks_of
from tests.studio_stand_in import one_thread

__all__ = ["one_thread"]


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
        labelled = collect.confirmed(confirmed.services(), PROJECT, CONFIGURATION)
        assert [one.annotation.task for one in labelled] == list(TASKS)
        assert [(one.annotation.id, one.labels.tolist()) for one in labelled[:3]] == [
            (50, [0, 1, 1]),
            (51, [1, 0, 0]),
            (53, [0, 1, 1]),
        ]
        manifest = confirmed.trained()
        assert {one.annotation for one in manifest.seen} == {50, 51, 53, *range(4, 13)}

    def tick(self, installed: Installation, annotation: int, *choices: str) -> None:
        """Let an annotation of task 1, 2, 3, … hold these choices, as Label Studio stores them."""
        value = {"choices": list(choices)}
        result = [{"from_name": "symptoms", "to_name": "image", "type": "choices", "value": value}]
        studio = installed.studio
        studio.annotations[annotation - 1] = replace(studio.annotations[annotation - 1], result=result)

    def test_annotations_outside_the_configuration_are_left_out_by_name(
        self, confirmed: Installation, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.tick(confirmed, 1, "Rust")
        with caplog.at_level(logging.WARNING):
            manifest = confirmed.trained()
        assert 1 not in tasks_of(manifest.seen)
        assert [(one["count"], one["ids"]) for one in events(caplog, "left out")] == [(1, "1")]
        left_out = "left out 1 annotations that tick only symptoms that the configuration does not have: 1"
        assert manifest.notes[0] == left_out

    def test_a_frame_that_is_not_assessable_is_kept_apart_unless_somebody_judged_it(
        self, confirmed: Installation
    ) -> None:
        studio = confirmed.studio
        for place in (0, 1):
            studio.annotations[place] = replace(studio.annotations[place], result=[NO_ANSWER])
        studio.confirm(2, [0, 1, 0], number=50)
        collected = collect.collect(confirmed.services(), PROJECT, CONFIGURATION)
        assert collected.not_assessable == {1}
        assert [one.annotation.task for one in collected.labelled] == list(TASKS)[1:]
        assert collected.notes == ["left out 1 tasks that are not assessable: 1"]

    def test_where_a_removed_symptom_is_ticked_the_other_answers_count(self, confirmed: Installation) -> None:
        self.tick(confirmed, 1, "Rust", "b")
        self.tick(confirmed, 3, "A-line", "Rust")
        collected = collect.collect(confirmed.services(), PROJECT, CONFIGURATION)
        labels = {one.annotation.id: one.labels.tolist() for one in collected.labelled}
        assert set(labels) == set(TASKS)
        assert (labels[1], labels[3]) == ([0, 0, 1], [0, 1, 0])
        assert all(one.known.all() for one in collected.labelled)
        assert collected.notes == [
            "left out 2 annotations in part: they also tick symptoms that the configuration does not have: 1, 3"
        ]

    def test_changes_in_label_studio_change_the_next_training_set(self, confirmed: Installation) -> None:
        first = confirmed.trained()
        studio, services = confirmed.studio, confirmed.services()

        def fresh() -> list[int]:
            labelled = collect.confirmed(services, PROJECT, CONFIGURATION)
            return [one.annotation.task for one in collect.changed_since(labelled, first)]

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
        labelled = collect.confirmed(confirmed.services(), PROJECT, CONFIGURATION)
        assert collect.changed_since(labelled, manifest) == []
        # As if they had never been annotated.
        other = replace(confirmed, data=confirmed.data / "other")
        other.studio.annotations = [one for one in other.studio.annotations if one.task not in (2, 3)]
        assert other.digest(other.trained()) == confirmed.digest(manifest)

    def test_a_frame_that_disappears_during_the_job_raises(self, confirmed: Installation, tmp_path: Path) -> None:
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
        found = collect.confirmed(installed.services(disagreement=rule), PROJECT, CONFIGURATION)
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
    def test_the_rule_that_is_set_settles_a_disagreement(
        self, installed: Installation, rule: str, opinions: tuple[list[int], ...], settled: tuple[int, list[int]]
    ) -> None:
        assert self.settled(installed, rule, *opinions) == [settled, (201, self.A)]

    def test_a_frame_is_left_out_and_reported(self, installed: Installation, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING):
            assert self.settled(installed, "leave out", self.A, self.A, self.B) == [(201, self.A)]
        (told,) = events(caplog, "left out")
        assert (told["kind"], told["count"], told["ids"]) == ("tasks whose annotations disagree", 1, "1")

    def test_an_annotation_that_changes_the_majority_is_new(self, confirmed: Installation) -> None:
        services = confirmed.services(disagreement="majority")
        first = training.fine_tune(services, PROJECT, silent)
        confirmed.studio.confirm(1, [1, 1, 1], number=101, at="2027-01-01")
        confirmed.studio.confirm(1, [1, 1, 1], number=102, at="2027-01-02")
        fresh = collect.changed_since(collect.confirmed(services, PROJECT, CONFIGURATION), first)
        assert [(one.annotation.id, one.labels.tolist()) for one in fresh] == [(102, [1, 1, 1])]


class TestAccepted:
    @pytest.fixture
    def accepted(self, confirmed: Installation) -> Installation:
        """Of the twelve annotations 7 and 8 were made of predictions and nobody looked."""
        for place in (6, 7):
            confirmed.studio.annotations[place] = replace(confirmed.studio.annotations[place], accepted_unseen=True)
        return confirmed

    def test_annotations_accepted_unseen_are_counted_and_never_learnt(
        self, accepted: Installation, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            manifest = accepted.trained()
        assert tasks_of(manifest.seen) == set(TASKS) - {7, 8}
        assert manifest.accepted == 2
        assert manifest.batch["annotations"] == 10
        told = [(one["kind"], one["count"]) for one in events(caplog, "left out")]
        assert told == [("annotations that were accepted unseen", 2)]

    def test_annotations_accepted_unseen_do_not_count_towards_a_batch(self, accepted: Installation) -> None:
        manifest = accepted.trained()
        labelled = collect.confirmed(accepted.services(), PROJECT, CONFIGURATION)
        assert collect.changed_since(labelled, manifest) == []

    def test_a_person_who_annotated_the_same_frame_counts(self, accepted: Installation) -> None:
        accepted.studio.confirm(7, [0, 1, 1], number=70, at="before")
        labelled = collect.confirmed(accepted.services(), PROJECT, CONFIGURATION)
        assert [one.annotation.id for one in labelled if one.annotation.task == 7] == [70]

    def test_a_team_may_train_on_it(self, accepted: Installation) -> None:
        manifest = accepted.trained(accepted="train")
        assert tasks_of(manifest.seen) == set(TASKS)
        assert (manifest.accepted, manifest.settings["accepted"]) == (0, "train")
