"""The operations that are interrupted, each on a small world that it is prepared for once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from soak.crash.deeds import make_clips
from soak.crash.worlds import BATCH, World


@dataclass(frozen=True)
class Operation:
    """A ``deed`` in a world that ``prepare`` has made.

    ``after`` are the deeds after a crash: what is started again, and what a person runs again.
    """

    name: str
    prepare: Callable[[World], None]
    deed: str
    after: tuple[str, ...] = ("recover",)


def _first_order(world: World) -> None:
    world.begin()
    world.done("recover")


def _batch(world: World) -> None:
    _first_order(world)
    world.annotate(BATCH)


def _due(world: World) -> None:
    _batch(world)
    world.done("look")


def _trained(world: World) -> None:
    _due(world)
    world.done("work")


def _served(world: World) -> None:
    _due(world)
    world.done("recover")


def _due_again(world: World) -> None:
    _served(world)
    world.annotate(BATCH)
    world.done("look")


def _half_a_batch(world: World) -> None:
    _served(world)
    world.annotate(world.settings.refresh)


def _piled_up(world: World) -> None:
    _half_a_batch(world)
    world.done("look")
    world.annotate(1)
    world.done("look", "refresh")


def _several(world: World) -> None:
    _served(world)
    for _ in range(2):
        world.annotate(BATCH)
        world.done("recover")


def _two(world: World) -> None:
    _due_again(world)
    world.done("recover")


def _drawn(world: World) -> None:
    _served(world)
    world.done("finish")


def _answered(world: World) -> None:
    _drawn(world)
    finish = world.services.finishes(world.number).newest()
    assert finish is not None
    world.answer_all(finish.drawn)


def _exported(world: World) -> None:
    _served(world)
    world.done("send_out")


def _clips(world: World) -> None:
    _first_order(world)
    make_clips(world.place / "clips")


OPERATIONS = (
    Operation("refresh of the queue", _trained, "refresh"),
    Operation("memory refresh", _half_a_batch, "look"),
    Operation("poll that finds a batch", _batch, "look"),
    Operation("first fine-tune", _due, "work"),
    Operation("fine-tune with activation", _due_again, "work"),
    Operation("finish: the draw", _served, "finish", ("finish", "recover")),
    Operation("finish: the count", _answered, "look"),
    Operation("finish: given up", _drawn, "give_up", ("give_up", "recover")),
    Operation("import", _clips, "bring", ("bring", "recover")),
    Operation("export", _exported, "send_out", ("send_out", "recover")),
    Operation("activation by a lead", _two, "ask_for_first", ("recover", "ask_for_first", "recover")),
    Operation("prune of versions", _several, "prune_versions", ("prune_versions", "recover")),
    Operation("prune of orders", _piled_up, "refresh_and_prune"),
)
