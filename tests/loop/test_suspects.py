"""Suspects in the product: what is listed, by whose evidence, and that nothing is changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace

import pytest

from ml_backend.frames.predictor import Predictor
from ml_backend.loop.suspects import Suspect, suspects
from ml_backend.services import Services
from ml_backend.store.features import FeatureStore
from tests.installation import PROJECT, XML, exit_code, finish_of, one_line
from tests.loop.test_order import Installation, folder, installed, predictor, silent, studio
from tests.loop.test_remember import A, B, services
from tests.studio_stand_in import one_thread

__all__ = ["folder", "installed", "one_thread", "predictor", "studio"]
WRONG = 4


@pytest.fixture
def answered(installed: Installation) -> Installation:
    """Two clips of six frames each, copies of one picture; clip one is all A but for one frame, clip two all B."""
    studio = installed.studio
    pictures = {1: studio.task_data[1]["image"], 2: studio.task_data[2]["image"]}
    studio.task_data = {
        task: {"image": pictures[clip], "clip": f"clip {clip}", "time": float(task)}
        for task in range(1, 13)
        for clip in [1 if task <= 6 else 2]
    }
    for task in studio.task_data:
        studio.confirm(task, B if task > 6 or task == WRONG else A)
    return installed


def found(made: Services) -> list[Suspect]:
    return suspects(made, PROJECT, silent)


def test_a_frame_that_its_clip_contradicts_is_listed_with_its_reasons(answered: Installation) -> None:
    made = services(answered)
    before = list(answered.studio.annotations), list(answered.studio.predictions)
    (one,) = found(made)
    assert (one.task, one.confirmed) == (WRONG, ("A-line",))
    assert [(each.symptom, each.confirmed) for each in one.contradicted] == [("Healthy", False), ("A-line", True)]
    assert all(each.memory > 0.9 and each.network is None for each in one.contradicted)
    assert set(one.witnesses) == {1, 2, 3, 5, 6}
    assert set(one.witnesses[:2]) == {3, 5}
    assert one.link == f"{made.settings.label_studio_url}/projects/{PROJECT}/data?task={WRONG}"
    assert (answered.studio.annotations, answered.studio.predictions) == before


def test_the_network_has_a_word_where_it_knows_the_symptom(answered: Installation) -> None:
    answered.version()
    (one,) = found(services(answered))
    assert all(each.network is not None and 0 <= each.network <= 1 for each in one.contradicted)
    alone = {each.symptom: each.memory for each in one.contradicted}
    assert one.strength < max(alone.values())
    answered.studio.xml = XML.replace('"Healthy"', '"Normal"')
    for annotation in [one.id for one in answered.studio.annotations]:
        answered.studio.change(annotation, B if annotation > 6 or annotation == WRONG else A, "2999-01-01T00:00:00Z")
    (one,) = found(services(answered))
    words = {each.symptom: each.network for each in one.contradicted}
    assert words["Normal"] is None
    assert words["A-line"] is not None


def test_without_a_network_memory_alone_finds_them(answered: Installation) -> None:
    """The sidecar makes the lead's page without a network, and a new version has not scored its training frames."""
    answered.version()
    made, features = services(answered), FeatureStore(answered.data / "features", 1_000_000_000)
    made.predictor = Predictor(made.settings, made.fetcher, features)
    found(made)  # keeps embeddings and probabilities
    shutil.rmtree(made.folder(PROJECT) / "probabilities")
    made = services(answered)
    made.predictor = Predictor(made.settings, made.fetcher, features, computes=False)
    (one,) = found(made)
    assert one.task == WRONG
    assert all(each.network is None for each in one.contradicted)


def test_answers_that_nobody_looked_at_are_neither_listed_nor_evidence(answered: Installation) -> None:
    def unseen(*tasks: int) -> None:
        answered.studio.annotations = [
            replace(one, accepted_unseen=one.task in tasks) for one in answered.studio.annotations
        ]

    unseen(WRONG)
    assert found(services(answered, accepted="train")) == []
    unseen(1, 2, 3, 5, 6)
    assert found(services(answered, accepted="train")) == []


def test_frames_of_an_audit_that_is_being_answered_are_left_alone(answered: Installation) -> None:
    made = services(answered)
    made.finishes(PROJECT).save(finish_of((WRONG, 99)))
    assert found(made) == []
    made.finishes(PROJECT).save(finish_of((WRONG, 99)).model_copy(update={"state": "void"}))
    assert [one.task for one in found(made)] == [WRONG]


def test_nothing_is_suspect_before_anybody_has_answered(installed: Installation) -> None:
    assert found(services(installed)) == []


@pytest.fixture
def command(answered: Installation, monkeypatch: pytest.MonkeyPatch) -> Services:
    made = services(answered)
    made.folder(PROJECT).mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr("ml_backend.services.Services", lambda settings: made)
    return made


def test_the_command_lists_them_and_says_what_a_correction_does(
    command: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("suspects") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert f"data?task={WRONG}" in lines[1]
    command.finishes(PROJECT).save(finish_of((98, 99)))
    assert exit_code("suspects", "--project", str(PROJECT)) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_programs_read_json(command: Services, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("suspects", "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps([asdict(one) for one in found(command)]))


def test_the_first_ones_only(command: Services, answered: Installation, capsys: pytest.CaptureFixture[str]) -> None:
    answered.studio.change(9, A, "later")
    assert {one.task for one in found(command)} == {WRONG, 9}
    assert exit_code("suspects", "--json", "--first", "1") == 0
    assert _tasks(json.loads(capsys.readouterr().out)) == [found(command)[0].task]


def test_a_project_that_is_not_connected_is_refused(command: Services, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("suspects", "--project", "8") != 0
    assert str(PROJECT) in one_line(capsys)


def _tasks(listed: Sequence[dict[str, int]]) -> list[int]:
    return [one["task"] for one in listed]
