"""Find the frames of a project that a table of labels is about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ml_backend.ingest.labels.table import LabelRow
from ml_backend.ingest.places import place_of
from ml_backend.ingest.words import counted
from ml_backend.studio.keys import DataKeys
from ml_backend.studio.tasks import Task

SAME_TIME = 0.011
"""Seconds by which a time may differ: tables often round it to two decimals."""


@dataclass(frozen=True)
class Labels:
    """The labels of frames: the row that each task got, and what is wrong with other rows, by line."""

    rows: Mapping[int, LabelRow]
    problems: Mapping[int, str]


class Frames:
    """The frames of a project, by what a table may call them."""

    def __init__(self, tasks: Iterable[Task], image_key: str, keys: DataKeys) -> None:
        self._pictures: dict[str, set[int]] = defaultdict(set)
        self._clips: dict[str, set[str]] = defaultdict(set)
        self._of_clip: dict[str, list[Task]] = defaultdict(list)
        self._time_key = keys.time
        for task in tasks:
            address = str(task.data.get(image_key) or "")
            for name in _names(address, place_of(address)):
                self._pictures[name].add(task.id)
            clip = str(task.data.get(keys.clip) or "")
            if clip:
                self._of_clip[clip].append(task)
                for name in _names(clip, str(task.data.get("source") or "")):
                    self._clips[name].add(clip)

    def of(self, row: LabelRow, whole_clips: bool) -> list[int]:
        """Return the tasks that a row is about; raises ValueError with the reason where that is not known."""
        pictures = self._pictures.get(row.name) or set()
        if len(pictures) > 1:
            raise ValueError(f"names {row.name}, which is the picture of {len(pictures)} tasks: name a whole address")
        if pictures:
            return list(pictures)
        clips = self._clips.get(row.name) or set()
        if len(clips) > 1:
            raise ValueError(f"names {row.name}, which fits {len(clips)} clips: write the path, as the task has it")
        if not clips:
            raise ValueError(f"names {row.name}, which is no picture, file or clip of the project")
        return self._in_clip(row, self._of_clip[next(iter(clips))], whole_clips)

    def _in_clip(self, row: LabelRow, tasks: Sequence[Task], whole_clips: bool) -> list[int]:
        if row.frame is not None:
            found = [task.id for task in tasks if _number(task.data.get("frame")) == row.frame]
            if not found:
                raise ValueError(f"names frame {row.frame} of {row.name}, which the project does not have")
            return found
        if row.time is not None:
            apart = {
                task.id: abs(time - row.time)
                for task in tasks
                if (time := _number(task.data.get(self._time_key))) is not None
            }
            nearest = min(apart, key=lambda task: apart[task], default=None)
            if nearest is None or apart[nearest] > SAME_TIME:
                raise ValueError(f"names {row.time} s of {row.name}, where the project has no frame")
            return [nearest]
        if len(tasks) > 1 and not whole_clips:
            raise ValueError(
                f"names all of {row.name}, which has {counted(len(tasks), 'frame', 'frames')}: add --whole-clips if "
                "its labels hold for each of them"
            )
        return [task.id for task in tasks]


def labels_of_frames(rows: Iterable[LabelRow], frames: Frames, whole_clips: bool) -> Labels:
    """Give each frame the row that is about it; a row about the frame alone counts before one about its whole clip.

    A row that fits nothing, and rows that contradict each other, cost only themselves.
    """
    of_task: dict[int, list[LabelRow]] = defaultdict(list)
    alone: dict[int, list[LabelRow]] = defaultdict(list)
    problems: dict[int, str] = {}
    for row in rows:
        try:
            tasks = frames.of(row, whole_clips)
        except ValueError as error:
            problems[row.line] = str(error)
            continue
        for task in tasks:
            (alone if len(tasks) == 1 else of_task)[task].append(row)
    chosen = of_task | alone
    for task, several in chosen.items():
        if len({row.labels for row in several}) > 1:
            for row in several:
                others = ", ".join(str(one.line) for one in several if one is not row)
                problems[row.line] = f"says something else of task {task} than line {others}: correct one of them"
    found = {task: several[0] for task, several in sorted(chosen.items()) if several[0].line not in problems}
    return Labels(found, problems)


def _names(*paths: str | None) -> Collection[str]:
    """What a table may write for a path: all of it, or its last part."""
    return {name for path in paths if path for name in (path, PurePosixPath(path).name) if name}


def _number(value: Any) -> float | None:
    try:
        return None if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None
