"""Collect what a fine-tune learns from: the confirmed annotations that count, and their frames."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import UnknownLabel
from ml_backend.frames.frame import Frame
from ml_backend.logs import changed
from ml_backend.services import Services
from ml_backend.settings import Disagreement, Settings
from ml_backend.store.symptoms import Periods, known_at
from ml_backend.store.versions import Manifest, TrainedOn
from ml_backend.studio.client import ConfirmedAnnotation
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.payloads import is_not_assessable, labels_of

logger = logging.getLogger(__name__)
_SHOWN = 20  # numbers that a log line or a note names
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Labelled:
    """A frame with the confirmed annotation that counts for it.

    ``labels`` (l,) of 0 and 1; ``known`` (l,) booleans: whether the annotation says anything of the symptom. One that
    was added to the configuration later is unknown, not absent; its label is 0 then. ``named``: the patient that
    the task's data names, or empty.
    """

    annotation: ConfirmedAnnotation
    labels: NDArray[np.uint8]
    known: NDArray[np.bool_]
    named: str = ""

    @property
    def seen(self) -> TrainedOn:
        """The annotation as a manifest records it."""
        one = self.annotation
        return TrainedOn(annotation=one.id, task=one.task, updated_at=one.updated_at)

    @property
    def patient(self) -> str:
        """The patient that the task names; a frame without one is a patient of its own."""
        return self.named or f"task {self.annotation.task}"


@dataclass(frozen=True)
class Collected:
    """The annotations that count, one per frame, as they read under a ``configuration``.

    ``accepted`` is the number of those that do not, since nobody looked; ``not_assessable`` are the tasks of which
    people said only that they cannot be judged. ``left_out`` has the numbers of annotations or tasks by the reason.
    """

    labelled: list[Labelled]
    configuration: Configuration
    accepted: int = 0
    not_assessable: frozenset[int] = frozenset()
    left_out: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def notes(self) -> list[str]:
        """What is left out and why, as a version keeps it."""
        return [f"left out {len(numbers)} {what}: {_shown(numbers)}" for what, numbers in self.left_out.items()]


@dataclass(frozen=True)
class Material:
    """The n frames that can be read, with their labels.

    ``digests`` of the frames' files; ``labels`` (n, l) of 0 and 1 and ``known`` (n, l) booleans as in `Labelled`;
    ``left_out``: annotations whose frames cannot be read.
    """

    labelled: list[Labelled]
    frames: list[Frame]
    digests: list[bytes]
    labels: NDArray[np.uint8]
    known: NDArray[np.bool_]
    left_out: list[Labelled]

    @property
    def tasks(self) -> list[int]:
        """The frames' tasks, in order."""
        return [frame.task for frame in self.frames]

    @property
    def patients(self) -> list[str]:
        """The frames' patients, in order."""
        return [one.patient for one in self.labelled]


def collect(
    services: Services,
    project: int,
    configuration: Configuration,
    annotations: Sequence[ConfirmedAnnotation] | None = None,
) -> Collected:
    """Read the confirmed annotations, one a frame: of several that disagree the one that the settings' rule names.

    ``annotations``: all of the project, where they have been read already. The log says how many are left out, and why.
    """
    periods = symptoms(services, project, configuration)
    read_now = services.studio.confirmed_annotations(project) if annotations is None else annotations
    collected = sort_out(read_now, configuration, periods, services.settings)
    for what, numbers in collected.left_out.items():
        shown = _shown(numbers)
        changed(logger, "left out", level=logging.WARNING, project=project, kind=what, count=len(numbers), ids=shown)
    return collected


def sort_out(
    annotations: Sequence[ConfirmedAnnotation], configuration: Configuration, periods: Periods, settings: Settings
) -> Collected:
    """Tell the annotations that count from the others; ``periods``: since when there is which symptom.

    Left out are annotations that nobody looked at (unless TSAL_ACCEPTED=train), imported ones (unless
    TSAL_IMPORTED=train), those that say *not assessable* or tick only choices that the configuration does not have, and
    frames whose annotations disagree where the rule is to leave them out. Where such a choice is ticked beside others,
    it alone is dropped.
    """
    accepted: list[int] = []
    imported: list[int] = []
    unknown: list[int] = []
    partly: list[int] = []
    not_assessable: set[int] = set()
    of_frame: dict[int, list[Labelled]] = defaultdict(list)
    for annotation in annotations:
        if annotation.accepted_unseen and settings.accepted != "train":
            accepted.append(annotation.id)
            continue
        if annotation.imported is not None and settings.imported != "train":
            imported.append(annotation.id)
            continue
        if is_not_assessable(annotation.result):
            not_assessable.add(annotation.task)
            continue
        try:
            labels, gone = labels_of(annotation.result, configuration)
        except UnknownLabel:
            unknown.append(annotation.id)
            continue
        if gone:
            partly.append(annotation.id)
        known = [known_at(periods, name, annotation.updated_at) for name in configuration.label_names]
        patient = str(annotation.data.get(settings.patient_key) or "")
        of_frame[annotation.task].append(Labelled(annotation, labels, np.array(known) | (labels == 1), patient))
    settled = {task: settle(several, settings.disagreement) for task, several in sorted(of_frame.items())}
    left_out = {
        "annotations that tick only symptoms that the configuration does not have": unknown,
        "annotations in part: they also tick symptoms that the configuration does not have": partly,
        "tasks whose annotations disagree": [task for task, one in settled.items() if one is None],
        "annotations that were accepted unseen": accepted,
        "annotations that were imported": imported,
        "tasks that are not assessable": sorted(not_assessable - of_frame.keys()),
    }
    labelled = [one for one in settled.values() if one is not None]
    return Collected(
        labelled,
        configuration,
        len(accepted),
        frozenset(not_assessable - of_frame.keys()),
        {what: numbers for what, numbers in left_out.items() if numbers},
    )


def confirmed(services: Services, project: int, configuration: Configuration) -> list[Labelled]:
    """Read the annotations that count, as `collect`."""
    return collect(services, project, configuration).labelled


def symptoms(services: Services, project: int, configuration: Configuration) -> Periods:
    """Note which symptoms the configuration has now; return since when it has had each."""
    newest = services.versions(project).newest()
    return services.symptoms(project).note(
        configuration.label_names, newest.label_names if newest else configuration.label_names
    )


def settle(several: Sequence[Labelled], rule: Disagreement) -> Labelled | None:
    """Return the annotation that counts for a frame, None where the rule leaves the frame out.

    An imported label counts only where no person answered, and annotations from before a symptom was added only where
    there are none from after. ``latest``: the one that was changed last. ``majority``: the last one among those with
    the most frequent labels, ties included. ``leave out``: the last one if all agree.
    """
    if len(several) == 1:  # nearly always
        return several[0]
    several = [one for one in several if one.annotation.imported is None] or list(several)
    most_known = max(one.known.sum() for one in several)
    several = [one for one in several if one.known.sum() == most_known]
    votes = Counter(one.labels.tobytes() for one in several)
    if rule == "leave out" and len(votes) > 1:
        return None
    most = max(votes.values())
    heard = [one for one in several if rule != "majority" or votes[one.labels.tobytes()] == most]
    return max(heard, key=lambda one: (one.annotation.updated_at, one.annotation.id))


def changed_since(labelled: Sequence[Labelled], manifest: Manifest | None) -> list[Labelled]:
    """Return the annotations that a version has not seen in their present form."""
    seen = set(manifest.seen) if manifest else set()
    return [one for one in labelled if one.seen not in seen]


def read(services: Services, labelled: Sequence[Labelled], configuration: Configuration, report: Report) -> Material:
    """Read the frames of annotations, and compute and cache the views that training draws from."""
    frames = [services.frame(one.annotation.task, one.annotation.data, configuration) for one in labelled]
    width = len(configuration.label_names)
    readable: list[Frame] = []
    digests: list[bytes] = []
    for chunk in services.predictor.activations(frames, width, services.settings.views):
        readable.extend(chunk.frames)
        digests.extend(chunk.digests)
        report("reading frames", len(readable), len(frames))
    there = {frame.task for frame in readable}
    found = [one for one in labelled if one.annotation.task in there]
    return Material(
        labelled=found,
        frames=readable,
        digests=digests,
        labels=np.array([one.labels for one in found], np.uint8).reshape(len(found), width),
        known=np.array([one.known for one in found], bool).reshape(len(found), width),
        left_out=[one for one in labelled if one.annotation.task not in there],
    )


def _shown(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:_SHOWN])) + (", …" if len(numbers) > _SHOWN else "")
