"""Suspects of a project: confirmed frames that deserve a second look, with the reasons. Nothing is changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import NetworkNeeded
from ml_backend.frames.frame import Frame
from ml_backend.loop import score as scoring
from ml_backend.loop.collect import Labelled
from ml_backend.loop.order import active_manifest
from ml_backend.loop.remember import Memory, looked_at, places_of, remember
from ml_backend.services import Services
from ml_backend.studio.configuration import NONE_OF_THESE, Configuration
from ml_backend.tsal import suspects as contradicting
from ml_backend.tsal.labels import columns_of
from ml_backend.tsal.likeness import Scale
from ml_backend.tsal.memory import Remembered, learnt_trust


@dataclass(frozen=True)
class Contradiction:
    """A symptom that is contradicted.

    ``confirmed``: whether people ticked it; ``memory`` and ``network`` in [0, 1]: the share of the evidence of the
    other frames, and the network's probability, against that; None where no network was asked or knows the symptom.
    """

    symptom: str
    confirmed: bool
    memory: float
    network: float | None

    @property
    def words(self) -> str:
        """The contradiction in words, such as `B-line present: memory 93%, network 88%`."""
        network = "" if self.network is None else f", network {self.network:.0%}"
        return f"{self.symptom} {'absent' if self.confirmed else 'present'}: memory {self.memory:.0%}{network}"


@dataclass(frozen=True)
class Suspect:
    """A confirmed frame whose labels are contradicted.

    ``confirmed`` are the ticked symptoms, ``witnesses`` the tasks of the nearest frames that differ, ``link`` leads to
    the task in Label Studio; ``strength`` in [0, 1] tells how strongly memory and network contradict it.
    """

    task: int
    strength: float
    confirmed: tuple[str, ...]
    contradicted: tuple[Contradiction, ...]
    witnesses: tuple[int, ...]
    link: str

    @property
    def words(self) -> str:
        """What was confirmed and what contradicts it, in words."""
        against = "; ".join(one.words for one in self.contradicted)
        return f"confirmed {', '.join(self.confirmed) or NONE_OF_THESE}. {against}"


def suspects(services: Services, project: int, report: scoring.Report) -> list[Suspect]:
    """List the confirmed frames that all others and the active network contradict, the most strongly first.

    Frames of an audit that is being answered for a finish are left alone: nobody may be told how they compare before
    they are counted.
    """
    configuration = services.configuration(services.studio.project(project).label_config)
    return suspects_among(services, project, configuration, looked_at(services, project, configuration), report)


def suspects_among(
    services: Services,
    project: int,
    configuration: Configuration,
    labelled: Sequence[Labelled],
    report: scoring.Report,
) -> list[Suspect]:
    """The same of annotations that are read already."""
    memory = _without_open_audit(services, project, remember(services, project, configuration, labelled, report))
    if not memory.labelled:
        return []
    places = places_of(memory.frames, memory.embeddings, {})
    remembered = Remembered(
        places,
        np.array([one.labels for one in memory.labelled], np.uint8),
        np.array([one.known for one in memory.labelled], bool),
    )
    audited = services.audits(project).tasks()
    rows = np.array([row for row, frame in enumerate(memory.frames) if frame.task in audited], np.intp)
    scale = Scale.of(places.embeddings)
    network = _network_says(services, project, memory.frames, configuration, report)
    found = contradicting.suspects(remembered, network, scale, learnt_trust(remembered, rows, scale))
    names = configuration.label_names
    return [_told(services, project, memory, found, place, names) for place in range(len(found))]


def _without_open_audit(services: Services, project: int, memory: Memory) -> Memory:
    finish = services.finishes(project).open()
    drawn = set(finish.drawn) if finish else set()
    kept = [row for row, frame in enumerate(memory.frames) if frame.task not in drawn]
    return Memory(
        [memory.labelled[row] for row in kept],
        [memory.frames[row] for row in kept],
        memory.embeddings[np.array(kept, np.intp)],
    )


def _network_says(
    services: Services,
    project: int,
    frames: Sequence[Frame],
    configuration: Configuration,
    report: scoring.Report,
) -> NDArray[np.float64] | None:
    """The active version's probabilities (m, l), NaN where it does not know the symptom.

    None if there is no version, or if this process holds no network and the version has not scored all of these frames.
    Memory alone finds as many wrong labels.
    """
    manifest = active_manifest(services, project, configuration)
    if manifest is None:
        return None
    try:
        scores, _ = scoring.score(services, project, frames, manifest, report)
    except NetworkNeeded:
        return None
    row_of = {task: row for row, task in enumerate(scores.tasks.tolist())}
    probabilities = np.full((len(frames), len(configuration.label_names)), np.nan)
    read = [(place, row_of[frame.task]) for place, frame in enumerate(frames) if frame.task in row_of]
    places, rows = np.array(read, np.intp).reshape(-1, 2).T
    for column, theirs in enumerate(columns_of(configuration.label_names, manifest.label_names)):
        if theirs is not None:
            probabilities[places, column] = scores.probabilities[rows, theirs]
    return probabilities


def _told(
    services: Services,
    project: int,
    memory: Memory,
    found: contradicting.Suspects,
    place: int,
    names: Sequence[str],
) -> Suspect:
    row = int(found.rows[place])
    task, labels = memory.frames[row].task, memory.labelled[row].labels
    network = found.network[place]
    return Suspect(
        task=task,
        strength=round(float(found.strength[place]), 4),
        confirmed=tuple(name for name, label in zip(names, labels, strict=True) if label),
        contradicted=tuple(
            Contradiction(
                names[column],
                bool(labels[column]),
                round(float(found.memory[place, column]), 4),
                None if np.isnan(network[column]) else round(float(network[column]), 4),
            )
            for column in np.flatnonzero(found.contradicted[place])
        ),
        witnesses=tuple(memory.frames[one].task for one in found.witnesses[place].tolist()),
        link=f"{services.settings.label_studio_url.rstrip('/')}/projects/{project}/data?task={task}",
    )
