"""Putting the queue in order: what is pushed, in which order it is served, and what survives when it goes wrong."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml_backend.errors import StudioRefused
from ml_backend.frames.frame import Frame
from ml_backend.frames.predictor import Predictor
from ml_backend.frames.scores import concatenate
from ml_backend.loop import order as ordering
from ml_backend.msml.sketch import sketch
from ml_backend.services import Services
from ml_backend.store.orders import WORDS, About, Order, OrderStore
from ml_backend.store.versions import Manifest
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.payloads import Checker, default_of
from ml_backend.tsal.acquisition import STRATEGIES, score
from ml_backend.tsal.batch import candidates, diverse
from ml_backend.tsal.diversity import spread
from tests.events import events
from tests.installation import CONFIGURATION, PROJECT, XML, make_version, settings_in, task_with_frame
from tests.studio_stand_in import Died, StudioStandIn, one_thread

__all__ = ["one_thread"]

TASKS = range(1, 15)
UNREADABLE = (4, 9)
ALL_OTHER = XML.replace("Healthy", "Normal").replace("A-line", "Y-line").replace("B-line", "Z-line")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames that all tests share; what they put in order lies in folders of their own."""
    return tmp_path_factory.mktemp("ordering")


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Predictor:
    return Services(settings_in(folder)).predictor


@pytest.fixture
def studio(folder: Path) -> StudioStandIn:
    studio = StudioStandIn()
    studio.add(folder, *TASKS)
    return studio


@dataclass
class Installation:
    """One project on its own data folder; the network and its cache are shared."""

    folder: Path
    data: Path
    studio: StudioStandIn
    predictor: Predictor

    def services(self, **changes: object) -> Services:
        """Services on this data folder; without ``changes`` a strategy alone makes the order."""
        settings: dict[str, Any] = {
            "data_dir": self.data,
            "strategy": "adaptive",
            "validator": "adaptive",
            "audit": 0,
            "hold_out": 0,
        } | changes
        services = Services(settings_in(self.folder, **settings))
        services.studio = self.studio  # type: ignore[assignment]
        services.predictor = self.predictor
        return services

    def version(self, seed: int = 1, **changes: object) -> Manifest:
        """Train a version, as it were, and activate it; ``changes`` go into its manifest."""
        services = self.services()
        tasks = [task_with_frame(self.folder, number) for number in (1, 2, 3, 5)]
        manifest = make_version(services, tasks, seed, **changes)
        services.versions(PROJECT).activate(manifest.version, by="a test")
        return manifest


@pytest.fixture
def installed(folder: Path, tmp_path: Path, studio: StudioStandIn, predictor: Predictor) -> Installation:
    return Installation(folder, tmp_path / "data", studio, predictor)


def silent(stage: str, done: int, total: int) -> None:
    return None


def refreshed(services: Services) -> Order:
    order = ordering.refresh(services, PROJECT, silent)
    assert order is not None
    return order


def lose(studio: StudioStandIn, *tasks: int) -> None:
    for task in tasks:
        studio.task_data[task] = {"image": f"/data/local-files/?d=nowhere-{task}.png"}


def assert_served_in(order: Order, studio: StudioStandIn) -> None:
    """Label Studio serves the tasks of the order, one position each in [0, 1], and shows its predictions."""
    served = studio.served()
    assert studio.model_version == order.about.name
    assert studio.sampling == "Uncertainty sampling"
    assert [one["task"] for one in served] == order.tasks.tolist()
    positions = [one["score"] for one in served]
    assert positions == sorted(set(positions))
    assert 0 <= positions[0] <= positions[-1] <= 1
    checker = Checker(Configuration.parse(studio.xml))
    assert [checker.errors(one) for one in served] == [[]] * len(served)


class TestRefresh:
    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_the_most_informative_come_first(self, installed: Installation, strategy: str) -> None:
        lose(installed.studio, *UNREADABLE)
        installed.studio.confirm(7, [1, 0, 0])
        manifest = installed.version()
        services = installed.services(strategy=strategy)
        order = refreshed(services)
        readable = [task for task in TASKS if task not in (*UNREADABLE, 7)]
        frames = [Frame(task, installed.studio.task_data[task]["image"]) for task in readable]
        store = services.versions(PROJECT)
        scores = concatenate(list(installed.predictor.scores(frames, manifest, store)), 3)
        values = score(scores.probabilities, strategy, np.random.default_rng([0, 1]))
        places = np.argsort(values, kind="stable")
        assert order.tasks.tolist() == [*np.array(readable)[places], *UNREADABLE]
        assert set(order.reasons[:4]) == {"random" if strategy == "random" else "uncertain"}
        assert order.reasons[4:] == ("later",) * 7 + ("unreadable",) * 2
        np.testing.assert_array_equal(order.informativeness, [*values[places], np.inf, np.inf])
        assert (np.diff(order.informativeness[:-2]) >= 0).all()
        assert (order.about.version, order.about.strategy) == (manifest.version, strategy)
        assert list(order.about.unreadable) == list(UNREADABLE)
        assert set(order.about.seconds) == {"scoring", "push", "refresh"}
        assert_served_in(order, installed.studio)
        assert services.orders(PROJECT).current_name() == order.about.name == f"{WORDS}{manifest.version}.1"

    def test_a_prediction_carries_the_validated_label_and_what_people_check(self, installed: Installation) -> None:
        lose(installed.studio, *UNREADABLE)
        manifest = installed.version()
        services = installed.services()
        refreshed(services)
        frames = [Frame(task, data["image"]) for task, data in installed.studio.task_data.items()]
        scores = concatenate(list(installed.predictor.scores(frames, manifest, services.versions(PROJECT))), 3)
        served = {one["task"]: one for one in installed.studio.served()}
        assert sorted(served) == list(TASKS)
        for task in UNREADABLE:
            assert served[task]["result"] == []
        for row, task in enumerate(scores.tasks.tolist()):
            default = default_of(served[task], CONFIGURATION)
            assert default.labels is not None
            assert default.plain is not None
            np.testing.assert_array_equal(default.labels, scores.labels[row])
            np.testing.assert_array_equal(default.plain, scores.plain[row])
            assert list(default.audit["probabilities"]) == ["Healthy", "A-line", "B-line"]
            assert list(default.audit["probabilities"].values()) == pytest.approx(scores.probabilities[row], abs=1e-4)
            assert default.audit["margin"] == pytest.approx(scores.margins[row], abs=1e-4)
            assert default.audit["distance"] == pytest.approx(scores.distances[row], abs=1e-4)
            json.dumps(served[task])

    def test_before_the_first_version_frames_that_differ_come_first(self, installed: Installation) -> None:
        lose(installed.studio, *UNREADABLE)
        services = installed.services(k_max=3)
        order = refreshed(services)
        readable = [task for task in TASKS if task not in UNREADABLE]
        frames = [Frame(task, installed.studio.task_data[task]["image"]) for task in readable]
        (chunk,) = installed.predictor.activations(frames, 3)
        features = sketch(chunk.activations).astype(np.float32)
        expected = np.array(readable)[spread(features, 3, np.random.default_rng(0))].tolist()
        assert order.tasks.tolist() == [*expected, *UNREADABLE]
        assert expected != readable
        assert (order.about.name, order.about.version, order.about.strategy) == (
            f"{WORDS}diversity.1",
            None,
            "diversity",
        )
        assert [one["result"] for one in installed.studio.served()] == [[]] * len(TASKS)
        assert_served_in(order, installed.studio)

    def test_progress_is_reported(self, installed: Installation) -> None:
        told: list[tuple[str, int, int]] = []
        ordering.refresh(installed.services(), PROJECT, lambda *report: told.append(report))
        assert told == [("scoring", len(TASKS), len(TASKS)), ("pushing", 0, len(TASKS))]

    def test_nothing_to_annotate_changes_nothing(self, installed: Installation) -> None:
        for task in TASKS:
            installed.studio.confirm(task, [1, 0, 0])
        assert ordering.refresh(installed.services(), PROJECT, silent) is None
        assert installed.studio.model_version is None
        assert installed.services().orders(PROJECT).current() is None

    def test_only_frames_that_nobody_can_read_is_an_order_too(self, installed: Installation) -> None:
        lose(installed.studio, *TASKS)
        installed.version()
        order = refreshed(installed.services())
        assert order.tasks.tolist() == list(TASKS)
        assert_served_in(order, installed.studio)

    def test_a_task_without_an_address_is_unreadable(self, installed: Installation) -> None:
        installed.studio.task_data[3] = {"text": "no image"}
        assert list(refreshed(installed.services()).about.unreadable) == [3]

    def test_an_incomplete_push_changes_nothing(self, installed: Installation) -> None:
        before = refreshed(installed.services())
        manifest = installed.version()
        installed.studio.dropped = {5}
        services = installed.services()
        with pytest.raises(StudioRefused, match="14 were sent and 13 stored"):
            ordering.refresh(services, PROJECT, silent)
        assert installed.studio.model_version == before.about.name
        current = services.orders(PROJECT).current()
        assert current is not None
        assert current.about == before.about
        assert ordering.needs_refresh(services, PROJECT, False) == "another version is active"
        assert_served_in(before, installed.studio)
        # What was taken of it lies in Label Studio, so the next one has another name.
        installed.studio.dropped = set()
        after = refreshed(services)
        assert after.about.name == f"{WORDS}{manifest.version}.2"
        assert_served_in(after, installed.studio)

    def test_after_a_crash_between_push_and_switch_the_next_order_has_another_name(
        self, installed: Installation
    ) -> None:
        manifest = installed.version()
        installed.studio.dies = True
        with pytest.raises(Died):
            ordering.refresh(installed.services(), PROJECT, silent)
        installed.studio.dies = False
        assert installed.studio.model_version is None
        order = refreshed(installed.services())
        assert order.about.name == f"{WORDS}{manifest.version}.2"
        assert installed.studio.model_versions(PROJECT) == [
            f"{WORDS}{manifest.version}.1",
            f"{WORDS}{manifest.version}.2",
        ]
        assert_served_in(order, installed.studio)

    def test_nothing_is_pushed_if_the_order_cannot_be_saved(
        self, installed: Installation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(self: OrderStore, order: Order) -> None:
            raise OSError(28, "No space left on device")

        installed.version()
        with monkeypatch.context() as broken:
            broken.setattr(OrderStore, "save", full)
            for _ in range(3):
                with pytest.raises(OSError, match="No space"):
                    ordering.refresh(installed.services(), PROJECT, silent)
        assert installed.studio.model_versions(PROJECT) == []
        assert_served_in(refreshed(installed.services()), installed.studio)

    def test_a_disk_that_fills_up_during_the_push_does_not_waste_it(
        self, installed: Installation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save = OrderStore.save
        saved: list[str] = []

        def once(self: OrderStore, order: Order) -> None:
            if saved:
                raise OSError(28, "No space left on device")
            saved.append(order.about.name)
            save(self, order)

        installed.version()
        monkeypatch.setattr(OrderStore, "save", once)
        services = installed.services()
        order = refreshed(services)
        assert saved == [order.about.name]
        assert ordering.needs_refresh(services, PROJECT, False) is None
        assert_served_in(order, installed.studio)

    def test_pushes_that_fail_leave_one_order_behind_and_no_name_is_taken_twice(self, installed: Installation) -> None:
        installed.version(1)
        services = installed.services()
        older, before = refreshed(services).about.name, refreshed(services)
        kept = {older, before.about.name}  # of both Label Studio has the predictions
        second = installed.version(2)
        installed.studio.dropped = set(TASKS)
        folder = services.folder(PROJECT) / "orders"
        for serial in (1, 2, 3):
            with pytest.raises(StudioRefused):
                ordering.refresh(services, PROJECT, silent)
            names = {path.name.removesuffix(".npz") for path in folder.glob("*.npz")}
            assert names == kept | {f"{WORDS}{second.version}.{serial}"}
        current = services.orders(PROJECT).current()
        assert current is not None
        assert current.tasks.tolist() == before.tasks.tolist()
        installed.studio.dropped = set()
        assert refreshed(services).about.name == f"{WORDS}{second.version}.4"
        assert {path.name.removesuffix(".json") for path in folder.glob("*.json")} == kept | {
            f"{WORDS}{second.version}.4"
        }

    def test_an_order_that_cannot_be_read_is_made_anew(self, installed: Installation) -> None:
        installed.version()
        services = installed.services()
        before = refreshed(services).about.name
        (services.folder(PROJECT) / "orders" / f"{before}.npz").write_bytes(b"")
        assert ordering.needs_refresh(services, PROJECT, False) == "the order that was pushed cannot be read"
        after = ordering.refresh_if_needed(services, PROJECT, silent, look_for_frames=False)
        assert after is not None
        assert after.about.name != before
        assert ordering.needs_refresh(services, PROJECT, False) is None

    def test_two_at_once_push_two_orders(self, installed: Installation) -> None:
        manifest = installed.version()
        with ThreadPoolExecutor(3) as pool:
            orders = list(pool.map(lambda _: refreshed(installed.services()), range(3)))
        names = [f"{WORDS}{manifest.version}.{serial}" for serial in (1, 2, 3)]
        assert sorted(order.about.name for order in orders) == installed.studio.model_versions(PROJECT) == names
        assert installed.studio.model_version == names[-1]
        assert installed.services().orders(PROJECT).current_name() == names[-1]
        assert len(installed.studio.served()) == len(TASKS)

    def test_a_prediction_that_the_check_refuses_goes_out_empty(
        self, installed: Installation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        # The check agrees with what we write; that it may not is what this is about.
        accepted = Checker.errors

        def errors(self: Checker, payload: dict[str, Any]) -> list[str]:
            return ["not this one"] if payload["task"] == 5 and payload["result"] else accepted(self, payload)

        monkeypatch.setattr(Checker, "errors", errors)
        installed.version()
        with caplog.at_level(logging.ERROR):
            order = refreshed(installed.services())
        empty = [one["task"] for one in installed.studio.served() if one["result"] == []]
        assert empty == [5]
        assert len(order.tasks) == len(TASKS)
        assert [one["task"] for one in events(caplog, "prediction refused")] == [5]


CLIPS = {task: f"clip {(task - 1) // 3}" for task in TASKS}  # of three frames each, the last of two


class TestDiverse:
    """With 14 frames and a K_max of 4, all are candidates; with a K_max of 1 the ten most informative ones."""

    @pytest.fixture
    def clips(self, installed: Installation) -> Installation:
        for task in TASKS:
            installed.studio.add(installed.folder, task, clip=CLIPS[task])
        return installed

    def scores(self, installed: Installation, manifest: Manifest, strategy: str) -> dict[int, float]:
        frames = [Frame(task, installed.studio.task_data[task]["image"]) for task in TASKS]
        store = installed.services().versions(PROJECT)
        scores = concatenate(list(installed.predictor.scores(frames, manifest, store)), 3)
        values = score(scores.probabilities, strategy, np.random.default_rng([0, manifest.number]))
        return dict(zip(TASKS, values.tolist(), strict=True))

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_the_first_are_of_different_clips(self, clips: Installation, strategy: str) -> None:
        manifest = clips.version()
        order = refreshed(clips.services(strategy=f"{strategy}-diverse"))
        assert order.about.strategy == f"{strategy}-diverse"
        asked = [CLIPS[task] for task in order.tasks.tolist()]
        assert sorted(asked[:5]) == sorted(asked[5:10]) == sorted(set(CLIPS.values()))
        assert sorted(order.tasks.tolist()) == list(TASKS)
        scores = self.scores(clips, manifest, strategy)
        for clip in set(asked):  # of one clip the most informative goes first
            of_it = [scores[task] for task in order.tasks.tolist() if CLIPS[task] == clip]
            assert of_it == sorted(of_it)
        assert order.informativeness.tolist() == sorted(scores.values())
        assert_served_in(order, clips.studio)
        audits = {default_of(one, CONFIGURATION).audit["strategy"] for one in clips.studio.served()}
        assert audits == {f"{strategy}-diverse"}

    def test_it_is_the_order_of_the_algorithm_on_the_trunks_features(self, clips: Installation) -> None:
        manifest = clips.version(clips={"clip 2": 1})
        order = refreshed(clips.services(strategy="binmin-diverse"))
        frames = [Frame(task, clips.studio.task_data[task]["image"]) for task in TASKS]
        (chunk,) = clips.predictor.activations(frames, 3)
        values = np.array(list(self.scores(clips, manifest, "binmin").values()))
        rows = candidates(values, 4)
        numbers = [int(CLIPS[task][-1]) for task in TASKS]
        expected = diverse(
            values[rows],
            chunk.activations.mean(axis=(2, 3))[rows],
            np.array(numbers)[rows],
            np.array([int(number == 2) for number in numbers])[rows],
            4,
            np.random.default_rng([0, manifest.number]),
        )
        assert order.tasks.tolist() == (rows[expected] + 1).tolist()

    @pytest.mark.parametrize(
        ("positives", "removed", "rare"),
        [((5, 0, 5), "", 1), ((5, 0, 3), '<Choice value="A-line"/>', 2)],
        ids=["the rarest", "not one that was removed"],
    )
    def test_every_second_frame_is_for_a_rare_symptom(
        self, clips: Installation, positives: tuple[int, ...], removed: str, rare: int
    ) -> None:
        clips.studio.xml = XML.replace(removed, "")
        manifest = clips.version(positives=dict(zip(CONFIGURATION.label_names, positives, strict=True)))
        plain = clips.services(strategy="mlm-diverse")
        order = refreshed(plain).tasks.tolist()
        frames = [Frame(task, clips.studio.task_data[task]["image"]) for task in TASKS]
        (scores,) = clips.predictor.scores(frames, manifest, plain.versions(PROJECT))
        unsure = np.abs(scores.probabilities[:, rare] - 0.5)
        by_margin = self.scores(clips, manifest, "mlm")
        assert order[0] == min(TASKS, key=by_margin.__getitem__)
        # Of a batch of 4 the second and the fourth: the nearest to 0.5 of the clips that gave nothing to the batch yet.
        first, third = CLIPS[order[0]], CLIPS[order[2]]
        free = [task for task in TASKS if CLIPS[task] not in (first, third)]
        assert order[1] == min(free, key=lambda task: unsure[task - 1])
        free = [task for task in free if CLIPS[task] != CLIPS[order[1]]]
        assert order[3] == min(free, key=lambda task: unsure[task - 1])
        assert sorted(order) == list(TASKS)

    def test_clips_that_were_asked_come_later(self, clips: Installation) -> None:
        clips.version(clips={"clip 1": 2, "clip 3": 1, "clip 9": 5, "task 1": 7})
        order = refreshed(clips.services(strategy="mlm-diverse"))
        asked = [CLIPS[task] for task in order.tasks.tolist()]
        assert sorted(asked[:3]) == ["clip 0", "clip 2", "clip 4"]
        assert sorted(asked[3:7]) == ["clip 0", "clip 2", "clip 3", "clip 4"]
        # The last clip has two frames only; of the others it is the third turn, with the first of clip 1.
        assert sorted(asked[7:11]) == ["clip 0", "clip 1", "clip 2", "clip 3"]
        assert asked[11:] in (["clip 1", "clip 3", "clip 1"], ["clip 3", "clip 1", "clip 1"])

    def test_frames_without_a_clip_are_clips_of_their_own(self, installed: Installation) -> None:
        manifest = installed.version(clips={"task 3": 4})
        order = refreshed(installed.services(strategy="mlm-diverse", k_max=14))
        assert order.tasks.tolist()[-1] == 3
        assert sorted(order.tasks.tolist()) == list(TASKS)
        best = min(set(TASKS) - {3}, key=self.scores(installed, manifest, "mlm").__getitem__)
        assert order.tasks.tolist()[0] == best

    def test_unreadable_frames_stay_last(self, clips: Installation) -> None:
        lose(clips.studio, *UNREADABLE)
        clips.version()
        order = refreshed(clips.services(strategy="mlm-diverse"))
        assert order.tasks.tolist()[-2:] == list(UNREADABLE)
        assert order.informativeness[-2:].tolist() == [np.inf, np.inf]
        assert_served_in(order, clips.studio)

    def test_the_same_version_gives_the_same_order(self, clips: Installation) -> None:
        clips.version()
        first, second = (refreshed(clips.services(strategy="random-diverse")) for _ in range(2))
        assert first.tasks.tolist() == second.tasks.tolist()


class TestAdaptive:
    @pytest.mark.parametrize(
        ("choice", "strategy", "validator"),
        [
            ({}, "mlm", "table"),
            ({"strategy": "binmin", "validator": "plain", "reasons": ["a", "b"]}, "binmin", "plain"),
            ({"strategy": "random", "validator": "table", "reasons": []}, "random", "table"),
        ],
    )
    def test_the_versions_choice_is_followed(
        self, installed: Installation, choice: dict[str, Any], strategy: str, validator: str
    ) -> None:
        manifest = installed.version(choice=choice)
        services = installed.services()
        assert services.settings.strategy == "adaptive"
        assert ordering.strategy_of(services, manifest) == f"{strategy}-diverse"
        order = refreshed(services)
        assert (order.about.strategy, order.about.validator) == (f"{strategy}-diverse", validator)
        named = refreshed(installed.services(strategy=f"{strategy}-diverse", validator=validator))
        assert named.tasks.tolist() == order.tasks.tolist()

    @pytest.mark.parametrize("strategy", ["mlm", "random", "lc-diverse"])
    def test_a_strategy_that_is_set_is_taken_whatever_was_chosen(self, installed: Installation, strategy: str) -> None:
        manifest = installed.version(choice={"strategy": "mle", "validator": "plain"})
        assert ordering.strategy_of(installed.services(strategy=strategy), manifest) == strategy

    def test_before_the_first_version_there_is_nothing_to_choose(self, installed: Installation) -> None:
        order = refreshed(installed.services())
        assert (order.about.strategy, order.about.validator) == ("diversity", None)


class TestNeedsRefresh:
    def test_reasons(self, installed: Installation, folder: Path) -> None:
        def reason(look_for_frames: bool = False, **changes: object) -> str | None:
            return ordering.needs_refresh(installed.services(**changes), PROJECT, look_for_frames)

        studio = installed.studio
        assert reason(look_for_frames=True) == "14 new frames"
        order = refreshed(installed.services())
        assert reason(look_for_frames=True) is None
        assert reason(strategy="lc") is None  # there is nothing yet that a strategy could rank

        installed.version()
        assert reason() == "another version is active"
        order = refreshed(installed.services())
        assert reason(look_for_frames=True) is None
        assert reason(strategy="lc") == "another strategy is set"

        assert reason(strategy="mlm") == "another strategy is set"
        assert reason(strategy="mlm-diverse") is None  # what adaptive has come to
        assert reason(validator="plain") == "another validator is set"
        assert reason(validator="table") is None

        studio.model_version = "by hand"
        assert reason() == "Label Studio serves another version"
        studio.model_version = order.about.name

        listed = studio.listed
        studio.add(folder, 100, 101)
        assert reason() is None
        assert studio.listed == listed
        assert reason(look_for_frames=True) == "2 new frames"
        studio.confirm(100, [1, 0, 0])
        studio.confirm(101, [0, 1, 0])
        assert reason(look_for_frames=True) is None

        assert reason(audit=0.1) == "another TSAL_AUDIT is set"
        assert reason(hold_out=0.1) == "another TSAL_HOLD_OUT is set"

        studio.xml = XML.replace("A-line", "Z-line")
        assert reason() == "the symptoms changed"
        assert refreshed(installed.services()).about.strategy == "mlm-diverse"
        assert reason() is None
        studio.xml = ALL_OTHER
        assert reason() == "another version is active"
        assert refreshed(installed.services()).about.strategy == "diversity"
        assert reason() is None

    def test_the_choice_of_the_active_version_decides(self, installed: Installation) -> None:
        def reason(**changes: object) -> str | None:
            return ordering.needs_refresh(installed.services(**changes), PROJECT, False)

        chosen = {"strategy": "mle", "validator": "plain"}
        manifest = installed.version(choice=chosen)
        refreshed(installed.services(strategy="mlm-diverse", validator="table"))
        assert reason(strategy="mlm-diverse", validator="table") is None
        assert reason(strategy="adaptive", validator="table") == "another strategy is set"
        assert reason(strategy="mlm-diverse", validator="adaptive") == "another validator is set"
        order = refreshed(installed.services())
        assert order.about.name == f"{WORDS}{manifest.version}.2"
        assert reason() is None
        assert reason(strategy="mle-diverse", validator="plain") is None
        installed.version(2, choice={"strategy": "lc", "validator": "plain"})
        assert reason() == "another version is active"
        assert refreshed(installed.services()).about.strategy == "lc-diverse"
        assert reason() is None


def test_a_look_notes_since_when_a_symptom_is_there(installed: Installation) -> None:
    installed.version()
    services = installed.services()
    ordering.needs_refresh(services, PROJECT, False)
    installed.studio.xml = installed.studio.xml.replace("</Choices>", '<Choice value="Z-line"/></Choices>')
    before = datetime.now(timezone.utc)
    ordering.needs_refresh(services, PROJECT, False)
    ((since, until),) = services.symptoms(PROJECT).read()["Z-line"]
    assert until is None
    assert since is not None
    assert before <= since <= datetime.now(timezone.utc)


class TestActiveManifest:
    def test_none_before_the_first_version(self, installed: Installation) -> None:
        assert ordering.active_manifest(installed.services(), PROJECT, CONFIGURATION) is None

    def test_the_active_one(self, installed: Installation) -> None:
        installed.version(1)
        second = installed.version(2)
        assert ordering.active_manifest(installed.services(), PROJECT, CONFIGURATION) == second

    @pytest.mark.parametrize(
        "change",
        [
            lambda xml: xml.replace("A-line", "Z-line"),
            lambda xml: xml.replace('<Choice value="A-line"/>', ""),
            lambda xml: xml.replace("</Choices>", '<Choice value="Z-line"/></Choices>'),
        ],
        ids=["renamed", "removed", "added"],
    )
    def test_a_version_that_shares_symptoms_goes_on(
        self, installed: Installation, change: Callable[[str], str], caplog: pytest.LogCaptureFixture
    ) -> None:
        manifest = installed.version()
        with caplog.at_level(logging.WARNING):
            found = ordering.active_manifest(installed.services(), PROJECT, Configuration.parse(change(XML)))
        assert found == manifest
        assert caplog.messages == []

    def test_a_version_that_shares_no_symptom_is_not_used_and_that_is_said(
        self, installed: Installation, caplog: pytest.LogCaptureFixture
    ) -> None:
        manifest = installed.version()
        with caplog.at_level(logging.WARNING):
            found = ordering.active_manifest(installed.services(), PROJECT, Configuration.parse(ALL_OTHER))
        assert found is None
        (told,) = events(caplog, "version not used")
        assert (told["project"], told["version"]) == (PROJECT, manifest.version)
        assert told["reason"].startswith(
            str(ordering.unfit(installed.services(), manifest, Configuration.parse(ALL_OTHER)))
        )

    def test_a_version_of_another_backbone_is_not_used(
        self, installed: Installation, caplog: pytest.LogCaptureFixture
    ) -> None:
        installed.version()
        services = installed.services(backbone="resnet50")
        with caplog.at_level(logging.WARNING):
            assert ordering.active_manifest(services, PROJECT, CONFIGURATION) is None
        (told,) = events(caplog, "version not used")
        assert "resnet50" in told["reason"]


class TestPrune:
    def pushed(self, installed: Installation, count: int, first: int = 1) -> list[str]:
        """Push so many orders; returns their names, oldest first."""
        services, studio = installed.services(), installed.studio
        names = [f"{WORDS}diversity.{serial}" for serial in range(first, first + count)]
        for serial, name in enumerate(names, start=first):
            about = About(
                name=name,
                version=None,
                strategy="diversity",
                created_at=f"2026-{serial:04}",
                seed=0,
                unreadable={},
                seconds={},
            )
            services.orders(PROJECT).save(Order(about, np.array([1]), np.array([0.0])))
            services.orders(PROJECT).activate(name)
            studio.predictions.append({"task": 1, "model_version": name, "score": 0.0, "result": []})
            studio.model_version = name
        return names

    @pytest.mark.parametrize("keep", [1, 2, 3])
    def test_the_newest_orders_stay_and_each_call_removes_one(self, installed: Installation, keep: int) -> None:
        names = self.pushed(installed, 12)
        services = installed.services(keep_pushed=keep)
        removed = [ordering.prune(services, PROJECT) for _ in range(12 - keep)]
        assert removed == names[: 12 - keep]
        assert ordering.prune(services, PROJECT) is None
        assert installed.studio.model_versions(PROJECT) == sorted(names[12 - keep :])
        for name in names:
            assert (services.orders(PROJECT).get(name) is not None) == (name in names[12 - keep :])

    def test_the_current_order_is_never_removed(self, installed: Installation) -> None:
        names = self.pushed(installed, 4)
        installed.studio.model_version = names[0]  # set by hand
        installed.services().orders(PROJECT).activate(names[1])
        services = installed.services(keep_pushed=1)
        while ordering.prune(services, PROJECT):
            pass
        assert installed.studio.model_versions(PROJECT) == names[:2]
        assert services.orders(PROJECT).get(names[0]) is not None
        assert services.orders(PROJECT).get(names[1]) is not None

    def test_nothing_is_removed_while_the_shown_order_has_no_frames_left(self, installed: Installation) -> None:
        names = self.pushed(installed, 4)
        shown = installed.studio.model_version
        installed.studio.predictions = [one for one in installed.studio.predictions if one["model_version"] != shown]
        assert ordering.prune(installed.services(keep_pushed=1), PROJECT) is None
        assert set(installed.studio.model_versions(PROJECT)) == set(names) - {shown}

    def test_predictions_of_others_are_not_touched(self, installed: Installation) -> None:
        self.pushed(installed, 1)
        for name in ("someone else's", "msml-0001", "diversity", "untrained"):
            installed.studio.predictions.append({"task": 1, "model_version": name, "score": 0.0, "result": []})
        assert ordering.prune(installed.services(keep_pushed=1), PROJECT) is None

    def test_an_order_that_never_served_is_removed_first(self, installed: Installation) -> None:
        names = self.pushed(installed, 2)
        unknown = "msml-0009-0123abcd.1"
        installed.studio.predictions.append({"task": 1, "model_version": unknown, "score": 0.0, "result": []})
        services = installed.services(keep_pushed=1)
        assert [ordering.prune(services, PROJECT) for _ in range(3)] == [unknown, names[0], None]

    @pytest.mark.parametrize(("frames", "most"), [(0, 30), (1, 30), (6_666, 30), (10_000, 20), (40_000, 5), (10**6, 5)])
    def test_fewer_orders_stay_where_they_are_large(self, frames: int, most: int) -> None:
        assert ordering.pile(frames) == most

    def test_each_refresh_leaves_no_more_than_the_pile(self, installed: Installation) -> None:
        names = self.pushed(installed, 50)
        services = installed.services(keep_pushed=2)
        order = refreshed(services)
        pile = [*names[-ordering.PILE - 1 :], order.about.name]
        assert sorted(installed.studio.model_versions(PROJECT)) == sorted(pile)

    def test_the_bound_counts_orders_that_cannot_be_removed(self, installed: Installation) -> None:
        names = self.pushed(installed, 4)
        installed.studio.model_version = names[0]  # set by hand: it serves, beside the current one
        services = installed.services(keep_pushed=3)
        assert ordering.prune(services, PROJECT) == names[1]
        assert ordering.prune(services, PROJECT) is None

    def test_an_order_serves_also_where_old_ones_cannot_be_removed(
        self, installed: Installation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        names = self.pushed(installed, 50)
        services = installed.services(keep_pushed=2)

        def refused(project: int, name: str) -> None:
            raise StudioRefused(f"{name} stays")

        monkeypatch.setattr(services.studio, "delete_model_version", refused)
        with caplog.at_level(logging.WARNING):
            order = refreshed(services)
        assert installed.studio.model_version == order.about.name
        assert len(installed.studio.model_versions(PROJECT)) == len(names) + 1
        assert len(events(caplog, "old predictions stay")) == 1
