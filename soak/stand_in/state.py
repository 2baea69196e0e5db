"""Everything that the stand-in holds: to copy this is to copy a whole Label Studio."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from soak.stand_in.project import SHOWN_BY_DEFAULT, Numbers, Project, Refused
from soak.stand_in.records import User

RELEASE = "1.23.2"


@dataclass
class State:
    """The users by token, the projects by ID, and ``kept``: storages, tabs and ML backends, which do nothing here."""

    numbers: Numbers = field(default_factory=Numbers)
    users: dict[str, User] = field(default_factory=dict)
    projects: dict[int, Project] = field(default_factory=dict)
    kept: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)

    def copy(self) -> State:
        """A copy that shares nothing with this one."""
        return copy.deepcopy(self)

    def add_user(self, name: str, token: str | None = None) -> User:
        """Make a user."""
        number = self.numbers.next("user")
        user = User(number, f"{name}@example.com", token or f"token-of-{name}", first_name=name)
        self.users[user.token] = user
        return user

    def create_project(self, fields: Mapping[str, Any]) -> Project:
        """Make a project with a title, a labelling configuration and other settings."""
        number = self.numbers.next("project")
        project = Project(number, self.numbers, {**SHOWN_BY_DEFAULT, "title": "", "label_config": "<View/>", **fields})
        self.projects[number] = project
        return project

    def project(self, number: int) -> Project:
        """Find a project."""
        if number not in self.projects:
            raise Refused(404, "No Project matches the given query.")
        return self.projects[number]

    def of_task(self, task: int) -> Project:
        """Find a task's project."""
        return self._holder("Task", lambda project: task in project.tasks)

    def of_annotation(self, annotation: int) -> Project:
        """Find an annotation's project."""
        return self._holder("Annotation", lambda project: annotation in project.annotations)

    def of_prediction(self, prediction: int) -> Project:
        """Find a prediction's project."""
        return self._holder("Prediction", lambda project: prediction in project.predictions)

    def of_webhook(self, webhook: int) -> Project:
        """Find a webhook's project."""
        return self._holder("Webhook", lambda project: webhook in project.webhooks)

    def table(self, name: str) -> dict[int, dict[str, Any]]:
        """A table whose rows are only stored."""
        return self.kept.setdefault(name, {})

    def _holder(self, what: str, holds: Any) -> Project:
        for project in self.projects.values():
            if holds(project):
                return project
        raise Refused(404, f"No {what} matches the given query.")
