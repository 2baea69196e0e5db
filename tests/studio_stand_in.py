"""A small Label Studio in memory, for tests of what happens around it; the end-to-end test has the real one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ml_backend.errors import StudioRefused
from ml_backend.studio.client import ConfirmedAnnotation, Counts, ProjectInfo, Task
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.connections import Webhook
from ml_backend.studio.payloads import choices_result
from tests.installation import PROJECT, XML, task_with_frame


class Died(BaseException):
    """A process that is killed in the middle of what it does."""


@dataclass
class StudioStandIn:
    """One project: tasks by number, annotations and predictions.

    ``names`` of the users; ``dropped``: tasks whose predictions Label Studio takes without a word and does not keep;
    ``dies``: the next change of the project never arrives; ``shown``: by annotation, the prediction that its annotator
    saw.
    """

    xml: str = XML
    model_version: str | None = None
    sampling: str = "Sequential sampling"
    task_data: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    annotations: list[ConfirmedAnnotation] = field(default_factory=list)
    predictions: list[Mapping[str, Any]] = field(default_factory=list)
    shown: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)
    dies: bool = False
    listed: int = 0
    names: dict[int, str] = field(default_factory=dict)

    def project(self, project: int) -> ProjectInfo:
        return ProjectInfo("Test", self.xml, self.model_version, self.sampling, 1, True)

    def counts(self, project: int) -> Counts:
        annotated = len({one.task for one in self.annotations})
        total = len(self.task_data)
        return Counts(total, annotated, total - annotated, len(self.annotations))

    def tasks(self, project: int, only_unlabelled: bool = False) -> Iterator[Task]:
        self.listed += 1
        annotated = {one.task for one in self.annotations}
        for number, data in sorted(self.task_data.items()):
            if not (only_unlabelled and number in annotated):
                yield Task(number, data)

    def confirmed_annotations(self, project: int) -> list[ConfirmedAnnotation]:
        return list(self.annotations)

    def people(self) -> dict[int, str]:
        return dict(self.names)

    def shown_predictions(
        self, project: int, annotations: Sequence[ConfirmedAnnotation]
    ) -> dict[int, Mapping[str, Any]]:
        return {one.id: self.shown[one.id] for one in annotations if one.id in self.shown}

    def model_versions(self, project: int) -> list[str]:
        return sorted({str(one["model_version"]) for one in self.predictions})

    def import_predictions(self, project: int, payloads: Iterable[Mapping[str, Any]]) -> None:
        sent = list(payloads)
        kept = [one for one in sent if one["task"] not in self.dropped]
        self.predictions += kept
        if len(kept) < len(sent):
            raise StudioRefused(f"{len(sent)} were sent and {len(kept)} stored")

    def update_project(self, project: int, **fields: Any) -> None:
        if self.dies:
            raise Died
        self.model_version = fields["model_version"]
        self.sampling = fields["sampling"]

    def delete_model_version(self, project: int, model_version: str) -> None:
        assert model_version != self.model_version
        self.predictions = [one for one in self.predictions if one["model_version"] != model_version]

    def webhooks(self, project: int) -> list[Webhook]:
        return []

    def served(self) -> list[Mapping[str, Any]]:
        """Predictions of the version that the project shows, in the order in which it serves their tasks."""
        shown = [one for one in self.predictions if one["model_version"] == self.model_version]
        return sorted(shown, key=lambda one: one["score"])

    def add(self, folder: Path, *numbers: int, **data: object) -> None:
        """Import tasks whose frames can be read."""
        for number in numbers:
            self.task_data[number] = task_with_frame(folder, number, **data)["data"]

    def confirm(
        self, task: int, labels: Sequence[int], number: int | None = None, at: str = "then", by: int | None = None
    ) -> int:
        """Annotate a task; returns the annotation's number, the task's own unless another is asked for."""
        configuration = Configuration.parse(self.xml)
        result = [choices_result(np.array(labels, np.uint8), configuration)]
        one = ConfirmedAnnotation(number or task, task, at, self.task_data[task], result, by=by)
        self.annotations.append(one)
        return one.id

    def change(self, annotation: int, labels: Sequence[int], at: str) -> None:
        """Change what an annotation says."""
        (place,) = [place for place, one in enumerate(self.annotations) if one.id == annotation]
        result = [choices_result(np.array(labels, np.uint8), Configuration.parse(self.xml))]
        self.annotations[place] = replace(self.annotations[place], result=result, updated_at=at)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small tensors on a busy machine: threads would wait for each other longer than they work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


__all__ = ["PROJECT", "Died", "StudioStandIn", "one_thread"]
