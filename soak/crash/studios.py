"""The Label Studio that a world is beside: what the worlds and the laws ask of it, and the stand-in as one of two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from soak.stand_in.project import Project
from soak.stand_in.server import StandIn
from soak.stand_in.state import State

ANNOTATORS = ("anna", "bert", "carla")


class LabelStudio(Protocol):
    """A running Label Studio at ``url`` that can be put back to how it was; ``token`` is that of a manager."""

    @property
    def url(self) -> str:
        """Where it answers."""

    @property
    def token(self) -> str:
        """What the installation signs in with."""

    def begin(self, title: str, xml: str, rows: Sequence[Mapping[str, Any]]) -> tuple[int, tuple[int, ...]]:
        """Make a project with these frames, and nothing else; returns it and its annotators, one of each of ANNOTATORS.

        What was there before is gone.
        """

    def project(self, number: int) -> Project:
        """A project as it is now."""

    def next_task(self, number: int, user: int) -> int | None:
        """The task that a user gets next by the button Label All Tasks, who holds it from then on; None at the end."""

    def annotate(self, number: int, user: int, task: int, fields: Mapping[str, Any]) -> None:
        """Let a user submit an annotation."""

    def take(self, name: str) -> object:
        """Remember how everything is, by a name that is used for nothing else."""

    def put(self, taken: object) -> None:
        """Make everything as it was."""


@dataclass(frozen=True)
class StandInStudio:
    """A stand-in in the place of Label Studio."""

    stand_in: StandIn
    token: str = "token-of-admin"  # noqa: S105  of nothing but the stand-in

    @property
    def url(self) -> str:
        """Where it answers."""
        return self.stand_in.url

    def begin(self, title: str, xml: str, rows: Sequence[Mapping[str, Any]]) -> tuple[int, tuple[int, ...]]:
        """Make a project with these frames, and nothing else."""
        state = State()
        users = [state.add_user(name) for name in ("admin", *ANNOTATORS)]
        project = state.create_project({"title": title, "label_config": xml})
        project.import_tasks(rows)
        self.stand_in.put(state)
        return project.id, tuple(user.id for user in users[1:])

    def project(self, number: int) -> Project:
        """The project itself."""
        return self.stand_in.state.project(number)

    def next_task(self, number: int, user: int) -> int | None:
        """The task that a user gets next."""
        with self.stand_in.gate:
            return self.project(number).next_task(user)

    def annotate(self, number: int, user: int, task: int, fields: Mapping[str, Any]) -> None:
        """Let a user submit an annotation."""
        with self.stand_in.gate:
            self.project(number).annotate(user, task, fields)

    def take(self, name: str) -> State:
        """Remember how everything is."""
        return self.stand_in.take()

    def put(self, taken: object) -> None:
        """Make everything as it was."""
        assert isinstance(taken, State)
        self.stand_in.put(taken)
