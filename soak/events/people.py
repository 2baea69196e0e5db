"""Annotators and managers, who use Label Studio as their browsers do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from soak.events.model import Answer, LabelSet, Ticks

SECONDS = 3.0


@dataclass
class Seen:
    """What Label Studio holds: its project, the annotations by frame, and the predictions."""

    project: Mapping[str, Any]
    tasks: Mapping[int, Sequence[Mapping[str, Any]]]
    predictions: Sequence[Mapping[str, Any]]


@dataclass
class People:
    """The users of one project; ``tokens``: the manager's first."""

    url: str
    tokens: Sequence[str]
    project: int = 0
    _client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=120))

    def begin(self, title: str, labels: LabelSet, webhook: str, actions: Sequence[str]) -> None:
        """Make a project that calls a webhook."""
        self.project = self._send("POST", "api/projects/", title=title, label_config=labels.xml)["id"]
        self._send(
            "POST",
            "api/webhooks/",
            project=self.project,
            url=f"{webhook}/webhook?project={self.project}",
            actions=list(actions),
            send_for_all_actions=False,
            send_payload=True,
        )

    def next(self, user: int) -> Mapping[str, Any] | None:
        """The frame that a user gets by the button Label All Tasks; None at the end."""
        path = f"api/dm/actions/?id=next_task&project={self.project}"
        found: Mapping[str, Any] | None = self._send("POST", path, by=user, absent=True)
        return found

    def answer(self, user: int, task: int, ticks: Ticks, shown: int | None) -> Answer:
        """Submit an answer."""
        path = f"api/tasks/{task}/annotations/"
        made = self._send("POST", path, by=user, result=result_of(ticks), lead_time=SECONDS, parent_prediction=shown)
        return Answer(made["id"], task, ticks, made["updated_at"], user)

    def skip(self, user: int, task: int) -> Answer:
        """Skip a frame."""
        made = self._send("POST", f"api/tasks/{task}/annotations/", by=user, result=[], was_cancelled=True)
        return Answer(made["id"], task, frozenset(), made["updated_at"], user, skipped=True)

    def change(self, user: int, annotation: int, ticks: Ticks) -> str:
        """Change an annotation as the browser does; returns when that was."""
        path = f"api/annotations/{annotation}/"
        changed = self._send("PATCH", path, by=user, result=result_of(ticks), was_cancelled=False, lead_time=SECONDS)
        return str(changed["updated_at"])

    def delete(self, annotation: int) -> None:
        """Delete an annotation."""
        self._send("DELETE", f"api/annotations/{annotation}/")

    def accept(self, tasks: Sequence[int], version: str) -> None:
        """Accept predictions as annotations, unseen."""
        self._act("predictions_to_annotations", tasks, model_version=version)

    def bring(self, rows: Sequence[Mapping[str, str]]) -> set[int]:
        """Import frames; returns their tasks."""
        before = set(self.tasks())
        self._send("POST", f"api/projects/{self.project}/import", content=[{"data": dict(row)} for row in rows])
        return set(self.tasks()) - before

    def remove(self, tasks: Iterable[int]) -> None:
        """Delete frames."""
        self._act("delete_tasks", sorted(tasks))

    def set_labels(self, labels: LabelSet) -> bool:
        """Change the labelling configuration; returns whether Label Studio took it."""
        return self._send("PATCH", f"api/projects/{self.project}/", refused=True, label_config=labels.xml) is not None

    def tasks(self) -> dict[int, Sequence[Mapping[str, Any]]]:
        """The annotations of each task."""
        path = f"api/projects/{self.project}/export?exportType=JSON&download_all_tasks=true"
        return {row["id"]: row["annotations"] for row in self._send("GET", path)}

    def look(self) -> Seen:
        """Everything that Label Studio holds."""
        project = self._send("GET", f"api/projects/{self.project}/")
        predictions = self._send("GET", f"api/predictions/?project={self.project}")
        return Seen(project, self.tasks(), predictions)

    def _act(self, action: str, tasks: Sequence[int], **more: Any) -> None:
        chosen = {"all": False, "included": list(tasks)}
        self._send("POST", f"api/dm/actions/?id={action}&project={self.project}", selectedItems=chosen, **more)

    def _send(
        self,
        method: str,
        path: str,
        by: int = 0,
        absent: bool = False,
        refused: bool = False,
        content: Any = None,
        **body: Any,
    ) -> Any:
        """Make a request; returns None for a 404 where ``absent`` is allowed, and for a 400 where ``refused`` is."""
        answer = self._client.request(
            method,
            f"{self.url}/{path}",
            json=content if content is not None else body or None,
            headers={"Authorization": f"Token {self.tokens[by]}"},
        )
        if (absent and answer.status_code == 404) or (refused and answer.status_code == 400):
            return None
        return answer.raise_for_status().json() if answer.content else {}


def result_of(ticks: Ticks) -> list[dict[str, Any]]:
    """An annotation's result; without a tick it is empty, as the browser sends it."""
    if not ticks:
        return []
    return [
        {
            "id": "symptoms",
            "from_name": "symptoms",
            "to_name": "image",
            "type": "choices",
            "value": {"choices": sorted(ticks)},
        }
    ]


def ticks_of(result: Sequence[Mapping[str, Any]]) -> Ticks:
    """What an annotation or a prediction ticks."""
    return frozenset(choice for item in result for choice in item["value"].get("choices", ()))
