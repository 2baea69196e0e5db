"""The census: every frame of a project, its label, and where the label comes from."""

from __future__ import annotations

from dataclasses import replace

from ml_backend.loop import overview as overviews
from ml_backend.services import Services
from ml_backend.store.census import Entry
from ml_backend.studio.configuration import NOT_ASSESSABLE
from tests.installation import CONFIGURATION, NO_ANSWER, PROJECT, task_with_frame
from tests.loop.test_finish import begun
from tests.loop.test_order import TASKS, Installation, folder, installed, lose, predictor, refreshed, studio
from tests.loop.test_overview import answered
from tests.loop.test_remember import A, B, services
from tests.studio_stand_in import one_thread

__all__ = ["folder", "installed", "one_thread", "predictor", "studio"]


def counted(made: Services) -> dict[int, Entry]:
    made.studio.people = dict  # type: ignore[method-assign]
    overviews.write(made, PROJECT, None)
    census = made.census(PROJECT).read()
    assert census is not None
    return {one.task: one for one in census.frames}


def test_every_frame_is_counted_once_with_its_origin(installed: Installation) -> None:
    data = {"clip": "a clip", "patient": "p1", "time": "0.5"}
    installed.studio.task_data[TASKS[2]] = task_with_frame(installed.folder, TASKS[2], **data)["data"]
    found = counted(services(installed))
    assert sorted(found) == list(TASKS)
    one = found[TASKS[2]]
    assert (one.clip, one.patient, one.time, one.url) == ("a clip", "p1", 0.5, installed.studio.task_data[3]["image"])
    assert found[TASKS[3]].clip == found[TASKS[3]].patient == f"task {TASKS[3]}"


def test_before_any_answer_nothing_is_labelled(installed: Installation) -> None:
    made = services(installed)
    assert {one.source for one in counted(made).values()} == {"not yet"}
    order = refreshed(made)
    found = counted(made)
    assert {(one.source, one.label, one.confidence) for one in found.values()} == {("not yet", "", None)}
    assert [found[task].reason for task in order.tasks.tolist()] == list(order.reasons)


def test_the_machines_labels_are_those_of_the_order(installed: Installation) -> None:
    installed.studio.confirm(TASKS[0], A)
    made = services(installed)
    order = refreshed(made)
    found = counted(made)
    assert order.told is not None
    for task, labels, confidence in zip(order.tasks.tolist(), order.told.labels, order.told.confidence, strict=True):
        one = found[task]
        assert one.label == ", ".join(CONFIGURATION.label_set.decode(labels))
        assert (one.source, one.confidence) == ("memory", float(confidence))


def test_a_networks_labels_need_no_memory_and_no_evidence(installed: Installation) -> None:
    installed.version()
    made = installed.services(evidence=False)
    refreshed(made)
    assert {(one.source in ("network", "table"), one.confidence) for one in counted(made).values()} == {(True, None)}


def test_people_know_better_than_the_machine(installed: Installation) -> None:
    first, second, third, fourth, lost = TASKS[:5]
    lose(installed.studio, lost)
    made = services(installed, disagreement="leave out")
    answered(installed, first, A, by=1)
    refreshed(made)
    answered(installed, second, B, by=1)
    answered(installed, third, A, by=1, result=[NO_ANSWER])
    answered(installed, fourth, A, by=1)
    answered(installed, fourth, B, by=2)
    found = counted(made)
    said = {task: (found[task].source, found[task].label, found[task].confidence) for task in TASKS[:5]}
    assert said == {
        first: ("person", "Healthy", None),
        second: ("person", "A-line", None),
        third: ("person", NOT_ASSESSABLE, None),
        fourth: ("not counted", "", None),
        lost: ("unreadable", "", None),
    }


def test_an_answer_that_nobody_looked_at_is_no_answer_of_a_person(installed: Installation) -> None:
    made = services(installed, accepted="train")
    answered(installed, TASKS[0], B, by=1, accepted_unseen=True)
    one = counted(made)[TASKS[0]]
    assert (one.source, one.label) == ("accepted unseen", "A-line")


def test_labels_of_audit_frames_are_hidden_until_they_are_answered(installed: Installation) -> None:
    installed.studio.confirm(TASKS[0], A)
    made = services(installed, k_max=8, audit=0.5, blind=0.5)
    refreshed(made)
    audit = sorted(made.audits(PROJECT).tasks())
    answered(installed, audit[0], B, by=1)
    answered(installed, audit[1], A, by=1, accepted_unseen=True)
    found = counted(made)
    assert (found[audit[0]].source, found[audit[0]].label) == ("person", "A-line")
    assert len(audit) > 2
    for task in audit[1:]:
        assert (found[task].source, found[task].label, found[task].confidence) == ("after the answer", "", None)
    assert {found[task].source for task in set(TASKS) - set(audit) - {TASKS[0]}} == {"memory"}


def test_labels_of_an_open_finish_are_hidden_too(installed: Installation) -> None:
    made, finish = begun(installed)
    found = counted(made)
    assert {found[task].source for task in finish.drawn} == {"after the answer"}
    made.finishes(PROJECT).save(finish.model_copy(update={"state": "void"}))
    assert {found[task].source for task in finish.drawn} != {counted(made)[task].source for task in finish.drawn}


def test_blind_frames_are_hidden_even_if_no_draw_names_them(installed: Installation) -> None:
    installed.studio.confirm(TASKS[0], A)
    made = services(installed)
    order = refreshed(made)
    grounds = made.grounds(PROJECT).get(order.about.name)
    assert grounds is not None
    made.grounds(PROJECT).save(replace(grounds, blind=frozenset({TASKS[4]})))
    assert counted(made)[TASKS[4]].source == "after the answer"
