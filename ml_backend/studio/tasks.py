"""Tasks of a Label Studio project: reading, importing, and what annotators are served."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ml_backend.errors import StudioRefused
from ml_backend.studio.calls import Resource

PAGE = 1000  # tasks a request, when reading
PIECE = 5000  # tasks per request, when importing
NO_TASK = ("There are no tasks", "There are still some tasks")  # releases before 1.22 say the second, whatever is left


@dataclass(frozen=True)
class Task:
    """A frame's task."""

    id: int
    data: Mapping[str, Any]


class Tasks(Resource):
    """Reads and makes tasks."""

    def tasks(self, project: int, only_unlabelled: bool = False) -> Iterator[Task]:
        """Read the tasks in the order of their IDs, a page at a time.

        ``only_unlabelled`` leaves out those with a confirmed annotation, and those that were skipped where the project
        counts a skip as done; a frame that was skipped and waits for others stays in.
        """
        filters = [("total_annotations", "equal", 0)] if only_unlabelled else []
        fields = "id,data,total_annotations,cancelled_annotations,is_labeled"
        for row in self._rows(f"reading the tasks of project {project}", project, filters, "task_only", fields):
            # If a task is labelled but has no annotation, Label Studio has lost count of it. It stays among the
            # unlabelled: storing predictions for it makes Label Studio count again, and no annotator is served it.
            counted = row["total_annotations"] or row["cancelled_annotations"]
            if not (only_unlabelled and row["is_labeled"] and counted):
                yield Task(row["id"], row["data"])

    def import_tasks(self, project: int, data: Sequence[Mapping[str, Any]]) -> list[int]:
        """Make a task of each row and return their IDs in the same order."""
        what = f"importing tasks into project {project}"
        made: list[int] = []
        for start in range(0, len(data), PIECE):
            piece = [{"data": row} for row in data[start : start + PIECE]]
            ids = self._calls.write(
                what,
                lambda piece=piece: self._sdk.projects.import_tasks(  # type: ignore[misc]
                    project, request=piece, return_task_ids=True, request_options=self._calls.slow
                ).task_ids,
            )
            if len(ids or []) != len(piece):
                raise StudioRefused(f"{what}: {len(piece)} tasks were sent and {len(ids or [])} made")
            made.extend(ids)
        return made

    def update_data(self, task: int, data: Mapping[str, Any]) -> None:
        """Replace a task's data. This takes 0.1 s, and Label Studio takes only one task per call."""
        self._calls.write(
            f"changing the data of task {task}",
            lambda: self._calls.request("PATCH", f"api/tasks/{task}/", json={"data": dict(data)}),
        )

    def next_task(self, project: int) -> dict[str, Any] | None:
        """Take and lock the task that the button Label All Tasks gives this user next; None at the end."""
        found: dict[str, Any] | None = self._calls.write(
            f"asking for the next task of project {project}",
            lambda: self._calls.request(
                "POST",
                "api/dm/actions/",
                params={"id": "next_task", "project": project},
                json={},
                absent=NO_TASK,
            ),
        )
        return found

    def _rows(
        self, what: str, project: int, filters: Sequence[tuple[str, str, int]], fields: str, include: str
    ) -> Iterator[dict[str, Any]]:
        # By ID and not by page number, because annotators empty the pages while we turn them; and not through the SDK,
        # whose models treble the time.
        last = 0
        while True:
            query = {
                "filters": {
                    "conjunction": "and",
                    "items": [
                        {"filter": f"filter:tasks:{name}", "operator": operator, "type": "Number", "value": value}
                        for name, operator, value in [*filters, ("id", "greater", last)]
                    ],
                },
                "ordering": ["tasks:id"],
            }
            answer = self._get(
                what,
                "api/tasks",
                slow=True,
                project=project,
                page=1,
                page_size=PAGE,
                fields=fields,
                include=include,
                # The addresses as they are, not those at which Label Studio shows files of buckets to a browser.
                resolve_uri=False,
                query=json.dumps(query),
            )
            page = answer["tasks"]
            yield from page
            # A page can be empty while the total is not: what it held was annotated or deleted in between.
            if not page or answer["total"] <= len(page):
                return
            last = page[-1]["id"]
