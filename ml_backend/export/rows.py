"""The rows of an export, one for each labelled frame: pure data, made from what was read of a project."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ml_backend.frames.frame import Frame
from ml_backend.tsal.split import Part, parts

Source = Literal["person", "imported", "accepted unseen", "machine"]
SOURCES: tuple[Source, ...] = ("person", "imported", "accepted unseen", "machine")
Only = Literal["people", "certified", "all"]
NOT_WANTED = "have a label that was not asked for"
UNREADABLE = "have a picture that cannot be read"


@dataclass(frozen=True)
class Label:
    """The label of a frame.

    ``symptoms`` (l,): 1 present, 0 absent, None where the label says nothing, as of a symptom that was added later.
    ``method`` of the machine: ``memory``, ``network`` or ``table``; of an imported label: the table that it comes from.
    ``user``: ID of who submitted it, or the name that the table gives. ``at``: when it was given or imported (ISO
    8601). ``confidence`` of the machine, in [0, 1]; ``version``: the model version that made it. ``certificate``:
    number of the valid certificate that covers the frame. What does not apply is empty or None.
    """

    symptoms: tuple[int | None, ...]
    source: Source
    method: str = ""
    user: int | str | None = None
    at: str = ""
    confidence: float | None = None
    version: str = ""
    certificate: int | None = None


@dataclass(frozen=True)
class Row:
    """A frame with its label.

    ``image``: the path of its picture in the export, or its address; ``size``: its width and height in pixels, None
    where it was not read; ``patient``, ``clip`` and ``annotator`` under the names that they are exported by; ``time``
    in the clip, in seconds; ``audited``: whether it was drawn uniformly for an audit.
    """

    task: int
    image: str
    patient: str
    clip: str
    time: float | None
    split: Part
    label: Label
    annotator: str
    audited: bool
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Material:
    """What was read of a project.

    ``frames``: all of them; ``labels``: by task; ``why_not``: by task, why a frame has none, as the end of a sentence
    about several frames; ``audited``: tasks that were drawn uniformly for an audit.
    """

    frames: Sequence[Frame]
    labels: Mapping[int, Label]
    why_not: Mapping[int, str]
    audited: Collection[int]


@dataclass(frozen=True)
class Names:
    """How an export names patients, clips and annotators: functions of what the project calls them."""

    patient: Callable[[str], str]
    clip: Callable[[str], str]
    annotator: Callable[[int | str], str]


@dataclass(frozen=True)
class Rows:
    """The rows of an export in the order of their tasks, and how many frames were ``left_out`` for which reason."""

    rows: tuple[Row, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, material: Material, only: Only, names: Names, hold_out: float, seed: int) -> Rows:
        """Make the rows; ``hold_out`` and ``seed`` are those with which the project holds patients out."""
        frames = sorted(material.frames, key=lambda one: one.task)
        left_out: Counter[str] = Counter()
        rows: list[Row] = []
        for frame, part in zip(frames, parts([one.patient for one in frames], hold_out, seed), strict=True):
            label = material.labels.get(frame.task)
            if label is None:
                left_out[material.why_not.get(frame.task, "have no label yet")] += 1
            elif not is_wanted(label, only):
                left_out[NOT_WANTED] += 1
            else:
                rows.append(_row(frame, label, part, names, frame.task in material.audited))
        return cls(tuple(rows), left_out)

    def with_images(self, found: Mapping[int, Row]) -> Rows:
        """Return the rows that ``found`` holds in another form, by task; the others count as unreadable."""
        rows = tuple(found[one.task] for one in self.rows if one.task in found)
        lost = len(self.rows) - len(rows)
        return Rows(rows, {**self.left_out, UNREADABLE: lost} if lost else self.left_out)

    def of_part(self, part: Part) -> list[Row]:
        """The rows of one part of the split."""
        return [one for one in self.rows if one.split == part]


def is_wanted(label: Label, only: Only) -> bool:
    """Whether a label may be exported."""
    if only == "people":
        return label.source == "person"
    return only == "all" or label.certificate is not None


def count(rows: Iterable[Row], column: int) -> tuple[int, int, int]:
    """Count the rows in which a symptom is present, absent, and unknown."""
    values = Counter(one.label.symptoms[column] for one in rows)
    return values[1], values[0], values[None]


def _row(frame: Frame, label: Label, part: Part, names: Names, audited: bool) -> Row:
    return Row(
        task=frame.task,
        image=frame.url,
        patient=names.patient(frame.patient),
        clip=names.clip(frame.clip),
        time=frame.time,
        split=part,
        label=label,
        annotator="" if label.user is None else names.annotator(label.user),
        audited=audited,
    )
