"""The operations that are interrupted, each in a small world that is prepared once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from soak.crash import deeds
from soak.crash.deeds import Deed
from soak.crash.worlds import BATCH, World


@dataclass(frozen=True)
class Stage:
    """A state that a world can be in: the stage ``before`` it, and what ``leads`` from there to here."""

    name: str
    before: Stage | None
    leads: Callable[[World], object]

    def reach(self, world: World) -> None:
        """Bring a world here; from the second time on, restore it as it was."""
        if self.name not in world.reached:
            if self.before is not None:
                self.before.reach(world)
            self.leads(world)
            world.reached[self.name] = world.take(self.name)
        else:
            world.put(world.reached[self.name])


@dataclass(frozen=True)
class Operation:
    """A ``deed`` in a world at a ``stage``.

    ``after`` are the deeds after a crash: what is started again, and what a person runs again.
    """

    name: str
    stage: Stage
    deed: Deed
    after: tuple[Deed, ...] = (deeds.recover,)


def _clips(world: World) -> None:
    deeds.make_clips(world.place / "clips")


def _clips_and_bucket(world: World) -> None:
    _clips(world)
    world.open_bucket()


def _answers(world: World) -> None:
    finish = world.services.finishes(world.number).newest()
    assert finish is not None
    world.answer_all(finish.drawn)


def _more_answers(world: World) -> None:
    world.annotate(BATCH)
    world.done(deeds.recover)


def _orders(world: World) -> None:
    world.done(deeds.look)
    world.annotate(1)
    world.done(deeds.look, deeds.refresh)


ORDERED = Stage("ordered", Stage("begun", None, World.begin), lambda world: world.done(deeds.recover))
BATCHED = Stage("batched", ORDERED, lambda world: world.annotate(BATCH))
DUE = Stage("due", BATCHED, lambda world: world.done(deeds.look))
TRAINED = Stage("trained", DUE, lambda world: world.done(deeds.train))
SERVED = Stage("served", TRAINED, lambda world: world.done(deeds.recover))
ANSWERED = Stage("answered", SERVED, lambda world: world.annotate(world.settings.refresh))
PILED = Stage("piled", ANSWERED, _orders)
BATCHED_AGAIN = Stage("batched again", SERVED, lambda world: world.annotate(BATCH))
DUE_AGAIN = Stage("due again", BATCHED_AGAIN, lambda world: world.done(deeds.look))
TWO = Stage("two", DUE_AGAIN, lambda world: world.done(deeds.recover))
THREE = Stage("three", TWO, _more_answers)
DRAWN = Stage("drawn", SERVED, lambda world: world.done(deeds.finish))
COUNTABLE = Stage("countable", DRAWN, _answers)
EXPORTED = Stage("exported", SERVED, lambda world: world.done(deeds.send_out))
WITH_BUCKET = Stage("with a bucket", ORDERED, _clips_and_bucket)
WITH_CLIPS = Stage("with clips", ORDERED, _clips)

OPERATIONS = (
    Operation("refresh of the queue", TRAINED, deeds.refresh),
    Operation("memory refresh", ANSWERED, deeds.look),
    Operation("poll that finds a batch", BATCHED, deeds.look),
    Operation("first fine-tune", DUE, deeds.work),
    Operation("fine-tune with activation", DUE_AGAIN, deeds.work),
    Operation("finish: the draw", SERVED, deeds.finish, (deeds.finish, deeds.recover)),
    Operation("finish: the count", COUNTABLE, deeds.look),
    Operation("finish: given up", DRAWN, deeds.give_up, (deeds.give_up, deeds.recover)),
    Operation("import", WITH_CLIPS, deeds.bring, (deeds.bring, deeds.recover)),
    Operation("import into a bucket", WITH_BUCKET, deeds.bring_to_bucket, (deeds.bring_to_bucket, deeds.recover)),
    Operation("export", EXPORTED, deeds.send_out, (deeds.send_out, deeds.recover)),
    Operation("activation by a lead", TWO, deeds.ask_for_first, (deeds.recover, deeds.ask_for_first, deeds.recover)),
    Operation("prune of versions", THREE, deeds.prune_versions, (deeds.prune_versions, deeds.recover)),
    Operation("prune of orders", PILED, deeds.prune_orders),
)
