"""Gather the frames of a project that deserve a second look."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ml_backend.errors import UnknownLabel
from ml_backend.loop.collect import Labelled
from ml_backend.loop.suspects import suspects_among
from ml_backend.services import Services
from ml_backend.store.orders import Order
from ml_backend.store.overviews import Doubtful, Doubts, LookAgain
from ml_backend.studio.client import ConfirmedAnnotation
from ml_backend.studio.configuration import NOT_ASSESSABLE, Configuration, in_words
from ml_backend.studio.payloads import is_not_assessable, labels_of

FIRST = 50
"""Number of frames listed for each reason; the others are only counted."""


def look_again(
    services: Services,
    project: int,
    configuration: Configuration,
    annotations: Sequence[ConfirmedAnnotation],
    looked: Sequence[Labelled],
    order: Order | None,
    before: LookAgain,
) -> LookAgain:
    """Return the frames that deserve a second look; ``looked`` are the answers that count among the ``annotations``.

    Suspects are expensive to find, so those found ``before`` are kept until another order serves.
    """
    urls = {one.task: str(one.data.get(configuration.image_key) or "") for one in annotations}
    name = order.about.name if order else ""
    suspects = before.suspects
    if name != before.order:
        found = suspects_among(services, project, configuration, looked, lambda *_: None)
        suspects = _listed([(one.task, one.words) for one in found], urls)
    unseen = {one.task for one in annotations if one.accepted_unseen} - {one.annotation.task for one in looked}
    return LookAgain(
        order=name,
        suspects=suspects,
        disagreements=_listed(disagreements(annotations, configuration), urls),
        accepted=_listed([(task, "suggestion accepted unseen") for task in sorted(unseen)], urls),
        unreadable=_listed(sorted(order.about.unreadable.items()) if order else [], {}),
    )


def disagreements(annotations: Iterable[ConfirmedAnnotation], configuration: Configuration) -> list[tuple[int, str]]:
    """Return the tasks that people answered differently, by ID, with the answers but without names."""
    answers: dict[int, list[str]] = defaultdict(list)
    for one in sorted(annotations, key=lambda one: (one.task, one.created_at, one.id)):
        answer = said(one, configuration) if one.by_person else None
        if answer is not None:
            answers[one.task].append(answer)
    return [(task, "; ".join(given)) for task, given in answers.items() if len(set(given)) > 1]


def said(one: ConfirmedAnnotation, configuration: Configuration) -> str | None:
    """Describe an annotation in words; None if it ticks only choices that the configuration lacks."""
    if is_not_assessable(one.result):
        return NOT_ASSESSABLE
    try:
        return in_words(configuration.label_set.decode(labels_of(one.result, configuration)[0]))
    except UnknownLabel:
        return None


def _listed(found: Sequence[tuple[int, str]], urls: Mapping[int, Any]) -> Doubts:
    first = tuple(Doubtful(task=task, url=urls.get(task, ""), why=why) for task, why in found[:FIRST])
    return Doubts(count=len(found), first=first)
