"""Kill the processes of a finish at every step: it draws once, counts once, and its certificate is honest or void."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ml_backend.loop.certificate_page import page_of
from ml_backend.store.finishes import Finish
from ml_backend.studio.payloads import default_of
from ml_backend.tsal.certificate import spend
from tests.installation import CONFIGURATION, PROJECT
from tests.loop.killed import CONFIDENCE, Deed, KeptStudio, World
from tests.loop.test_order import TASKS

A, B = [1, 0, 0], [0, 1, 0]
FIRST, ADDED = TASKS[0], 900
Change = Callable[[KeptStudio, Finish], None]


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("killed")


@pytest.fixture
def world(frames: Path, tmp_path: Path, redis_url: str) -> World:
    """A pool of fourteen frames, of which one is answered, with a queue that the watch has put in order."""
    (tmp_path / "world").mkdir()
    world = World(tmp_path / "world", frames, redis_url)
    studio = world.studio
    studio.add(frames, *TASKS)
    studio.confirm(FIRST, A)
    studio.keep()
    assert not world.run("look")
    return world


@pytest.fixture
def begun(world: World) -> World:
    """The same with a drawn audit."""
    assert not world.run("finish")
    return world


@pytest.fixture
def answered(begun: World) -> World:
    """The same with the whole audit answered, and every tick of it wrong."""
    change(begun, answer)
    return begun


def change(world: World, how: Change) -> None:
    studio = world.studio
    how(studio, world.newest)
    studio.keep()


def answer(studio: KeptStudio, finish: Finish) -> None:
    for task in finish.drawn:
        studio.confirm(task, B)


def change_memory(studio: KeptStudio, finish: Finish) -> None:
    studio.change(FIRST, B, "later")


def change_audit(studio: KeptStudio, finish: Finish) -> None:
    for one in [one for one in studio.annotations if one.task in finish.drawn[:1]]:
        studio.change(one.id, A, "later")


def delete_audit(studio: KeptStudio, finish: Finish) -> None:
    studio.annotations = [one for one in studio.annotations if one.task not in finish.drawn[:1]]


def add_frame(studio: KeptStudio, finish: Finish) -> None:
    studio.task_data[ADDED] = studio.task_data[FIRST]


def answer_one(studio: KeptStudio, finish: Finish) -> None:
    missing = [task for task in finish.drawn if task not in {one.task for one in studio.annotations}]
    for task in missing[:1]:
        studio.confirm(task, B)


def answer_rest(studio: KeptStudio, finish: Finish) -> None:
    while any(task not in {one.task for one in studio.annotations} for task in finish.drawn):
        answer_one(studio, finish)


def said(finish: Finish) -> Finish:
    """What a record says, without when it was written and what the queue was called then."""
    return finish.model_copy(update={"drawn_at": "", "counted_at": "", "order": ""})


def files(world: World) -> dict[str, bytes]:
    """Every file of the finishes, but for the lock."""
    folder = world.finishes.path(1).parent
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def assert_honest(world: World) -> None:
    """The newest finish says what is so, on its page too, and the queue asks first for what it wants.

    A certificate rests on the answers and the frames that Label Studio has, and counts every frame of the pool once.
    """
    finish, studio, store = world.newest, world.studio, world.finishes
    if finish.state != "open":
        assert store.page(finish.number).read_text() == page_of(PROJECT, finish)
    if finish.state == "void":
        return
    assert studio.task_data.keys() <= {*store.rows(finish).tasks.tolist(), *finish.remembered}
    served = [one["task"] for one in studio.served()]
    if finish.state == "open":
        assert served[: len(finish.drawn)] == list(finish.drawn)
        ticks = {one["task"]: default_of(one, CONFIGURATION).labels for one in studio.served()}
        assert {task for task in finish.drawn if ticks[task] is None} == set(finish.blind)
        return
    latest = {one.task: one for one in studio.annotations}
    assert finish.answers == {task: tuple(latest[task].result[0]["value"]["choices"]) for task in finish.drawn}
    assert finish.outcome is not None
    rows = store.rows(finish)
    kept = set(rows.tasks[rows.kept].tolist())
    people = set(rows.tasks[~rows.kept].tolist()) - set(finish.drawn)
    assert not kept & set(finish.drawn)
    assert (finish.outcome.by_machine, finish.outcome.to_people) == (len(kept), len(people))
    assert finish.outcome.by_people + len(kept) + len(people) == finish.pool
    assert set(served[: len(people)]) == people


def assert_rests(world: World) -> None:
    """One more look of the watch changes nothing."""
    before = files(world)
    order = world.studio.model_version
    assert not world.run("look")
    assert files(world) == before
    assert world.studio.model_version == order


def test_a_draw_that_is_killed_at_any_step_is_made_once(world: World) -> None:
    whole = world.copy(world.place.with_name("whole"))
    assert not whole.run("finish")
    recorded = []
    for killed in world.killed("finish"):
        before = files(killed) if killed.finishes.count() else None
        recorded.append(before is not None)
        assert not killed.run("look")
        if before is None:
            assert killed.finishes.count() == 0
            assert not killed.run("finish")
        else:
            assert files(killed) == before
        assert_honest(killed)
        assert said(killed.newest) == said(whole.newest)
        assert killed.newest.alpha == spend(1 - CONFIDENCE, 1)
        assert killed.finishes.count() == 1
        np.testing.assert_array_equal(
            killed.finishes.rows(killed.newest).labels, whole.finishes.rows(whole.newest).labels
        )
    assert recorded == sorted(recorded)
    assert recorded.count(True) >= 6  # the order's two files, the halves of the push, the switch, the pointer


def test_an_audit_whose_count_is_killed_at_any_step_is_counted_once(answered: World) -> None:
    whole = answered.copy(answered.place.with_name("whole"))
    assert not whole.run("look")
    assert whole.newest.outcome is not None
    assert whole.newest.outcome.to_people > 0
    steps = 0
    for killed in answered.killed("look"):
        before = killed.newest
        assert not killed.run("look")
        assert said(killed.newest) == said(whole.newest)
        assert before.state == "open" or killed.newest == before
        assert killed.finishes.count() == 1
        assert_honest(killed)
        if not steps % 3:
            assert_rests(killed)
        steps += 1
    assert steps >= 9  # the record's two files, the page, and the queue


@pytest.mark.parametrize("how", [change_audit, delete_audit, add_frame])
def test_what_changes_after_a_killed_count_is_counted_anew_or_voids_the_certificate(
    answered: World, how: Change
) -> None:
    states = set()
    for killed in answered.killed("look"):
        certified = killed.newest.state == "certified"
        change(killed, how)
        assert not killed.run("look")
        found = killed.newest.state
        if certified or how is add_frame:
            assert found == "void"
        else:
            assert found == ("open" if how is delete_audit else "certified")
        assert_honest(killed)
        states.add(found)
    assert "void" in states


@pytest.mark.parametrize("deed", ["look", "give up"])
def test_a_certificate_that_ends_in_a_killed_process_is_void_and_its_page_says_so(answered: World, deed: Deed) -> None:
    assert not answered.run("look")
    assert answered.newest.state == "certified"
    if deed == "look":
        change(answered, delete_audit)
    states = []
    for killed in answered.killed(deed):
        states.append(killed.newest.state)
        assert not killed.run("look")
        assert killed.newest.state == ("void" if deed == "look" else states[-1])
        assert_honest(killed)
    # Killed before the record, before its page, and in a look also before the files that the lead's page shows.
    assert states[0] == "certified"
    assert set(states[1:]) == {"void"}


def test_the_next_draw_spends_what_is_left_of_alpha_wherever_it_is_killed(begun: World) -> None:
    assert not begun.run("give up")
    given_up = files(begun)
    for killed in begun.killed("finish"):
        assert not killed.run("finish")
        finish = killed.newest
        assert (finish.number, finish.alpha, finish.state) == (2, spend(1 - CONFIDENCE, 2), "open")
        assert files(killed).items() >= given_up.items()
        assert_honest(killed)


@pytest.mark.parametrize("seed", range(2))
def test_whatever_happens_in_whatever_order_the_record_stays_honest(world: World, seed: int) -> None:
    chance = random.Random(seed)
    drawn: dict[int, Finish] = {}
    deeds: list[Deed] = ["finish", "finish", "look", "look", "give up"]
    changes = [change_memory, change_audit, delete_audit, add_frame, answer_one, answer_one, answer_rest, answer_rest]
    for _ in range(14):
        if drawn and chance.random() < 0.5:
            change(world, chance.choice(changes))
        deed = chance.choice(deeds)
        standing = world.finishes.standing() is not None
        if deed != "give up" or standing:
            world.run(deed, chance.choice([0, *range(1, 12)]))
        assert not world.run("look")
        for number in range(1, world.finishes.count() + 1):
            finish = Finish.model_validate_json(world.finishes.path(number).read_bytes())
            before = drawn.setdefault(number, finish)
            assert (finish.drawn, finish.alpha) == (before.drawn, spend(1 - CONFIDENCE, number))
            assert before.state == "open" or finish.answers == before.answers
            assert before.state != "void" or finish == before
            assert finish.state == "void" or number == world.finishes.count()
            drawn[number] = finish
        if drawn:
            assert_honest(world)
    assert drawn
