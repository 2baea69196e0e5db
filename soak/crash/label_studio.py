"""A real Label Studio on PostgreSQL; copies of its database restore its state."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml_backend.launch.label_studio import start_studio
from ml_backend.launch.processes import Processes, free_port
from ml_backend.settings import load
from ml_backend.studio.client import Studio
from soak.crash.studios import ANNOTATORS
from soak.postgresql import postgresql as postgresql_of_our_own
from soak.postgresql import query
from soak.site import sign_up
from soak.stand_in.project import SHOWN_BY_DEFAULT, Numbers, Project
from soak.stand_in.records import Annotation, Prediction

ELSEWHERE = "template1"
"""The database to connect to while Label Studio's own is copied, dropped and created again."""
FIELDS = (*SHOWN_BY_DEFAULT, "title", "label_config")
ROWS = """
SELECT 'project', to_jsonb(project) FROM project WHERE id = {0} UNION ALL
SELECT 'task', jsonb_build_object('id', id, 'data', data) FROM task WHERE project_id = {0} UNION ALL
SELECT 'annotation', to_jsonb(task_completion) FROM task_completion
    WHERE task_id IN (SELECT id FROM task WHERE project_id = {0}) UNION ALL
SELECT 'prediction', to_jsonb(prediction) FROM prediction
    WHERE task_id IN (SELECT id FROM task WHERE project_id = {0}) UNION ALL
SELECT 'lock', to_jsonb(tasks_tasklock) FROM tasks_tasklock
    WHERE task_id IN (SELECT id FROM task WHERE project_id = {0}) AND expire_at > now()
"""


@dataclass(frozen=True)
class RealLabelStudio:
    """A running Label Studio; ``tokens`` belong to its annotators, ``database`` has the variables of its database.

    It connects to its database anew for each request and caches none of its content, so another database of the same
    name can take its place between two requests.
    """

    url: str
    token: str
    database: Mapping[str, str]
    tokens: Sequence[str]
    annotators: dict[int, Studio] = field(default_factory=dict)

    def begin(self, title: str, xml: str, rows: Sequence[Mapping[str, Any]]) -> tuple[int, tuple[int, ...]]:
        """Remove everything, and create a project with these frames."""
        self.put(_copy("nothing"))
        studio = Studio(self.url, self.token)
        number = studio.create_project(title, xml)
        studio.import_tasks(number, [dict(row) for row in rows])
        return number, tuple(self.annotators)

    def project(self, number: int) -> Project:
        """Read the project from its rows in the database."""
        found: dict[str, list[dict[str, Any]]] = {}
        for kind, text in query(self.database, ROWS.format(number)):
            found.setdefault(kind, []).append(json.loads(text))
        (about,) = found["project"]
        fields = {name: about[name] for name in FIELDS} | {"model_version": about["model_version"] or ""}
        project = Project(number, Numbers(), fields)
        for row in _by_id(found, "task"):
            project.tasks[row["id"]] = row["data"]
        for row in _by_id(found, "annotation"):
            project.annotations[row["id"]] = _annotation(row)
        for row in _by_id(found, "prediction"):
            values = row["id"], row["task_id"], row["model_version"], row["score"], row["result"]
            project.predictions[row["id"]] = Prediction(*values)
        project.locks |= {(row["task_id"], row["user_id"]) for row in found.get("lock", [])}
        return project

    def next_task(self, number: int, user: int) -> int | None:
        """The task that a user gets next."""
        found = self.annotators[user].next_task(number)
        return int(found["id"]) if found else None

    def annotate(self, number: int, user: int, task: int, fields: Mapping[str, Any]) -> None:
        """Let a user submit an annotation."""
        self.annotators[user].submit(task, **fields)

    def take(self, name: str) -> str:
        """Copy the database."""
        self._ask(f'DROP DATABASE IF EXISTS "{_copy(name)}"')
        self._ask(f'CREATE DATABASE "{_copy(name)}" TEMPLATE "{self.database["POSTGRE_NAME"]}"')
        return _copy(name)

    def put(self, taken: object) -> None:
        """Replace the database with a copy of what was taken."""
        name = self.database["POSTGRE_NAME"]
        self._ask(f'DROP DATABASE "{name}" WITH (FORCE)')
        self._ask(f'CREATE DATABASE "{name}" TEMPLATE "{taken}"')

    def _ask(self, command: str) -> None:
        query({**self.database, "POSTGRE_NAME": ELSEWHERE}, command)


def _copy(name: str) -> str:
    return f"copy: {name}"


def _by_id(found: Mapping[str, list[dict[str, Any]]], kind: str) -> list[dict[str, Any]]:
    return sorted(found.get(kind, []), key=lambda row: int(row["id"]))


def _annotation(row: Mapping[str, Any]) -> Annotation:
    return Annotation(
        id=row["id"],
        task=row["task_id"],
        result=row["result"] or [],
        completed_by=row["completed_by_id"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        updated_by=row["updated_by_id"],
        was_cancelled=row["was_cancelled"],
        ground_truth=row["ground_truth"],
        lead_time=row["lead_time"],
        parent_prediction=row["parent_prediction_id"],
        prediction=row["prediction"] or {},
    )


@contextmanager
def running_label_studio(folder: Path) -> Iterator[RealLabelStudio]:
    """Run a Label Studio with three annotators until the block ends; its files and its log are in ``folder``.

    It serves the files of the world in this folder. Raises InvalidRequest if PostgreSQL is not installed.
    """
    token, address = secrets.token_hex(20), f"http://127.0.0.1:{free_port()}"
    settings = load(label_studio_url=address, label_studio_token=token)
    with (
        postgresql_of_our_own() as (command, database),
        (folder / "label-studio.log").open("a", encoding="utf-8") as log,
        Processes(lambda name, line: _write(log.write, name, line)) as processes,
    ):
        processes.start("database", command, {})
        served = {"LOCAL_FILES_DOCUMENT_ROOT": str(folder / "world" / "files")}
        # It must not see the clock that the events set.
        start_studio(processes, settings, folder, {**database, **served, "LD_PRELOAD": ""})
        tokens = [sign_up(address, token, name) for name in ANNOTATORS]
        studio = RealLabelStudio(address, token, database, tokens)
        users = {email: user for user, email in Studio(address, token).people().items()}
        for name, theirs in zip(ANNOTATORS, tokens, strict=True):
            studio.annotators[users[f"{name}@example.com"]] = Studio(address, theirs)
        studio.take("nothing")
        yield studio


def _write(write: Callable[[str], object], name: str, line: str) -> None:
    write(f"{name:8} {line}\n")
