"""The overview that the sidecar computes for the lead's page."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ml_backend.errors import StudioRefused
from ml_backend.loop import look_again as looking
from ml_backend.loop import overview as overviews
from ml_backend.loop.people import LONGEST_SECONDS, agreement, days, people
from ml_backend.loop.suspects import Contradiction, Suspect
from ml_backend.loop.watch import Watched, look
from ml_backend.services import Services
from ml_backend.store.overviews import Moment, Overview, measure
from ml_backend.studio.client import ConfirmedAnnotation
from tests.installation import CONFIGURATION, PROJECT, manifest_of, write_no_weights
from tests.loop.test_audit import told
from tests.loop.test_order import TASKS, Installation, folder, installed, lose, predictor, refreshed, studio
from tests.loop.test_remember import A, B, services
from tests.studio_stand_in import one_thread

__all__ = ["folder", "installed", "one_thread", "predictor", "studio"]
NAMES = {1: "Ada", 2: "Bea"}


def answered(installed: Installation, task: int, labels: list[int], by: int, **fields: object) -> None:
    """Add an answer to a task."""
    number = 100 * by + task
    installed.studio.confirm(task, labels, number)
    place = [one.id for one in installed.studio.annotations].index(number)
    installed.studio.annotations[place] = replace(installed.studio.annotations[place], by=by, **fields)  # type: ignore[arg-type]


def computed(made: Services) -> Overview:
    made.studio.people = lambda: NAMES  # type: ignore[method-assign]
    return overviews.write(made, PROJECT, None)


def test_every_frame_stands_somewhere(installed: Installation) -> None:
    made = services(installed)
    for task in TASKS[:3]:
        answered(installed, task, A, by=1)
    refreshed(made)
    answered(installed, TASKS[3], A, by=1, accepted_unseen=True)
    answered(installed, TASKS[4], B, by=2)
    found = computed(made).standing
    assert (found.frames, found.people, found.accepted, found.left) == (len(TASKS), 4, 1, len(TASKS) - 4)
    # Every frame that is still unanswered has the machine's label.
    assert found.machine == sum(found.bins) == len(TASKS) - 4


def test_it_is_kept_and_read_again(installed: Installation) -> None:
    made = services(installed)
    answered(installed, TASKS[0], A, by=1)
    refreshed(made)
    written = computed(made)
    assert made.overviews(PROJECT).read() == written
    assert [plan.epsilon for plan in written.plans] == list(overviews.EPSILONS)
    answers = [plan.answers for plan in written.plans]
    assert answers == sorted(answers, reverse=True)
    assert json.loads((made.folder(PROJECT) / "overview.json").read_text())["project"] == PROJECT


def test_the_curve_grows_with_the_answers_and_not_without(installed: Installation) -> None:
    made = services(installed)
    for task in TASKS[:2]:
        answered(installed, task, A, by=1)
        computed(made)
        computed(made)
    history = computed(made).history
    assert [one.people for one in history] == [1, 2]
    long = computed(made).model_copy(
        update={"history": tuple(Moment(at="", people=-n) for n in range(overviews.MOMENTS))}
    )
    made.overviews(PROJECT).write(long)
    assert len(computed(made).history) == overviews.MOMENTS // 2 + 1


def test_reasons_outlive_their_orders(installed: Installation) -> None:
    made = services(installed, k_max=4)
    answered(installed, TASKS[0], A, by=1)
    first = refreshed(made)
    assert sum(computed(made).asked[0].reasons.values()) == 4
    second = refreshed(made)
    made.orders(PROJECT).prune([])
    assert [one.order for one in computed(made).asked] == [first.about.name, second.about.name]


def test_versions_come_from_their_manifests_and_are_read_once(installed: Installation) -> None:
    made = services(installed)
    store = made.versions(PROJECT)
    figure = {"value": 0.8, "low": 0.7, "high": 0.9, "frames": 20, "patients": 5}
    batch, metrics = {"manual_share_validated": 0.25}, {"exact_match": figure}
    one = store.create(manifest_of(3, metrics=metrics, batch=batch, held_back="worse"), write_no_weights)
    found = computed(made).versions[0]
    assert (found.version, found.trained_on, found.corrected, found.held_back) == (one.version, 3, 0.25, "worse")
    assert found.exact_match == measure(figure)
    store.create(manifest_of(4), write_no_weights)
    (made.folder(PROJECT) / "versions" / one.version / "manifest.json").write_text("{")
    assert computed(made).versions[0] == found
    assert [version.number for version in computed(made).versions] == [1, 2]


def test_the_audit_says_how_right_each_symptom_is(installed: Installation) -> None:
    made = services(installed)
    told(made, 1, 2, 3)  # all of them healthy
    for task, labels in {1: A, 2: A, 3: B}.items():
        answered(installed, task, labels, by=task % 2 + 1)
    found = computed(made)
    assert found.audit.right is not None
    assert found.audit.right.value == pytest.approx(2 / 3)
    assert {name: one.value for name, one in found.audit.symptoms.items()} == {
        "Healthy": pytest.approx(2 / 3),
        "A-line": pytest.approx(2 / 3),
        "B-line": 1.0,
    }
    assert {one.name: one.kept.value if one.kept else None for one in found.people} == {"Ada": 1.0, "Bea": 0.5}


def test_names_are_hidden_where_the_setting_says_so(installed: Installation) -> None:
    answered(installed, TASKS[0], A, by=2)
    answered(installed, TASKS[1], A, by=1)
    assert [one.name for one in computed(services(installed)).people] == ["Ada", "Bea"]
    hidden = computed(services(installed, hide_names=True))
    assert [one.name for one in hidden.people] == ["Person 1", "Person 2"]
    assert "Ada" not in hidden.model_dump_json()


def test_a_token_that_may_not_list_people_costs_their_names_alone(installed: Installation) -> None:
    made = services(installed)
    answered(installed, TASKS[0], A, by=2)

    def refused() -> dict[int, str]:
        raise StudioRefused("no")

    made.studio.people = refused  # type: ignore[method-assign]
    assert [one.name for one in overviews.write(made, PROJECT, None).people] == ["Person 1"]


def annotation(number: int, task: int, labels: list[int], by: int | None, **fields: object) -> ConfirmedAnnotation:
    ticked = [name for name, label in zip(CONFIGURATION.values, labels, strict=True) if label]
    result = [{"from_name": "symptoms", "to_name": "image", "type": "choices", "value": {"choices": ticked}}]
    return ConfirmedAnnotation(number, task, f"{number:04d}", {}, result, by=by, **fields)  # type: ignore[arg-type]


def test_agreement_is_krippendorffs_alpha_of_frames_that_two_answered() -> None:
    said = [(1, A, A), (2, A, B), (3, B, B), (4, A, A)]
    twice = [
        annotation(10 * task + by, task, labels, by) for task, *both in said for by, labels in enumerate(both, start=1)
    ]
    once = [annotation(99, 5, B, 1), annotation(98, 6, A, None), annotation(97, 6, B, None)]
    found = {one.symptom: one for one in agreement([*twice, *once], CONFIGURATION)}
    # By hand: 8 values, 5 healthy and 3 not; 2 of 8 ordered pairs disagree, 2 * 5 * 3 / 7 are expected by chance.
    assert found["Healthy"].alpha == pytest.approx(1 - 2 / (2 * 5 * 3 / 7))
    assert (found["Healthy"].frames, found["Healthy"].people) == (4, 2)
    assert found["B-line"].alpha is None  # nobody ever saw one
    assert agreement(once, CONFIGURATION) == ()


def test_only_the_last_answer_of_a_person_counts() -> None:
    changed = [annotation(1, 1, B, 1), annotation(2, 1, A, 1), annotation(3, 1, A, 2), annotation(4, 2, B, 1)]
    found = agreement([*changed, annotation(5, 2, B, 2)], CONFIGURATION)
    assert found[0].alpha == pytest.approx(1.0)


def test_work_is_counted_by_person_and_day() -> None:
    noon = "2026-01-0{}T12:00:00Z"
    done = [
        annotation(1, 1, A, 1, seconds=30.0, created_at=noon.format(1)),
        annotation(2, 2, A, 1, seconds=9 * LONGEST_SECONDS, created_at=noon.format(1)),
        annotation(3, 3, A, 1, accepted_unseen=True, created_at=noon.format(1)),
        annotation(4, 4, A, 2, created_at=noon.format(2)),
        annotation(5, 5, A, None, created_at=noon.format(3)),
    ]
    ada, bea = people(done, [], {}, NAMES)
    assert (ada.answers, ada.timed, ada.accepted) == (2, 2, 1)
    assert ada.hours == pytest.approx((30 + LONGEST_SECONDS) / 3600)
    assert (bea.name, bea.answers, bea.timed, bea.kept) == ("Bea", 1, 0, None)
    assert days(done) == {"2026-01-01": 2, "2026-01-02": 1, "2026-01-03": 1}


def test_the_watch_writes_it_and_a_failure_costs_nothing_else(
    installed: Installation, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = installed.services(strategy="cover", validator="memory", redis_url=redis_url, poll_seconds=3600)
    made.studio.people = lambda: NAMES  # type: ignore[method-assign]
    answered(installed, TASKS[0], A, by=1)
    state = Watched()

    def fail(*_: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(overviews, "write", fail)
    look(made, PROJECT, state)
    assert made.orders(PROJECT).current_name() is not None
    monkeypatch.undo()
    state.polled = float("-inf")
    look(made, PROJECT, state)
    first = made.overviews(PROJECT).read()
    assert first is not None
    assert first.standing.people == 1
    state.polled = float("-inf")
    look(made, PROJECT, state)
    assert made.overviews(PROJECT).read() == first
    answered(installed, TASKS[1], A, by=1)
    state.polled = float("-inf")
    state.overview_again = float("inf")  # as if the last overview had taken long
    look(made, PROJECT, state)
    assert made.overviews(PROJECT).read() == first
    state.polled = state.overview_again = float("-inf")
    look(made, PROJECT, state)
    second = made.overviews(PROJECT).read()
    assert second is not None
    assert second.standing.people == 2


def test_what_deserves_a_second_look(installed: Installation) -> None:
    made = services(installed)
    for task in TASKS[:4]:
        answered(installed, task, A, by=1)
    answered(installed, TASKS[0], B, by=2)
    answered(installed, TASKS[1], A, by=2)  # agrees
    answered(installed, TASKS[5], B, by=2, accepted_unseen=True)
    answered(installed, TASKS[2], A, by=2, accepted_unseen=True)  # accepted unseen, but somebody else looked
    lose(installed.studio, TASKS[8])
    order = refreshed(made)
    again = computed(made).again
    assert again.order == order.about.name
    assert [(one.task, one.why) for one in again.disagreements.first] == [(TASKS[0], "Healthy; A-line")]
    assert [one.task for one in again.accepted.first] == [TASKS[5]]
    assert [one.task for one in again.unreadable.first] == [TASKS[8]]
    assert all(one.url.endswith(f"{one.task}.png") for one in again.disagreements.first + again.accepted.first)


def test_suspects_are_looked_for_once_for_each_order(installed: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    made, asked = services(installed), list[int]()
    suspect = Suspect(TASKS[0], 0.9, ("Healthy",), (Contradiction("A-line", False, 0.9, None),), (TASKS[1],), "")

    def found(*arguments: object) -> list[Suspect]:
        asked.append(1)
        return [suspect] * 60

    monkeypatch.setattr(looking, "suspects_among", found)
    answered(installed, TASKS[0], A, by=1)
    refreshed(made)
    first = computed(made).again.suspects
    assert (first.count, len(first.first), first.first[0].task) == (60, looking.FIRST, TASKS[0])
    assert computed(made).again.suspects == first
    assert len(asked) == 1
    refreshed(made)
    computed(made)
    assert len(asked) == 2
