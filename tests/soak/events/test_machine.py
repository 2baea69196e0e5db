"""Everything that can happen, in any order, and a product that is broken on purpose."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ml_backend.loop import finish, push
from ml_backend.store.orders import OrderStore
from ml_backend.store.pending import Pending
from soak.crash import deeds
from soak.events.fates import Fate
from soak.events.machine import Machine
from soak.events.run import main
from soak.events.scene import LawBroken, Stage
from soak.events.stages import on_stand_in

STEPS = 300


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with on_stand_in(tmp_path_factory.mktemp("events")) as found:
        yield found
    torch.set_num_threads(threads)


@pytest.fixture
def machine(stage: Stage) -> Machine:
    made: Any = type("Machine", (Machine,), {"stage": stage})
    machine: Machine = made()
    machine.begin()
    return machine


def test_events_in_any_order_break_no_law(tmp_path: Path) -> None:
    output = tmp_path / "events.json"
    code = main(["--steps", str(STEPS), "--seed", "0", "--no-shrink", "--output", str(output)])
    result = json.loads(output.read_text())
    assert result["problems"] == {}
    assert code == 0
    assert result["steps"] >= STEPS
    assert {"annotate", "change", "delete", "skip", "accept unseen", "import", "change label set"} <= set(
        result["events"]
    )


def test_a_batch_becomes_a_version_that_serves(machine: Machine) -> None:
    for user in (1, 2, 3):
        machine.annotate(user, user, 1)
    machine.receive_all()
    machine.judge()
    services = machine.loop.services
    assert len(services.versions(machine.people.project).names()) == 1


def annotate_and_delete(machine: Machine) -> None:
    machine.annotate(1, 1, 2)
    machine.receive_all()
    machine.delete(0)


def finish_and_change(machine: Machine) -> None:
    machine.annotate(1, 1, 2)
    machine.finish(None)
    machine.change(1, 0, 3)


def judge_and_open(machine: Machine) -> None:
    machine.judge()
    for user in (1, 2, 3):
        machine.open_next(user)


def refresh(machine: Machine) -> None:
    for task in (3, 5):
        machine.annotate_any(1, task, 1)


def train(machine: Machine) -> None:
    machine.annotate(1, 1, 3)


@pytest.mark.parametrize(
    ("owner", "name", "broken", "events"),
    [
        (Pending, "remove", lambda *_: None, annotate_and_delete),
        (finish, "_voided", lambda *_: "", finish_and_change),
        (OrderStore, "activate", lambda *_: None, train),
        (push, "SAMPLING", "Sequential sampling", refresh),
    ],
    ids=["a deletion is forgotten", "a certificate stands", "an order is not noted", "the queue is in no order"],
)
def test_a_broken_product_breaks_a_law(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    owner: object,
    name: str,
    broken: object,
    events: Callable[[Machine], None],
) -> None:
    events(machine)
    monkeypatch.setattr(owner, name, broken)
    with pytest.raises(LawBroken):
        judge_and_open(machine)


def test_a_process_that_was_killed_does_nothing_more(machine: Machine) -> None:
    machine.annotate(1, 1, 3)
    machine.look(True, None)
    effects = machine.loop.fates
    machine.work(None)
    whole = effects.count
    assert whole > 20
    machine.annotate(2, 1, 3)
    machine.look(True, None)
    machine.work(Fate("killed", whole // 2))
    assert effects.dead
    assert effects.count == whole // 2
    machine.judge()


def test_people_act_in_the_middle(machine: Machine) -> None:
    before = machine.frames + len(machine.model.answers)
    machine.loop.meanwhile = machine.interfere
    machine.loop.command(deeds.refresh, Fate("people act", 3))
    assert machine.frames + len(machine.model.answers) != before or len(machine.model.tasks) < before
