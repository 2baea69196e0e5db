"""Count every frame of a project with its label, where the label comes from, and how sure the machine is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ml_backend.loop.collect import Collected, collect
from ml_backend.loop.look_again import said
from ml_backend.services import Services
from ml_backend.store.census import Census, Entry, Source
from ml_backend.store.grounds import Grounds
from ml_backend.store.orders import Order
from ml_backend.studio.client import ConfirmedAnnotation
from ml_backend.studio.configuration import NOT_ASSESSABLE, Configuration, in_words

Label = dict[str, Any]
"""The fields of an `Entry` that describe its label."""


@dataclass(frozen=True)
class Answers:
    """The answers to a project: its configuration, all ``annotations``, and which of them count (``collected``)."""

    configuration: Configuration
    annotations: Sequence[ConfirmedAnnotation]
    collected: Collected


def answered(services: Services, project: int, configuration: Configuration) -> Answers:
    """Read the answers to a project."""
    annotations = services.studio.confirmed_annotations(project)
    return Answers(configuration, annotations, collect(services, project, configuration, annotations))


def count(services: Services, project: int, answers: Answers, order: Order | None) -> Census:
    """Read every task of a project, and find its label as of the served ``order``."""
    labels = _labels(services, project, answers, order)
    reasons = dict(zip(order.tasks.tolist(), order.reasons, strict=False)) if order else {}
    frames = (services.frame(task.id, task.data, answers.configuration) for task in services.studio.tasks(project))
    return Census(
        frames=tuple(
            Entry(
                task=one.task,
                url=one.url,
                clip=one.clip,
                patient=one.patient,
                time=one.time,
                reason=reasons.get(one.task, ""),
                **labels.get(one.task, {}),
            )
            for one in frames
        )
    )


def _labels(services: Services, project: int, answers: Answers, order: Order | None) -> Mapping[int, Label]:
    """Find the label of each task that has one, or why it has none: people's answers before the machine's."""
    grounds = services.grounds(project).get(order.about.name) if order else None
    found: dict[int, Label] = dict(_machine(grounds)) if grounds else {}
    found |= {task: _told("unreadable") for task in order.about.unreadable} if order else {}
    unseen = [one for one in answers.annotations if one.accepted_unseen]
    found |= {one.task: _told("accepted unseen", said(one, answers.configuration) or "") for one in unseen}
    imported = [one for one in answers.annotations if one.imported is not None]
    found |= {one.task: _told("imported", said(one, answers.configuration) or "") for one in imported}
    for task in unaided(services, project, grounds):
        found[task] = _told("after the answer")
    return found | dict(_people(answers))


def unaided(services: Services, project: int, grounds: Grounds | None) -> set[int]:
    """Return the tasks whose machine labels must not be shown before people answer: blind or audited."""
    finish = services.finishes(project).open()
    drawn = set(finish.drawn) if finish else set()
    return drawn | services.audits(project).tasks() | (grounds.blind if grounds else set())


def _machine(grounds: Grounds) -> Iterator[tuple[int, Label]]:
    """Yield what an order says about its frames."""
    rows = zip(grounds.frames, grounds.labels, grounds.confidence.tolist(), strict=False)
    for frame, labels, confidence in rows:
        if frame.task in grounds.sources:
            names = [name for name, there in zip(grounds.symptoms, labels, strict=True) if there]
            sure = None if math.isnan(confidence) else confidence
            yield frame.task, _told(grounds.sources[frame.task], in_words(names), sure)


def _people(answers: Answers) -> Iterator[tuple[int, Label]]:
    """Yield what people answered, including what does not count."""
    decode = answers.configuration.label_set.decode
    yield from ((one.task, _told("not counted")) for one in answers.annotations if one.by_person)
    yield from ((task, _told("person", NOT_ASSESSABLE)) for task in answers.collected.not_assessable)
    for one in answers.collected.labelled:
        if one.annotation.by_person:
            yield one.annotation.task, _told("person", in_words(decode(one.labels)))


def _told(source: Source, label: str = "", confidence: float | None = None) -> Label:
    return {"source": source, "label": label, "confidence": confidence}
