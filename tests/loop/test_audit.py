"""The audit's report in the product: which frames count, against which answer."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from ml_backend.loop import finish as finishing
from ml_backend.loop.audit import audit
from ml_backend.services import Services
from ml_backend.store.audits import AuditTold, Draw
from ml_backend.tsal.reliability import Share
from tests.installation import PROJECT, XML, exit_code
from tests.loop.test_finish import FIRST, advanced, answer, begun
from tests.loop.test_order import TASKS, Installation, folder, installed, predictor, refreshed, studio
from tests.loop.test_remember import A, B, services
from tests.studio_stand_in import one_thread

__all__ = ["folder", "installed", "one_thread", "predictor", "studio"]


def told(made: Services, *tasks: int, released: tuple[int, ...] = (), **changes: object) -> None:
    """Draw tasks, and tell that they are healthy."""
    one = AuditTold(ticks=("Healthy",), confidence=0.9, source="memory").model_copy(update=changes)
    audits = made.audits(PROJECT)
    audits.add(
        Draw(
            order="diversity.1",
            version=None,
            newest=str(len(audits.draws())),
            drawn_at="then",
            seed=0,
            pool=14,
            tasks=tasks,
            released=released,
        )
    )
    audits.note_told(dict.fromkeys(tasks, one))


def test_answers_are_compared_with_what_was_told_before_them(installed: Installation) -> None:
    made = services(installed)
    told(made, 1, 2, 3)
    told(made, 4, 5, blind=True, source="network", confidence=0.6)
    told(made, 6)  # nobody answers it
    for task, labels in {1: A, 2: A, 3: B, 4: B, 5: A, 7: B}.items():
        installed.studio.confirm(task, labels)
    report = audit(made, PROJECT)
    assert (report.frames, report.patients, report.right) == (5, 5, Share(3, 5))
    assert (report.bias.shown, report.bias.hidden) == (Share(1, 3), Share(1, 2))
    assert report.sources == {"memory": Share(2, 3), "network": Share(1, 2)}
    assert [(one.place, one.right) for one in report.bins] == [(6, Share(1, 2)), (9, Share(2, 3))]


def test_patients_are_counted_where_tasks_name_them(installed: Installation) -> None:
    made = services(installed)
    told(made, 1, 2, 3)
    for task in (1, 2, 3):
        installed.studio.task_data[task] = {**installed.studio.task_data[task], "patient": f"P{task // 2}"}
        installed.studio.confirm(task, A)
    assert audit(made, PROJECT).patients == 2


def test_a_changed_answer_counts_as_it_is_now(installed: Installation) -> None:
    made = services(installed)
    told(made, 1)
    installed.studio.confirm(1, A)
    assert audit(made, PROJECT).right == Share(1, 1)
    installed.studio.change(1, B, "later")
    assert audit(made, PROJECT).right == Share(0, 1)
    installed.studio.annotations.clear()
    assert audit(made, PROJECT).right == Share(0, 0)


def test_frames_that_no_draw_holds_any_more_and_unseen_answers_do_not_count(installed: Installation) -> None:
    made = services(installed, accepted="train")
    told(made, 1, 2)
    told(made, 3, released=(1,))
    for task in (1, 2, 3):
        installed.studio.confirm(task, A)
    installed.studio.annotations[1] = replace(installed.studio.annotations[1], accepted_unseen=True)
    assert audit(made, PROJECT).frames == 1


def test_a_symptom_that_the_answer_says_nothing_of_does_not_count(installed: Installation) -> None:
    made = services(installed)
    told(made, 1, ticks=("Healthy", "C-line"))
    installed.studio.confirm(1, A)
    assert audit(made, PROJECT).right == Share(1, 1)  # the configuration does not have it
    made.symptoms(PROJECT).note(["Healthy", "A-line", "B-line"], ["Healthy", "A-line", "B-line"])
    installed.studio.xml = XML.replace("</Choices>", '<Choice value="C-line"/></Choices>')
    assert audit(made, PROJECT).right == Share(1, 1)


def test_what_the_queue_told_comes_back_in_the_report(installed: Installation) -> None:
    installed.studio.confirm(TASKS[0], A)
    made = services(installed, audit=1, blind=0.5)
    refreshed(made)
    drawn = made.audits(PROJECT).draws()[-1]
    assert len(drawn.blind) == 2
    for task in drawn.tasks:
        installed.studio.confirm(task, B if task in drawn.blind else A)
    report = audit(made, PROJECT)
    assert report.bias.hidden == Share(2, 2)
    assert report.bias.shown == Share(0, len(drawn.tasks) - 2)
    assert set(report.sources) == {"memory"}


def test_an_audit_of_a_finish_counts_when_it_is_counted_and_not_before(installed: Installation) -> None:
    made, finish = begun(installed, blind=0.5)
    told(made, *finish.drawn, blind=True)
    answer(installed, finish)
    assert audit(made, PROJECT).frames == 0
    assert advanced(made).state == "certified"
    report = audit(made, PROJECT)
    assert (report.frames, report.right.count) == (len(finish.drawn), len(finish.drawn))
    assert report.bias.hidden.frames == len(finish.blind)
    rows = made.finishes(PROJECT).rows(finish)
    sure = 1 - rows.uncertainty[np.isin(rows.tasks, finish.drawn)]
    mean = sum(one.confidence * one.right.frames for one in report.bins) / report.frames
    assert mean == pytest.approx(sure.mean())
    assert report.sources == {}
    finishing.give_up(made, PROJECT)
    assert audit(made, PROJECT).frames == len(finish.drawn)
    assert FIRST not in finish.drawn


def test_the_command_prints_lines_or_json(
    installed: Installation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = services(installed)
    made.folder(PROJECT).mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr("ml_backend.services.Services", lambda settings: made)
    assert exit_code("audit") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    told(made, 1, 2)
    for task in (1, 2):
        installed.studio.confirm(task, A)
    assert exit_code("audit") == 0
    shown = capsys.readouterr().out
    assert "2 of 2" in shown
    assert "90%" in shown
    assert exit_code("audit", "--project", str(PROJECT), "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"project": PROJECT, **audit(made, PROJECT).to_json()}
