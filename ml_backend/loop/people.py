"""Measure how much each annotator of a project has done, and how well they agree."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import krippendorff
import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import UnknownLabel
from ml_backend.loop.audit import Told
from ml_backend.loop.collect import Labelled
from ml_backend.store.overviews import Agreement, Measure, Person
from ml_backend.studio.client import ConfirmedAnnotation
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.payloads import is_not_assessable, labels_of
from ml_backend.tsal.reliability import Share

LONGEST_SECONDS = 600.0
"""Time spent on one frame beyond this does not count: the annotator has taken a break."""
DAYS = 60
"""Number of days shown."""


def people(
    annotations: Sequence[ConfirmedAnnotation],
    looked: Sequence[Labelled],
    told: Mapping[int, Told],
    names: Mapping[int, str],
) -> tuple[Person, ...]:
    """Return everybody who answered, by name, or by number where ``names`` lacks them.

    ``looked``: the answers that count; ``told``: what was ticked on audit frames before they were answered.
    """
    answers: dict[int, list[ConfirmedAnnotation]] = defaultdict(list)
    for one in annotations:
        if one.by is not None and one.imported is None:
            answers[one.by].append(one)
    numbers = {by: place for place, by in enumerate(sorted(answers), start=1)}
    found = [
        _person(names.get(by) or f"Person {numbers[by]}", theirs, _kept(by, looked, told))
        for by, theirs in answers.items()
    ]
    return tuple(sorted(found, key=lambda one: one.name.casefold()))


def _person(name: str, answers: Sequence[ConfirmedAnnotation], kept: Measure | None) -> Person:
    timed = [min(one.seconds, LONGEST_SECONDS) for one in answers if one.seconds]
    return Person(
        name=name,
        answers=sum(not one.accepted_unseen for one in answers),
        timed=len(timed),
        hours=sum(timed) / 3600,
        accepted=sum(one.accepted_unseen for one in answers),
        kept=kept,
    )


def _kept(by: int, looked: Sequence[Labelled], told: Mapping[int, Told]) -> Measure | None:
    """Measure how often somebody left the visible ticks of an audit frame unchanged."""
    flags = [
        bool((one.labels == told[one.annotation.task].labels)[one.known].all())
        for one in looked
        if one.annotation.by == by and one.annotation.task in told and not told[one.annotation.task].blind
    ]
    if not flags:
        return None
    share = Share.of(np.array(flags, bool))
    return Measure(value=share.count / share.frames, frames=share.frames, **share.interval._asdict())


def days(annotations: Sequence[ConfirmedAnnotation]) -> dict[str, int]:
    """Count the answers of people per day (UTC), over the last `DAYS` days that have any."""
    counted = Counter(one.created_at[:10] for one in annotations if one.created_at and one.by_person)
    return dict(sorted(counted.items())[-DAYS:])


def agreement(annotations: Sequence[ConfirmedAnnotation], configuration: Configuration) -> tuple[Agreement, ...]:
    """Compute Krippendorff's alpha of each symptom over the frames that two or more people answered.

    Alpha is undefined, and None here, where everybody gives the same answer for every frame.
    """
    answers: dict[int, dict[int, NDArray[np.uint8]]] = defaultdict(dict)
    for one in sorted(annotations, key=lambda one: one.updated_at):
        if one.by is not None and one.by_person and not is_not_assessable(one.result):
            try:
                answers[one.task][one.by] = labels_of(one.result, configuration)[0]
            except UnknownLabel:
                continue
    twice = [theirs for theirs in answers.values() if len(theirs) > 1]
    raters = sorted({by for theirs in twice for by in theirs})
    return tuple(
        Agreement(symptom=name, frames=len(twice), people=len(raters), alpha=_alpha(twice, raters, column))
        for column, name in enumerate(configuration.label_names if twice else ())
    )


def _alpha(twice: Sequence[Mapping[int, NDArray[np.uint8]]], raters: Sequence[int], column: int) -> float | None:
    said = np.array([[theirs[by][column] if by in theirs else np.nan for theirs in twice] for by in raters], np.float64)
    if len(np.unique(said[~np.isnan(said)])) < 2:
        return None
    return float(krippendorff.alpha(reliability_data=said, level_of_measurement="nominal"))
