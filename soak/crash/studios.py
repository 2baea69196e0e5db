"""What worlds and laws need from the Label Studio beside them, and the stand-in as one implementation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from soak.stand_in.project import Project
from soak.stand_in.server import StandIn
from soak.stand_in.state import State

ANNOTATORS = ("anna", "bert", "carla")


class LabelStudio(Protocol):
    """A running Label Studio at ``url`` whose state can be restored; ``token`` belongs to a manager."""

    @property
    def url(self) -> str:
        """Where it answers."""

    @property
    def token(self) -> str:
        """The token that the installation uses."""

    def begin(self, title: str, xml: str, rows: Sequence[Mapping[str, Any]]) -> tuple[int, tuple[int, ...]]:
        """Remove everything, and create a project with these frames.

        Returns its number, and the user of each of ANNOTATORS.
        """

    def project(self, number: int) -> Project:
        """A project as it is now."""

    def next_task(self, number: int, user: int) -> int | None:
        """Lock and return the task that a user gets next from the button Label All Tasks; None at the end."""

    def annotate(self, number: int, user: int, task: int, fields: Mapping[str, Any]) -> None:
        """Let a user submit an annotation."""

    def take(self, name: str) -> object:
        """Take a copy of everything under a name that is used for nothing else."""

    def put(self, taken: object) -> None:
        """Restore everything from what was taken."""


@dataclass(frozen=True)
class StandInStudio:
    """The stand-in for Label Studio."""

    stand_in: StandIn
    token: str = "token-of-admin"  # noqa: S105  of nothing but the stand-in

    @property
    def url(self) -> str:
        """Where it answers."""
        return self.stand_in.url

    def begin(self, title: str, xml: str, rows: Sequence[Mapping[str, Any]]) -> tuple[int, tuple[int, ...]]:
        """Remove everything, and create a project with these frames."""
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
        """Take a copy of everything."""
        return self.stand_in.take()

    def put(self, taken: object) -> None:
        """Restore everything from what was taken."""
        assert isinstance(taken, State)
        self.stand_in.put(taken)
