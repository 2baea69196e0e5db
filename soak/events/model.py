"""What people did, and what must follow from it: a small model that shares no code with the product."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

Ticks = frozenset[str]
"""The choices that an annotation stores."""


@dataclass(frozen=True)
class LabelSet:
    """A labelling configuration: the name of each choice by what an annotation stores for it."""

    choices: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the symptoms."""
        return tuple(self.choices.values())

    @property
    def xml(self) -> str:
        """As Label Studio has it."""
        choices = "".join(f'<Choice value="{name}" alias="{stored}"/>' for stored, name in self.choices.items())
        return (
            '<View><Image name="image" value="$image"/><Choices name="symptoms" toName="image" choice="multiple">'
            f"{choices}</Choices></View>"
        )

    def answers(self) -> list[Ticks]:
        """What people answer: healthy, each symptom alone, and both of two."""
        healthy, *others = self.choices
        return [frozenset([healthy]), *(frozenset([one]) for one in others), frozenset(others[:2]), frozenset()]


USUAL = LabelSet({"Healthy": "Healthy", "A-line": "A-line", "b": "B-line"})
LABEL_SETS = (
    USUAL,
    LabelSet({**USUAL.choices, "c": "Consolidation"}),
    LabelSet({"Healthy": "Healthy", "A-line": "A-line"}),
    LabelSet({"Healthy": "Healthy", "b": "B-line", "p": "Pleural line"}),
)


@dataclass
class Answer:
    """One annotation; ``at`` is when it was last changed by Label Studio's clock, ``user`` who made it."""

    number: int
    task: int
    ticks: Ticks
    at: str
    user: int = 0
    skipped: bool = False
    unseen: bool = False


@dataclass(frozen=True)
class Draw:
    """What a certificate rests on: how everything was when its audit was drawn."""

    tasks: frozenset[int]
    names: tuple[str, ...]
    said: Mapping[int, Ticks | None]


@dataclass
class Model:
    """A project as it must be: its frames, what was answered, who has which frame, and what the lead has begun.

    ``held``: (frame, user) pairs that Label Studio has given out and not got back. ``emptied``: whether there was ever
    no frame left to answer. ``draws``: by number.
    """

    labels: LabelSet = USUAL
    tasks: set[int] = field(default_factory=set)
    answers: dict[int, Answer] = field(default_factory=dict)
    held: set[tuple[int, int]] = field(default_factory=set)
    emptied: bool = False
    draws: dict[int, tuple[Draw, ...]] = field(default_factory=dict)

    # What happens

    def answered(self, answer: Answer) -> None:
        """Somebody submitted or skipped; that ends their hold of the frame."""
        self.answers[answer.number] = answer
        self.held.discard((answer.task, answer.user))
        self.emptied = self.emptied or not self.open()

    def delete(self, tasks: set[int]) -> None:
        """Frames are deleted, with all that belongs to them."""
        self.tasks -= tasks
        self.answers = {number: one for number, one in self.answers.items() if one.task not in tasks}
        self.held = {(task, user) for task, user in self.held if task not in tasks}
        self.emptied = self.emptied or not self.open()

    def now(self) -> Draw:
        """How everything is."""
        return Draw(frozenset(self.tasks), self.labels.names, {task: self.said(task) for task in self.counted()})

    # What must be true

    def open(self) -> set[int]:
        """Frames that nobody has answered."""
        return self.tasks - {one.task for one in self.answers.values() if not one.skipped}

    def free(self, user: int) -> set[int]:
        """Frames that a user may get: open, with nobody else, and not skipped by them."""
        others = {task for task, who in self.held if who != user}
        return self.open() - others - {one.task for one in self.answers.values() if one.user == user}

    def counts(self, answer: Answer) -> bool:
        """Whether an annotation counts: somebody looked, and it says something of the symptoms there are now."""
        says = not answer.ticks or not answer.ticks.isdisjoint(self.labels.choices)
        return says and not (answer.skipped or answer.unseen)

    def of(self, task: int) -> list[Answer]:
        """The annotations of a frame that count."""
        return [one for one in self.answers.values() if one.task == task and self.counts(one)]

    def counted(self) -> set[int]:
        """Frames with an annotation that counts."""
        return {one.task for one in self.answers.values() if self.counts(one)}

    def said(self, task: int) -> Ticks | None:
        """What people said of a frame last, as far as the symptoms are there; None where nothing counts."""
        last = max(self.of(task), key=lambda one: (one.at, one.number), default=None)
        return last.ticks & self.labels.choices.keys() if last else None

    def touched(self, draw: Draw, remembered: Iterable[int], outside: Iterable[int]) -> Iterator[str]:
        """Why a certificate no longer proves anything; frames ``outside`` the pool may go."""
        if draw.names != self.labels.names:
            yield "the symptoms changed"
        moved = (draw.tasks - self.tasks - set(outside)) | (self.tasks - draw.tasks)
        if moved:
            yield f"frames came or went: {sorted(moved)}"
        changed = [task for task in remembered if self.said(task) != draw.said.get(task)]
        if changed:
            yield f"the answers of {changed} have changed"
