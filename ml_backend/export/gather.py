"""Read what an export needs of a project: its frames, and the label of each. Changes nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ml_backend.errors import BackendError, UnknownLabel
from ml_backend.export.rows import UNREADABLE, Label, Material
from ml_backend.loop import finish as finishing
from ml_backend.loop.audit import report_on
from ml_backend.loop.census import Answers, answered, unaided
from ml_backend.loop.collect import Labelled, symptoms
from ml_backend.loop.people import agreement
from ml_backend.loop.remember import seen_by_people
from ml_backend.services import Services
from ml_backend.store.finishes import Finish
from ml_backend.store.grounds import Grounds
from ml_backend.store.orders import NAME, UNTRAINED, Order
from ml_backend.store.overviews import Agreement
from ml_backend.store.symptoms import Periods, known_at
from ml_backend.studio.client import ConfirmedAnnotation
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.payloads import default_of, is_not_assessable, labels_of
from ml_backend.tsal.labels import columns_of
from ml_backend.tsal.reliability import AuditReport

NOT_ASSESSABLE = "cannot be judged, as people say"
NOT_COUNTED = "have answers that do not count: they contradict each other or name unknown symptoms"
UNAIDED = "are to be judged unaided, and nobody has answered them yet"


@dataclass(frozen=True)
class Gathered:
    """What was read of a project.

    ``symptoms``: the names of the l symptoms; ``certificate``: the valid one, None where there is none; ``agreement``
    of annotators by symptom; ``audit``: how right the machine's labels are; ``trained_on``: tasks that the active
    version's network was trained on.
    """

    symptoms: tuple[str, ...]
    material: Material
    certificate: Finish | None
    agreement: Sequence[Agreement]
    audit: AuditReport
    version: str
    trained_on: frozenset[int]


@dataclass(frozen=True)
class _Found:
    """The labels found so far, by task, and why other tasks have none: a task is in one of the two at most."""

    labels: dict[int, Label]
    why_not: dict[int, str]

    def label(self, task: int, label: Label) -> None:
        self.why_not.pop(task, None)
        self.labels[task] = label

    def leave_out(self, task: int, why: str) -> None:
        self.labels.pop(task, None)
        self.why_not[task] = why


def gather(services: Services, project: int, details: bool = True) -> Gathered:
    """Read a project, its answers and its machine's labels as they stand now.

    Without ``details``, Label Studio is not asked how sure the machine was of labels that were accepted unseen.
    """
    configuration = services.configuration(services.studio.project(project).label_config)
    answers = answered(services, project, configuration)
    order = services.orders(project).current()
    certificate = finishing.certified(services, project, answers.collected, configuration)
    found = _labels(services, project, answers, order, certificate, details)
    frames = [services.frame(task.id, task.data, configuration) for task in services.studio.tasks(project)]
    version, trained_on = _active(services, project)
    return Gathered(
        symptoms=configuration.label_names,
        material=Material(frames, found.labels, found.why_not, _audited(services, project)),
        certificate=certificate,
        agreement=agreement(answers.annotations, configuration),
        audit=report_on(services, project, seen_by_people(answers.collected), configuration),
        version=version,
        trained_on=trained_on,
    )


def _labels(
    services: Services,
    project: int,
    answers: Answers,
    order: Order | None,
    certificate: Finish | None,
    details: bool,
) -> _Found:
    """Find the label of each task: the machine's, above it what a certificate lets stand, above that people's."""
    found = _Found({}, {})
    grounds = services.grounds(project).get(order.about.name) if order else None
    if order is not None and grounds is not None:
        for task, label in _machine(order, grounds, answers.configuration):
            found.label(task, label)
    for task in order.about.unreadable if order else ():
        found.leave_out(task, UNREADABLE)
    _put_unseen(services, project, answers, details, found)
    _put_imported(services, project, answers, found)
    for task in unaided(services, project, grounds):
        found.leave_out(task, UNAIDED)
    sources = grounds.sources if grounds else {}
    for task, label in _kept(services, project, certificate):
        found.label(task, replace(label, method=sources.get(task, "")))
    _put_people(services, project, answers, certificate, found)
    return found


def _machine(order: Order, grounds: Grounds, configuration: Configuration) -> Iterator[tuple[int, Label]]:
    """Yield what an order tells of its frames."""
    columns = columns_of(configuration.label_names, grounds.symptoms)
    rows = zip(grounds.frames, grounds.labels.tolist(), grounds.confidence.tolist(), strict=False)
    for frame, row, confidence in rows:
        if frame.task in grounds.sources:
            yield (
                frame.task,
                Label(
                    tuple(None if column is None else row[column] for column in columns),
                    "machine",
                    method=grounds.sources[frame.task],
                    at=order.about.created_at,
                    confidence=None if math.isnan(confidence) else round(confidence, 4),
                    version=grounds.version or "",
                ),
            )


def _kept(services: Services, project: int, certificate: Finish | None) -> Iterator[tuple[int, Label]]:
    """Yield the machine's labels that a certificate lets stand; its symptoms are those of the configuration."""
    if certificate is None:
        return
    rows = services.finishes(project).rows(certificate)
    for row in np.flatnonzero(rows.kept).tolist():
        yield (
            int(rows.tasks[row]),
            Label(
                tuple(rows.labels[row].tolist()),
                "machine",
                at=certificate.drawn_at,
                confidence=round(1.0 - float(rows.uncertainty[row]), 4),
                version=certificate.version or "",
                certificate=certificate.number,
            ),
        )


def _put_unseen(services: Services, project: int, answers: Answers, details: bool, found: _Found) -> None:
    """Put what was accepted unseen, with what its predictions say of themselves; the newest of a frame counts."""
    unseen = sorted(
        (one for one in answers.annotations if one.accepted_unseen), key=lambda one: (one.updated_at, one.id)
    )
    if not unseen:
        return
    configuration, periods = answers.configuration, symptoms(services, project, answers.configuration)
    shown = services.studio.shown_predictions(project, unseen) if details else {}
    for one in unseen:
        told = _said(one, configuration, periods)
        if told is None:
            found.leave_out(one.task, NOT_COUNTED)
            continue
        prediction = shown.get(one.id)
        audit = default_of(prediction, configuration).audit
        confidence = audit.get("confidence")
        label = Label(
            told,
            "accepted unseen",
            method=str(audit.get("source", "")),
            user=one.by,
            at=one.updated_at,
            confidence=None if confidence is None else round(float(confidence), 4),
            version=_version_in(str(prediction["model_version"])) if prediction else "",
        )
        found.label(one.task, label)


def _put_imported(services: Services, project: int, answers: Answers, found: _Found) -> None:
    """Put the labels that were imported; the newest of a frame counts."""
    imported = sorted((one for one in answers.annotations if one.imported), key=lambda one: (one.updated_at, one.id))
    periods = symptoms(services, project, answers.configuration) if imported else {}
    for one in imported:
        told = _said(one, answers.configuration, periods)
        if told is None:
            found.leave_out(one.task, NOT_COUNTED)
        else:
            origin = one.imported
            assert origin is not None
            label = Label(told, "imported", origin.file, user=origin.annotator or None, at=origin.at)
            found.label(one.task, label)


def _said(one: ConfirmedAnnotation, configuration: Configuration, periods: Periods) -> tuple[int | None, ...] | None:
    """What an annotation says of each symptom; None where it does not count."""
    if is_not_assessable(one.result):
        return None
    try:
        labels, _ = labels_of(one.result, configuration)
    except UnknownLabel:
        return None
    known = [known_at(periods, name, one.updated_at) for name in configuration.label_names]
    return _symptoms(labels.tolist(), [bool(there or label) for there, label in zip(known, labels, strict=True)])


def _put_people(services: Services, project: int, answers: Answers, certificate: Finish | None, found: _Found) -> None:
    """Put what people answered, also where it does not count."""
    pool = set(services.finishes(project).rows(certificate).tasks.tolist()) if certificate else set()
    covered = pool | (certificate.remembered.keys() if certificate else set())
    for annotation in answers.annotations:
        if annotation.by_person:
            found.leave_out(annotation.task, NOT_COUNTED)
    for task in answers.collected.not_assessable:
        found.leave_out(task, NOT_ASSESSABLE)
    for one in seen_by_people(answers.collected):
        if one.annotation.by_person:
            number = certificate.number if certificate and one.annotation.task in covered else None
            found.label(one.annotation.task, _person(one, number))


def _person(one: Labelled, certificate: int | None) -> Label:
    return Label(
        _symptoms(one.labels.tolist(), one.known.tolist()),
        "person",
        user=one.annotation.by,
        at=one.annotation.updated_at,
        certificate=certificate,
    )


def _symptoms(labels: Sequence[int], known: Sequence[bool]) -> tuple[int | None, ...]:
    return tuple(label if there else None for label, there in zip(labels, known, strict=True))


def _version_in(name: str) -> str:
    """The model version in the name of an order; empty for the orders before the first."""
    match = NAME.match(name)
    return match["source"] if match and match["source"] != UNTRAINED else ""


def _audited(services: Services, project: int) -> frozenset[int]:
    """The tasks that were drawn for an audit, of a batch or of a finish that was counted."""
    drawn = {task for finish in services.finishes(project).counted() for task in finish.drawn}
    return frozenset(drawn | services.audits(project).tasks())


def _active(services: Services, project: int) -> tuple[str, frozenset[int]]:
    """The active version and the tasks it was trained on; nothing where there is none or it cannot be read."""
    store = services.versions(project)
    name = store.active()
    if name is None:
        return "", frozenset()
    try:
        return name, frozenset(one.task for one in store.get(name).trained_on)
    except BackendError:
        return name, frozenset()
