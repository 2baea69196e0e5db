"""The census of a project for the lead's page: every frame with its label, counted in the background."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

from pydantic import BaseModel, ConfigDict

Source = Literal[
    "person",
    "accepted unseen",
    "imported",
    "memory",
    "network",
    "table",
    "not yet",
    "after the answer",
    "unreadable",
    "not counted",
]
"""Where a label comes from, or why there is none.

``after the answer``: the frame is to be judged unaided, so its label is shown when somebody has answered it;
``not counted``: people answered it, but their answers contradict each other or name unknown symptoms.
"""
ANSWERED: tuple[Source, ...] = ("person", "not counted")


class Entry(BaseModel):
    """A frame and its label.

    ``clip``, ``patient`` and ``time`` (seconds): where it comes from; ``label``: the symptoms in words, empty where
    there is none to show; ``confidence`` of the machine's label, in [0, 1]; ``reason``: why the order asks it where it
    does, empty where it does not.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    task: int
    url: str
    clip: str
    patient: str
    time: float | None = None
    label: str = ""
    source: Source = "not yet"
    confidence: float | None = None
    reason: str = ""


class Census(BaseModel):
    """All frames of a project, by task."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    frames: tuple[Entry, ...] = ()

    def __hash__(self) -> int:
        return id(self)  # that of all frames takes long, and each census is read once

    def find(self, task: int) -> Entry | None:
        """Return the frame of a task, None if there is none."""
        return self._of_task.get(task)

    @cached_property
    def clips(self) -> dict[str, list[Entry]]:
        """The frames of each clip, in time."""
        found: dict[str, list[Entry]] = {}
        for one in sorted(self.frames, key=lambda one: (one.time is None, one.time or 0.0, one.task)):
            found.setdefault(one.clip, []).append(one)
        return found

    @cached_property
    def _of_task(self) -> dict[int, Entry]:
        return {one.task: one for one in self.frames}
