"""One project of the stand-in: its rows, and what Label Studio does to them."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from label_studio_sdk.label_interface import LabelInterface

from soak.stand_in.records import Annotation, Prediction, Result, Webhook

SHOWN_BY_DEFAULT = {
    "description": "",
    "maximum_annotations": 1,
    "show_collab_predictions": True,
    "sampling": "Sequential sampling",
    "skip_queue": "REQUEUE_FOR_OTHERS",
    "model_version": "",
    "min_annotations_to_start_training": 0,
}


class Refused(Exception):
    """A request that Label Studio refuses with this HTTP ``status``."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


@dataclass
class Numbers:
    """The next ID of each table, and a clock of which no two readings are equal."""

    last: dict[str, int] = field(default_factory=dict)
    now: datetime = datetime(2026, 1, 1, tzinfo=timezone.utc)

    def next(self, table: str) -> int:
        """A new ID."""
        self.last[table] = self.last.get(table, 0) + 1
        return self.last[table]

    def time(self) -> str:
        """The time now, as Label Studio writes it."""
        self.now = max(datetime.now(timezone.utc), self.now + timedelta(microseconds=1))
        return self.now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass
class Project:
    """The tasks of one project by ID, with all that belongs to them.

    ``fields`` are the project's settings; ``locks``: (task, user) pairs that `next_task` has given out. ``tell`` is
    called with each action that webhooks are told, and its payload.
    """

    id: int
    numbers: Numbers
    fields: dict[str, Any]
    tasks: dict[int, dict[str, Any]] = field(default_factory=dict)
    annotations: dict[int, Annotation] = field(default_factory=dict)
    predictions: dict[int, Prediction] = field(default_factory=dict)
    webhooks: dict[int, Webhook] = field(default_factory=dict)
    locks: set[tuple[int, int]] = field(default_factory=set)
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def tell(self, action: str, **payload: Any) -> None:
        """Note what webhooks are to be told; the server delivers it after the request."""
        self.told.append((action, {"action": action, "project": {"id": self.id}, **payload}))

    # Settings

    def update(self, fields: Mapping[str, Any]) -> None:
        """Change settings; a model version must have predictions, or be empty."""
        version = fields.get("model_version")
        if version and version not in self.versions():
            raise Refused(400, "Model version doesn't exist either as live model or as static predictions.")
        self.fields |= fields
        if fields.get("show_collab_predictions") is False:
            self.fields["model_version"] = ""
        self.tell("PROJECT_UPDATED")

    def shown(self) -> dict[str, Any]:
        """The row as the API sends it."""
        return {"id": self.id, **self.fields, **self.counts()}

    def counts(self) -> dict[str, int]:
        """The totals; skipped annotations and those with a star count apart."""
        counted = [one for one in self.annotations.values() if not (one.was_cancelled or one.ground_truth)]
        return {
            "id": self.id,
            "task_number": len(self.tasks),
            "num_tasks_with_annotations": len({one.task for one in counted}),
            "total_annotations_number": sum(not one.was_cancelled for one in self.annotations.values()),
            "skipped_annotations_number": sum(one.was_cancelled for one in self.annotations.values()),
            "ground_truth_number": sum(one.ground_truth for one in self.annotations.values()),
            "total_predictions_number": len(self.predictions),
            "finished_task_number": sum(self.is_labeled(task) for task in self.tasks),
        }

    # Tasks

    def import_tasks(self, rows: Iterable[Mapping[str, Any]]) -> list[int]:
        """Make a task of each row's data, with its annotations and predictions; returns their IDs."""
        made = []
        for row in rows:
            task = self.numbers.next("task")
            self.tasks[task] = dict(row.get("data", row))
            made.append(task)
        self.tell("TASKS_CREATED", tasks=[{"id": task} for task in made])
        return made

    def delete_tasks(self, tasks: Collection[int]) -> None:
        """Delete tasks with all that belongs to them."""
        for task in tasks:
            del self.tasks[task]
        self.annotations = {number: one for number, one in self.annotations.items() if one.task not in tasks}
        self.predictions = {number: one for number, one in self.predictions.items() if one.task not in tasks}
        self.locks = {(task, user) for task, user in self.locks if task not in tasks}
        self.tell("TASKS_DELETED", tasks=[{"id": task} for task in tasks])

    def of(self, task: int, cancelled: bool | None = None) -> list[Annotation]:
        """The annotations of a task: all, only the skipped ones, or only the others."""
        found = (one for one in self.annotations.values() if one.task == task)
        return [one for one in found if cancelled is None or one.was_cancelled == cancelled]

    def is_labeled(self, task: int) -> bool:
        """Whether a task needs no more annotations."""
        done = None if self.fields["skip_queue"] == "IGNORE_SKIPPED" else False
        return len(self.of(task, done)) >= int(self.fields["maximum_annotations"])

    def row(self, task: int) -> dict[str, Any]:
        """A task as the API lists it."""
        return {
            "id": task,
            "project": self.id,
            "data": self.tasks[task],
            "is_labeled": self.is_labeled(task),
            "total_annotations": len(self.of(task, cancelled=False)),
            "cancelled_annotations": len(self.of(task, cancelled=True)),
            "total_predictions": sum(one.task == task for one in self.predictions.values()),
        }

    def listed(self, items: Sequence[Mapping[str, Any]]) -> list[int]:
        """The tasks that pass the filters of a query, by ID."""
        tests: dict[str, Callable[[Any, Any], bool]] = {
            "equal": lambda value, wanted: bool(value == wanted),
            "not_equal": lambda value, wanted: bool(value != wanted),
            "greater": lambda value, wanted: bool(value > wanted),
            "less": lambda value, wanted: bool(value < wanted),
        }

        def passes(task: int) -> bool:
            row = self.row(task)
            return all(
                tests[one["operator"]](row[one["filter"].removeprefix("filter:tasks:")], one["value"]) for one in items
            )

        return [task for task in sorted(self.tasks) if passes(task)]

    # Predictions

    def import_predictions(self, payloads: Sequence[Mapping[str, Any]]) -> int:
        """Store the predictions that are valid, and drop the others silently; returns how many were stored."""
        for one in payloads:
            if one.get("task") not in self.tasks:
                raise Refused(400, f'invalid "task" field: task ID {one.get("task")} not found in project {self.id}')
        interface = LabelInterface(self.fields["label_config"])
        valid = [one for one in payloads if self._is_valid(interface, one)]
        for one in valid:
            self._store(one["task"], str(one.get("model_version", "undefined")), one.get("score"), one["result"])
        return len(valid)

    @staticmethod
    def _is_valid(interface: LabelInterface, payload: Mapping[str, Any]) -> bool:
        try:
            score = payload.get("score")
            return (score is None or 0 <= float(score) <= 1) and not interface.validate_prediction(
                dict(payload), return_errors=True
            )
        except (TypeError, ValueError):
            return False

    def _store(self, task: int, version: str, score: Any, result: Result) -> None:
        number = self.numbers.next("prediction")
        self.predictions[number] = Prediction(number, task, version, None if score is None else float(score), result)

    def versions(self) -> dict[str, int]:
        """How many predictions each version has."""
        counted: dict[str, int] = {}
        for one in self.predictions.values():
            counted[one.model_version] = counted.get(one.model_version, 0) + 1
        return counted

    def delete_version(self, version: str) -> int:
        """Delete a version's predictions; a project that showed them shows none afterwards."""
        gone = [number for number, one in self.predictions.items() if one.model_version == version]
        for number in gone:
            del self.predictions[number]
        for one in self.annotations.values():
            if one.parent_prediction in gone:
                one.parent_prediction = None
        if self.fields["model_version"] == version:
            self.fields["model_version"] = ""
        return len(gone)

    def shown_prediction(self, task: int) -> Prediction | None:
        """The prediction of a task that an annotator sees: of several of the version, the oldest."""
        version = self.fields["model_version"]
        found = (one for one in self.predictions.values() if one.task == task and one.model_version == version)
        return next(found, None) if self.fields["show_collab_predictions"] else None

    # Annotations

    def annotate(self, user: int, task: int, fields: Mapping[str, Any]) -> Annotation:
        """Submit or, with ``was_cancelled``, skip a task; ends the user's lock of it."""
        if task not in self.tasks:
            raise Refused(404, "No Task matches the given query.")
        now, shown = self.numbers.time(), self.shown_prediction(task)
        one = Annotation(
            id=self.numbers.next("annotation"),
            task=task,
            result=list(fields.get("result", [])),
            completed_by=user,
            created_at=now,
            updated_at=now,
            updated_by=user,
            was_cancelled=bool(fields.get("was_cancelled", False)),
            ground_truth=bool(fields.get("ground_truth", False)),
            lead_time=fields.get("lead_time"),
            parent_prediction=fields.get("parent_prediction"),
            prediction=asdict(shown) if shown else {},
        )
        self.annotations[one.id] = one
        self.locks.discard((task, user))
        self.tell("ANNOTATION_CREATED", annotation=one.shown(), task=self.row(task))
        return one

    def change(self, user: int, annotation: int, fields: Mapping[str, Any]) -> Annotation:
        """Change an annotation."""
        one = self.annotation(annotation)
        for name in ("result", "was_cancelled", "ground_truth", "lead_time"):
            if name in fields:
                setattr(one, name, fields[name])
        one.updated_at, one.updated_by = self.numbers.time(), user
        self.tell("ANNOTATION_UPDATED", annotation=one.shown(), task=self.row(one.task))
        return one

    def delete_annotation(self, annotation: int) -> None:
        """Delete an annotation."""
        self.annotation(annotation)
        del self.annotations[annotation]
        self.tell("ANNOTATIONS_DELETED", annotations=[{"id": annotation}])

    def annotation(self, annotation: int) -> Annotation:
        """Find an annotation."""
        if annotation not in self.annotations:
            raise Refused(404, "No Annotation matches the given query.")
        return self.annotations[annotation]

    def accept(self, user: int, tasks: Iterable[int], version: str) -> int:
        """Make an annotation of each task's prediction, as the Data Manager does: nobody looks at them."""
        made = []
        for task in tasks:
            for prediction in [one for one in self.predictions.values() if one.task == task]:
                if prediction.model_version == version:
                    now = self.numbers.time()
                    number = self.numbers.next("annotation")
                    one = Annotation(number, task, prediction.result, user, now, now, parent_prediction=prediction.id)
                    self.annotations[number] = one
                    made.append(one)
        if made:
            rows = [self.row(one.task) for one in made]
            self.tell("ANNOTATIONS_CREATED", annotation=[one.shown() for one in made], task=rows)
        return len(made)

    # The queue

    def next_task(self, user: int) -> int | None:
        """Lock and return the task that a user gets next, as the button Label All Tasks does; None at the end."""
        free = [task for task in sorted(self.tasks) if self._may_have(user, task)]
        held = [task for task in free if (task, user) in self.locks]
        task = next(iter(held or self._sampled(free)), None)
        if task is not None:
            self.locks.add((task, user))
        return task

    def _may_have(self, user: int, task: int) -> bool:
        if self.is_labeled(task) or any(one.completed_by == user for one in self.of(task)):
            return False
        others = sum(one == task and who != user for one, who in self.locks)
        return others + len(self.of(task, cancelled=False)) < int(self.fields["maximum_annotations"])

    def _sampled(self, free: Sequence[int]) -> Iterator[int]:
        sampling = self.fields["sampling"]
        if sampling == "Uncertainty sampling":
            shown = {task: self._lowest(task) for task in free}
            yield from sorted((task for task in free if shown[task] is not None), key=lambda task: shown[task] or 0.0)
        if sampling == "Sequential sampling":
            yield from free
        yield from self.chance.sample(free, len(free))

    def _lowest(self, task: int) -> float | None:
        """The lowest score of a task's predictions of the shown version; a prediction without a score comes last."""
        version = self.fields["model_version"]
        found = [one for one in self.predictions.values() if one.task == task and one.model_version == version]
        return min((2.0 if one.score is None else one.score for one in found), default=None)
