"""Labels that a team has already become annotations of the frames that are in the project."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from ml_backend.ingest.labels.frames import Frames, labels_of_frames
from ml_backend.ingest.labels.table import LabelRow, read_label_table
from ml_backend.studio.client import ConfirmedAnnotation, Studio
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.keys import DataKeys
from ml_backend.studio.payloads import Imported, imported_result

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class LabelPlan:
    """What an import of labels will do.

    ``rows``: the row that each task gets a label from; ``there``: tasks that have this label from an earlier import;
    ``answered``: tasks that have another annotation, which stays alone; ``audited``: tasks that an open audit asks;
    ``problems`` of other rows, by line; ``not_assessed``: number of rows without a label; ``ignored`` columns.
    """

    file: str
    rows: Mapping[int, LabelRow] = field(default_factory=dict)
    there: Collection[int] = ()
    answered: Collection[int] = ()
    audited: Collection[int] = ()
    problems: Mapping[int, str] = field(default_factory=dict)
    not_assessed: int = 0
    ignored: tuple[str, ...] = ()

    def lines(self, dry_run: bool) -> Iterator[str]:
        """Yield the summary, a line each."""
        yield f"{'frames to label:' if dry_run else 'frames labelled:':<24} {len(self.rows)}"
        for what, count in {
            "already imported": len(self.there),
            "have another annotation": len(self.answered),
            "asked in an open audit": len(self.audited),
            "rows not assessed": self.not_assessed,
            "rows with a problem": len(self.problems),
        }.items():
            if count:
                yield f"{what + ':':<24} {count}"
        if self.ignored:
            yield f"columns that were ignored, no symptom has their name: {', '.join(self.ignored)}"


def plan(
    studio: Studio,
    project: int,
    path: Path,
    configuration: Configuration,
    keys: DataKeys,
    audited: Collection[int],
    whole_clips: bool,
) -> LabelPlan:
    """Read the table and the project, and decide which frame gets which label; ``audited``: asked in an open audit.

    Raises:
        InvalidRequest: if the table cannot be read or lacks a column.
    """
    symptoms = list(zip(configuration.label_names, configuration.values, strict=True))
    table = read_label_table(path, symptoms)
    labels = labels_of_frames(table.rows, Frames(studio.tasks(project), configuration.image_key, keys), whole_clips)
    annotated: dict[int, list[ConfirmedAnnotation]] = {}
    for one in studio.confirmed_annotations(project):
        annotated.setdefault(one.task, []).append(one)
    rows: dict[int, LabelRow] = {}
    there: set[int] = set()
    answered: set[int] = set()
    asked: set[int] = set()
    for task, row in labels.rows.items():
        if task in annotated:
            same = any(_is_of(one, path.name, row, configuration) for one in annotated[task])
            (there if same else answered).add(task)
        elif task in audited:
            asked.add(task)
        else:
            rows[task] = row
    problems = dict(sorted({**table.problems, **labels.problems}.items()))
    return LabelPlan(path.name, rows, there, answered, asked, problems, table.not_assessed, table.ignored)


def carry_out(
    studio: Studio,
    planned: LabelPlan,
    configuration: Configuration,
    audited: Callable[[], Collection[int]],
    report: Report,
) -> LabelPlan:
    """Make the annotations, one at a time, since Label Studio takes no more; after an interruption, plan again.

    ``audited``: what an open audit asks by now. Returns the plan as it was carried out: frames that somebody answered
    since it was made, or that an audit drew, stay as they are.
    """
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    answered, asked = set(planned.answered), set(planned.audited)
    for done, (task, row) in enumerate(planned.rows.items(), start=1):
        if task in audited():
            asked.add(task)
        elif studio.is_annotated(task):
            answered.add(task)
        else:
            origin = Imported(planned.file, now, row.annotator, row.date)
            studio.submit(task, imported_result(np.array(row.labels, np.uint8), configuration, origin))
        report(done, len(planned.rows))
    labelled = {task: row for task, row in planned.rows.items() if task not in answered | asked}
    return replace(planned, rows=labelled, answered=answered, audited=asked)


def _is_of(one: ConfirmedAnnotation, file: str, row: LabelRow, configuration: Configuration) -> bool:
    """Whether an annotation is this row's, from an earlier run."""
    if one.imported is None or one.imported.file != file:
        return False
    expected = imported_result(np.array(row.labels, np.uint8), configuration, one.imported)
    return [item.get("value") for item in one.result] == [item["value"] for item in expected]
