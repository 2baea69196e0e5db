"""A Label Studio without a network, which takes imports and has some of its frames answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.offline import WHEN, XML, results
from ml_backend.studio.client import ConfirmedAnnotation, Counts, ProjectInfo, Task


class GrowthStudio:
    """One project; every clip has one answer, and the ``answered`` first frames carry it."""

    def __init__(self) -> None:
        self.answered = 0
        self._data: list[Mapping[str, Any]] = []
        self._results = results()

    def project(self, project: int) -> ProjectInfo:
        return ProjectInfo("Growth", XML, None, "Uncertainty sampling", 1, True)

    def counts(self, project: int) -> Counts:
        return Counts(len(self._data), self.answered, len(self._data) - self.answered, self.answered)

    def tasks(self, project: int, only_unlabelled: bool = False) -> Iterator[Task]:
        first = self.answered if only_unlabelled else 0
        return (Task(place + 1, self._data[place]) for place in range(first, len(self._data)))

    def import_tasks(self, project: int, data: Sequence[Mapping[str, Any]]) -> list[int]:
        self._data += data
        return list(range(len(self._data) - len(data) + 1, len(self._data) + 1))

    def confirmed_annotations(self, project: int) -> list[ConfirmedAnnotation]:
        return [
            ConfirmedAnnotation(place + 1, place + 1, WHEN, data, self._result(data), by=1, created_at=WHEN)
            for place, data in enumerate(self._data[: self.answered])
        ]

    def _result(self, data: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        return self._results[sum(str(data["clip"]).encode()) % len(self._results)]

    def shown_predictions(self, project: int, annotations: Sequence[ConfirmedAnnotation]) -> Mapping[int, Any]:
        return {}

    def people(self) -> dict[int, str]:
        return {1: "Ada Lovelace"}

    def local_storages(self, project: int) -> list[str]:
        return ["/"]
