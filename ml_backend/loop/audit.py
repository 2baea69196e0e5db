"""What the answered audit frames of a project say of its ticks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.loop.collect import Labelled
from ml_backend.loop.remember import looked_at
from ml_backend.services import Services
from ml_backend.studio.configuration import Configuration
from ml_backend.tsal.judgement import matches
from ml_backend.tsal.labels import columns_of
from ml_backend.tsal.reliability import AuditReport, Share


@dataclass(frozen=True)
class Told:
    """What was told of a frame before its answer: ``labels`` (l,) as they were ticked, or would have been if blind."""

    labels: NDArray[np.uint8]
    confidence: float
    blind: bool
    source: str


def audit(services: Services, project: int) -> AuditReport:
    """Compare what was told of the audit frames with what people then said of them.

    The audits of the batches count, and those of finishes that were counted. Frames of a finish that is still being
    answered are left out: nobody may be told how they compare before they are counted.
    """
    configuration = services.configuration(services.studio.project(project).label_config)
    return report_on(services, project, looked_at(services, project, configuration), configuration)


def report_on(
    services: Services, project: int, labelled: Sequence[Labelled], configuration: Configuration
) -> AuditReport:
    """The same on these answers, of which those that nobody looked at, and imported ones, are left out."""
    told = told_before(services, project, configuration)
    answered = [one for one in labelled if one.annotation.task in told and one.annotation.by_person]
    before = [told[one.annotation.task] for one in answered]
    names = configuration.label_names
    truth = np.array([one.labels for one in answered], np.uint8).reshape(-1, len(names))
    ticked = np.array([one.labels for one in before], np.uint8).reshape(-1, len(names))
    known = np.array([one.known for one in answered], bool).reshape(-1, len(names))
    return AuditReport.of(
        matches(truth, ticked, known),
        np.array([one.confidence for one in before], np.float64),
        np.array([one.blind for one in before], bool),
        [one.source for one in before],
        [one.patient for one in answered],
        {
            name: Share.of((truth[:, column] == ticked[:, column])[known[:, column]])
            for column, name in enumerate(names)
        },
    )


def told_before(services: Services, project: int, configuration: Configuration) -> dict[int, Told]:
    """Return what was told of each audit frame, by task, without the frames of a finish still being answered."""
    open_ = services.finishes(project).open()
    told = dict(_told_of_batches(services, project, configuration)) | dict(
        _told_of_finishes(services, project, configuration)
    )
    return {task: one for task, one in told.items() if open_ is None or task not in open_.drawn}


def figures(
    services: Services, project: int, labelled: Sequence[Labelled], configuration: Configuration
) -> dict[str, Any]:
    """What a version's manifest keeps of the report at the time of its fine-tune."""
    report = report_on(services, project, labelled, configuration)
    return {"calibration_error": report.calibration_error, "automation_bias": report.bias.to_json()}


def _told_of_batches(services: Services, project: int, configuration: Configuration) -> Iterator[tuple[int, Told]]:
    audits, names = services.audits(project), configuration.label_names
    drawn = audits.tasks()
    for task, told in audits.told().items():
        if task in drawn:
            labels = np.array([name in told.ticks for name in names], np.uint8)
            yield task, Told(labels, told.confidence, told.blind, told.source)


def _told_of_finishes(services: Services, project: int, configuration: Configuration) -> Iterator[tuple[int, Told]]:
    """Which source ticked is not written down there."""
    store = services.finishes(project)
    for finish in store.counted():
        rows = store.rows(finish)
        columns = columns_of(configuration.label_names, finish.symptoms)
        row_of = {task: row for row, task in enumerate(rows.tasks.tolist())}
        for task in finish.drawn:
            row = row_of[task]
            labels = np.array([0 if column is None else rows.labels[row, column] for column in columns], np.uint8)
            yield task, Told(labels, 1.0 - float(rows.uncertainty[row]), task in finish.blind, "")
