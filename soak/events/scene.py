"""What the rules share: a stage, people at work on it, processes that act, and the judgement after a rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from hypothesis.stateful import RuleBasedStateMachine

from soak.crash.deeds import draw
from soak.events.installation import Installation
from soak.events.laws import Quiet, broken
from soak.events.model import Model, Ticks
from soak.events.people import People

PATIENTS, ANNOTATORS = 4, 3


class LawBroken(AssertionError):
    """A law is broken."""


@dataclass
class Stage:
    """Where a machine plays: an installation, whose world ``begin`` makes anew, and people.

    ``counted``: how often each step ran; ``came``: what came of the steps; ``tick`` is called at each step.
    """

    installation: Installation
    people: People
    begin: Callable[[], None]
    webhook: str
    actions: Sequence[str]
    counted: Counter[str] = field(default_factory=Counter)
    came: Counter[str] = field(default_factory=Counter)
    tick: Callable[[], object] = lambda: None


def pick(found: Sequence[Any], place: int) -> Any:
    """Choose one of several."""
    return found[place % len(found)]


class Scene(RuleBasedStateMachine):
    """One project on a stage, and what people and processes can do with it."""

    stage: ClassVar[Stage]

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.frames = self.cut_for = 0

    # Reached from rules

    @property
    def loop(self) -> Installation:
        """The installation."""
        return self.stage.installation

    @property
    def people(self) -> People:
        """The users of Label Studio."""
        return self.stage.people

    def count(self, what: str) -> None:
        """Note a step."""
        self.stage.counted[what] += 1
        self.stage.tick()

    def import_frames(self, count: int) -> None:
        """Import frames of several patients."""
        rows = []
        for number in range(self.frames, self.frames + count):
            name = f"events-{number}.png"
            path = Path(self.loop.settings.document_root or "") / name
            if not path.exists():
                draw(path, number)
            clip, patient = f"clip {number // 3}", f"patient {number % PATIENTS}"
            rows.append({"image": f"/data/local-files/?d={name}", "clip": clip, "patient": patient})
        self.frames += count
        self.model.tasks |= self.people.bring(rows)

    def answer_to(self, place: int) -> Ticks:
        """One of the answers that the labelling configuration offers."""
        ticks: Ticks = pick(self.model.labels.answers(), place)
        return ticks

    def next(self, user: int) -> tuple[int, int | None] | None:
        """The next frame of a user, which nobody else may have, and the prediction that is shown."""
        served = self.people.next(user)
        if served is None:
            return None
        task, free = int(served["id"]), self.model.free(user)
        if task not in free:
            raise LawBroken(f"task {task} is served to {user}, and only {sorted(free)} are free: {self.model.held}")
        shown = served.get("predictions") or [{}]
        first = self.first(shown[0].get("model_version"), free)
        if first not in (None, task) and (task, user) not in self.model.held:
            raise LawBroken(f"task {task} is served to {user} before {first}")
        self.model.held.add((task, user))
        return task, shown[0].get("id")

    def answer_next(self, user: int, answer: int) -> None:
        """Let somebody answer the next frame, if there is one."""
        found = self.next(user)
        if found is not None:
            task, shown = found
            self.model.answered(self.people.answer(user, task, self.answer_to(answer + task), shown))

    def first(self, version: str | None, free: set[int]) -> int | None:
        """The free frame that comes first in an order; None where the order is not kept."""
        order = self.loop.services.orders(self.people.project).get(version) if version else None
        return next((task for task in order.tasks.tolist() if task in free), None) if order else None

    # How a rule lets a process act

    def act(self, act: Callable[[], None]) -> None:
        """Let a process act; where its fate says so, people act in the middle of it."""
        finishes = self.loop.services.finishes(self.loop.world.number)
        before = self.model.now()
        self.loop.meanwhile = self.interfere
        versions = len(self.loop.services.versions(self.loop.world.number).names())
        act()
        self.cut_for -= 1
        if self.cut_for <= 0:
            self.loop.fates.cut.clear()
        self.stage.came["killed"] += self.loop.fates.dead
        made = len(self.loop.services.versions(self.loop.world.number).names()) - versions
        self.stage.came["versions"] += max(made, 0)
        number = finishes.count()
        if number and number not in self.model.draws:
            self.stage.came["certificates"] += 1
            self.model.draws[number] = (before, self.model.now())

    def interfere(self) -> None:
        """What people do in the middle of an action: something else each time."""
        self.stage.came["people acted in the middle"] += 1
        turn = self.frames + len(self.model.answers)
        if turn % 5 == 0 and self.model.tasks:
            self.remove_one(turn)
        elif turn % 5 == 1:
            self.import_frames(1)
        elif turn % 5 == 2 and self.model.answers:
            one = pick(list(self.model.answers.values()), turn)
            at = self.people.change(1, one.number, self.answer_to(turn))
            self.model.answered(replace(one, ticks=self.answer_to(turn), at=at, skipped=False, unseen=False))
        else:
            self.answer_next(1 + turn % ANNOTATORS, turn)

    def remove_one(self, place: int) -> None:
        """Delete one frame."""
        tasks = {pick(sorted(self.model.tasks), place)}
        self.people.remove(tasks)
        self.model.delete(tasks)

    def judge(self) -> None:
        """Mend everything, wait until it is quiet, and check the laws."""
        self.loop.fates.cut.clear()
        trouble = self.loop.settle()
        services = self.loop.services
        problems = broken(Quiet(self.loop, self.model, self.people.look(), services))
        if trouble:
            problems.insert(0, trouble)
        if problems:
            raise LawBroken("; ".join(problems))
