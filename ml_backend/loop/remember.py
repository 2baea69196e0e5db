"""What is remembered of a project: its confirmed frames, and what is believed of the pool because of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml_backend.frames.frame import Frame
from ml_backend.frames.scores import Scores
from ml_backend.loop import score as scoring
from ml_backend.loop.collect import Collected, Labelled, collect
from ml_backend.services import Services
from ml_backend.store.audits import AuditTold
from ml_backend.store.versions import Manifest
from ml_backend.studio.configuration import Configuration
from ml_backend.tsal.belief import Audited, Belief, believe
from ml_backend.tsal.correlation import pick_columns
from ml_backend.tsal.labels import columns_of
from ml_backend.tsal.likeness import Places
from ml_backend.tsal.memory import Remembered
from ml_backend.tsal.ticks import Tables

MEMORY = "memory"
"""The validator that ticks what memory, network and table together believe."""


@dataclass(frozen=True)
class Memory:
    """The confirmed frames that somebody looked at: ``labelled``, and where each comes from.

    ``embeddings`` (m, d); ``frames`` in the same order.
    """

    labelled: Sequence[Labelled]
    frames: Sequence[Frame]
    embeddings: NDArray[np.floating]

    @property
    def marks(self) -> dict[int, int]:
        """What is remembered, in short: a number for each task that changes when its labels do."""
        return marks_of(self.labelled)


def marks_of(labelled: Sequence[Labelled]) -> dict[int, int]:
    """Number what each task's annotation says: another number, another label or another symptom asked for."""
    return {
        one.annotation.task: int.from_bytes(
            hashlib.blake2b(one.labels.tobytes() + one.known.tobytes(), digest_size=6).digest(), "big"
        )
        for one in labelled
    }


def looked_at(services: Services, project: int, configuration: Configuration) -> list[Labelled]:
    """The annotations that may be remembered: never one that nobody looked at, whatever TSAL_ACCEPTED says."""
    return seen_by_people(collect(services, project, configuration))


def seen_by_people(collected: Collected) -> list[Labelled]:
    """Of the annotations that count, those that somebody looked at: of the team, or whose label was imported."""
    return [one for one in collected.labelled if not one.annotation.accepted_unseen]


def remember(
    services: Services,
    project: int,
    configuration: Configuration,
    labelled: Sequence[Labelled],
    report: scoring.Report,
) -> Memory:
    """Look up the embeddings of the confirmed frames; those that cannot be read are left out."""
    frames = [services.frame(one.annotation.task, one.annotation.data, configuration) for one in labelled]
    found = scoring.embed(services, project, frames, len(configuration.label_names), report)
    there = dict(zip(found.tasks.tolist(), range(len(found.tasks)), strict=True))
    kept = [place for place, frame in enumerate(frames) if frame.task in there]
    rows = np.array([there[frames[place].task] for place in kept], np.intp)
    return Memory([labelled[place] for place in kept], [frames[place] for place in kept], found.features[rows])


def places_of(frames: Sequence[Frame], embeddings: NDArray[np.floating], numbers: dict[str, int]) -> Places:
    """Where frames come from; ``numbers`` numbers the clips, and grows."""
    clips = [numbers.setdefault(frame.clip, len(numbers)) for frame in frames]
    times = [math.nan if frame.time is None else frame.time for frame in frames]
    return Places(embeddings, np.array(clips, np.intp), np.array(times, np.float64))


def believed(
    memory: Memory,
    pool: Places,
    numbers: dict[str, int],
    told: Mapping[int, AuditTold],
    audited: set[int],
    configuration: Configuration,
    manifest: Manifest | None,
    scores: Scores | None,
) -> Belief:
    """What is believed of every frame of a pool.

    ``told`` is what was said of audit frames before they were answered, by task. A symptom that the version does not
    know counts as absent for the network; the memory may know better.
    """
    names = configuration.label_names
    labels = np.array([one.labels for one in memory.labelled], np.uint8).reshape(-1, len(names))
    known = np.array([one.known for one in memory.labelled], bool).reshape(-1, len(names))
    places = places_of(memory.frames, memory.embeddings, numbers)
    rows = [row for row, frame in enumerate(memory.frames) if frame.task in audited]
    said = [told[task].network if (task := memory.frames[row].task) in told else {} for row in rows]
    before = [[one.get(name, math.nan) for name in names] for one in said]
    probabilities = tables = None
    if manifest is not None and scores is not None:
        columns = columns_of(names, manifest.label_names)
        probabilities = pick_columns(scores.probabilities, columns)
        tables = Tables.from_json(manifest.table, manifest.strengths).relabel(columns)
    return believe(
        pool,
        Remembered(places, labels, known),
        Audited(np.array(rows, np.intp), np.array(before, np.float64).reshape(-1, len(names))),
        probabilities,
        tables,
    )
