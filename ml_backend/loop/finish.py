"""Finish a pool with a guarantee: draw an audit, ask it first, count it once, and say what it proves.

While a finish stands, the queue is not refreshed: the labels that are certified are those of the moment of the draw.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import FinishStands, InvalidRequest, NotEnoughLabels, NotWritten
from ml_backend.logs import event
from ml_backend.loop import order as ordering
from ml_backend.loop.certificate_page import page_of
from ml_backend.loop.collect import Collected, collect
from ml_backend.loop.evidence_files import remove_blind
from ml_backend.loop.push import serve
from ml_backend.loop.queue import Report
from ml_backend.loop.remember import marks_of, seen_by_people
from ml_backend.services import Services
from ml_backend.store.files import write_aside
from ml_backend.store.finishes import Finish, MachineRows, Outcome
from ml_backend.store.grounds import Grounds
from ml_backend.store.orders import Order
from ml_backend.studio.configuration import NOT_ASSESSABLE, Configuration
from ml_backend.studio.payloads import Prediction
from ml_backend.tsal.certificate import Certificate, Plan, certify, spend
from ml_backend.tsal.forecast import Forecast, Prospect, cheapest, within

logger = logging.getLogger(__name__)
Answers = dict[int, tuple[str, ...]]
"""What people said of each task: its symptoms, or that it is not assessable."""
_STREAM = 3  # number of the random stream of a draw; a round's streams have lower numbers


@dataclass(frozen=True)
class Offer:
    """What a finish would take: forecasts for the requested guarantee, and for what a ``budget`` of answers allows."""

    finish: Finish
    rows: MachineRows
    order: Order
    forecast: Forecast
    affordable: Forecast | None


def offer(
    services: Services, project: int, epsilon: float, confidence: float, budget: int | None, report: Report
) -> Offer:
    """Bring the queue up to date and say how many answers the guarantee would take; nothing is drawn.

    Raises:
        NotEnoughLabels: where nothing is confirmed yet, or everything is.
        InvalidRequest: for an error or a confidence that is no share between 0 and 1.
        NotWritten: if the data behind the labels could not be written.
    """
    if not (0 < epsilon < 1 and 0 < confidence < 1):
        raise InvalidRequest("the error and the confidence must lie between 0 and 1, for example 0.03 and 0.95")
    order = ordering.refresh(services, project, report)
    if order is None:
        raise NotEnoughLabels(f"project {project}: every frame is answered; there is nothing to certify")
    if order.told is None or not order.told.remembered:
        raise NotEnoughLabels(
            f"project {project}: nothing is remembered: confirm some frames, and set TSAL_VALIDATOR=memory"
        )
    if not services.grounds(project).path(order.about.name).exists():
        # While a finish stands, no refresh would write it again.
        raise NotWritten(
            f"project {project}: the data behind the labels could not be written; put the disk right and run it again"
        )
    remembered = _answered_by_people(services, project, order.told.remembered)
    told = np.flatnonzero(~np.isnan(order.told.confidence))
    uncertainty = 1.0 - order.told.confidence[told].astype(np.float64)
    people, number = len(remembered), services.finishes(project).count() + 1
    inside = {*remembered, *order.tasks[told].tolist()}
    rows = MachineRows(order.tasks[told], order.told.labels[told], uncertainty, np.zeros(len(told), bool))
    alpha = spend(1 - confidence, number)
    prospect = Prospect(uncertainty, 1.0 - uncertainty, people)
    forecast = cheapest(prospect, epsilon, alpha)
    finish = Finish(
        number=number,
        order=order.about.name,
        version=order.about.version,
        drawn_at="",
        seed=services.settings.seed,
        epsilon=epsilon,
        confidence=confidence,
        alpha=alpha,
        symptoms=order.about.symptoms,
        pool=people + len(told),
        people=people,
        outside=tuple(task.id for task in services.studio.tasks(project) if task.id not in inside),
        remembered=remembered,
        drawn=(),
        expected_answers=forecast.answers,
    )
    return Offer(finish, rows, order, forecast, None if budget is None else within(prospect, budget, alpha))


def _answered_by_people(services: Services, project: int, remembered: Mapping[int, int]) -> dict[int, int]:
    """Leave out frames whose label was imported: nobody audits it, so no certificate may count it as right."""
    configuration = services.configuration(services.studio.project(project).label_config)
    counted = collect(services, project, configuration).labelled
    people = {one.annotation.task for one in counted if one.annotation.by_person}
    return {task: mark for task, mark in remembered.items() if task in people}


def begin(services: Services, project: int, offered: Offer) -> Finish:
    """Draw the audit, write it down, and put it first in the queue.

    Raises:
        FinishStands: where another process has drawn since the offer; its record stays.
    """
    with services.finishes(project).alone():
        if services.finishes(project).count() >= offered.finish.number:
            raise FinishStands(f"project {project}: certificate {offered.finish.number} was drawn meanwhile")
        return _begun(services, project, offered)


def _begun(services: Services, project: int, offered: Offer) -> Finish:
    finish, rows = offered.finish, offered.rows
    plan = Plan.draw(
        rows.uncertainty,
        finish.people,
        finish.epsilon,
        finish.alpha,
        offered.forecast.size,
        np.random.default_rng([finish.seed, finish.number, _STREAM]),
    )
    drawn = rows.tasks[plan.drawn].tolist()
    blind = drawn[: round(services.settings.blind * len(drawn))]  # the draw is in random order
    finish = finish.model_copy(update={"drawn": tuple(drawn), "blind": tuple(sorted(blind)), "drawn_at": _now()})
    services.finishes(project).save(finish, rows)
    event(logger, "finish drawn", project=project, number=finish.number, frames=len(drawn), pool=finish.pool)
    ask_first(services, project, finish)
    return finish


def ask_first(services: Services, project: int, finish: Finish) -> None:
    """Put the frames that a finish wants from people first in the queue."""
    orders = services.orders(project)
    with orders.alone():
        order = orders.get(finish.order)
        if order is None or order.told is None:
            raise NotEnoughLabels(f"the order {finish.order}, on which finish {finish.number} rests, is gone")
        rows = services.finishes(project).rows(finish)
        first = np.array(_wanted(finish, rows), np.int64)
        rest = order.tasks[~np.isin(order.tasks, first)]
        place_of = {task: place for place, task in enumerate(order.tasks.tolist())}
        tasks = np.concatenate([first, rest])
        places = np.array([place_of[task] for task in tasks.tolist()], np.intp)
        reason = "audit" if finish.state == "open" else "unsure"
        reasons = (*[reason] * len(first), *["later"] * len(rest))
        told = replace(order.told, labels=order.told.labels[places], confidence=order.told.confidence[places])
        info = services.studio.project(project)
        configuration = services.configuration(info.label_config)
        name = orders.next_name(finish.version, services.studio.model_versions(project))
        about = order.about.model_copy(update={"name": name, "created_at": _now()})
        changed = Order(about, tasks, np.arange(len(tasks), dtype=np.float64), reasons, told)
        orders.save(changed)
        grounds = services.grounds(project).copy(finish.order, name, frozenset(finish.blind))
        if grounds is not None:
            remove_blind(services, project, grounds)
        serve(services, project, changed, _predictions(changed, set(finish.blind), grounds), configuration)


def advance(services: Services, project: int) -> Finish | None:
    """Take a finish one step further: find it void, or count its audit once answered; may be called at any time.

    Returns the finish as it stands now, None where there is none.
    """
    store = services.finishes(project)
    if store.count() == 0:
        return None
    with store.alone():
        finish = store.newest()
        return None if finish is None else _advanced(services, project, finish)


def _advanced(services: Services, project: int, finish: Finish) -> Finish:
    if finish.state != "open":
        _publish(services, project, finish)  # a crash may have come between the record and the page
    if finish.state == "void":
        return finish
    configuration = services.configuration(services.studio.project(project).label_config)
    collected = collect(services, project, configuration)
    answers = _answers(collected, configuration)
    reason = _voided(services, project, finish, collected, answers, configuration)
    if reason:
        return _void(services, project, finish, reason)
    if finish.state == "open" and all(task in answers for task in finish.drawn):
        return _count(services, project, finish, answers)
    if not asks(services, project, finish):  # a crash came between the record and the queue
        ask_first(services, project, finish)
    return finish


def certified(services: Services, project: int, collected: Collected, configuration: Configuration) -> Finish | None:
    """Return the certificate if these answers leave it valid, otherwise None. Changes nothing."""
    finish = services.finishes(project).standing()
    if finish is None or finish.state != "certified":
        return None
    answers = _answers(collected, configuration)
    return None if _voided(services, project, finish, collected, answers, configuration) else finish


def give_up(services: Services, project: int) -> Finish:
    """Make the standing finish void, so that the queue is refreshed again.

    Raises:
        InvalidRequest: if none stands.
    """
    with services.finishes(project).alone():
        standing = services.finishes(project).standing()
        if standing is None:
            raise InvalidRequest(f"project {project} has no standing certificate")
        return _void(services, project, standing, "it was given up")


def answered(services: Services, project: int, finish: Finish) -> int:
    """How many frames of the audit somebody has answered."""
    configuration = services.configuration(services.studio.project(project).label_config)
    return len(_answers(collect(services, project, configuration), configuration).keys() & set(finish.drawn))


def _voided(
    services: Services,
    project: int,
    finish: Finish,
    collected: Collected,
    answers: Answers,
    configuration: Configuration,
) -> str:
    """Why a finish proves nothing any more; empty where it stands."""
    if finish.symptoms != configuration.label_names:
        return "the symptoms changed"
    marks = marks_of(seen_by_people(collected))
    if any(marks.get(task) != mark for task, mark in finish.remembered.items()):
        return "an answer that the machine's labels rest on was changed or deleted"
    if finish.state == "open" and services.versions(project).active() != finish.version:
        return "the active version is not the one whose labels are audited"
    drawn = {task: answers[task] for task in finish.drawn if task in answers}
    if finish.state == "certified" and drawn != finish.answers:
        return "an answer of the audit was changed or deleted"
    known = set(services.finishes(project).rows(finish).tasks.tolist()) | finish.remembered.keys()
    tasks = {task.id for task in services.studio.tasks(project)}
    if not known <= tasks:
        return "frames of the pool were deleted"
    added = tasks - known - set(finish.outside)
    return f"{len(added)} frames were added to the pool" if added else ""


def _count(services: Services, project: int, finish: Finish, answers: Answers) -> Finish:
    """Count the answered audit once, and write down what it proves.

    If people say that a frame is not assessable, the machine's label counts as wrong: the guarantee is then too
    cautious, and never too bold.
    """
    store = services.finishes(project)
    rows = store.rows(finish)
    row_of = {task: row for row, task in enumerate(rows.tasks.tolist())}
    drawn = np.array([row_of[task] for task in finish.drawn], np.intp)
    told = [_symptoms(rows.labels[row], finish.symptoms) for row in drawn.tolist()]
    wrong = np.array([answers[task] != one for task, one in zip(finish.drawn, told, strict=True)], bool)
    plan = Plan(rows.uncertainty, finish.people, finish.epsilon, finish.alpha, drawn)
    found = certify(plan, wrong)
    kept = np.zeros(len(rows.tasks), bool)
    kept[found.kept] = True
    done = finish.model_copy(
        update={
            "state": "certified",
            "answers": {task: answers[task] for task in finish.drawn},
            "counted_at": _now(),
            "outcome": _outcome(finish, found),
        }
    )
    store.save(done, replace(rows, kept=kept))
    _publish(services, project, done)
    event(logger, "pool certified", project=project, number=done.number, **(done.outcome or found).__dict__)
    ask_first(services, project, done)
    return done


def _outcome(finish: Finish, found: Certificate) -> Outcome:
    return Outcome(
        by_people=finish.people + len(finish.drawn),
        by_machine=len(found.kept),
        to_people=len(found.to_people),
        wrong_in_audit=found.wrong,
        at_most_wrong=found.at_most,
        at_most_share=found.error,
        share_for_any=found.error_of_some,
        share_for_all=found.error_of_all,
    )


def _void(services: Services, project: int, finish: Finish, reason: str) -> Finish:
    gone = finish.model_copy(update={"state": "void", "void": reason})
    services.finishes(project).save(gone)
    _publish(services, project, gone)
    event(logger, "finish void", level=logging.WARNING, project=project, number=finish.number, reason=reason)
    return gone


def _publish(services: Services, project: int, finish: Finish) -> None:
    """Write the page that a person reads, unless it says the same already."""
    path, page = services.finishes(project).page(finish.number), page_of(project, finish)
    if not path.exists() or path.read_text(encoding="utf-8") != page:
        write_aside(path, page)


def asks(services: Services, project: int, finish: Finish) -> bool:
    """Whether the queue asks first for what a finish wants from people; true if it is void and wants nothing."""
    if finish.state == "void":
        return True
    wanted = _wanted(finish, services.finishes(project).rows(finish))
    order = services.orders(project).current()
    return order is not None and order.tasks[: len(wanted)].tolist() == wanted


def _wanted(finish: Finish, rows: MachineRows) -> list[int]:
    """The frames that a finish wants from people: the audit as drawn; once it is counted, the least certain first."""
    if finish.state == "open":
        return list(finish.drawn)
    open_ = np.flatnonzero(~rows.kept & ~np.isin(rows.tasks, finish.drawn))
    wanted: list[int] = rows.tasks[open_[np.argsort(-rows.uncertainty[open_], kind="stable")]].tolist()
    return wanted


def _answers(collected: Collected, configuration: Configuration) -> Answers:
    """What people said of each task that somebody looked at; an imported label answers no audit."""
    looked_at = [one for one in seen_by_people(collected) if one.annotation.by_person]
    said = {one.annotation.task: _symptoms(one.labels, configuration.label_names) for one in looked_at}
    return dict.fromkeys(collected.not_assessable, (NOT_ASSESSABLE,)) | said


def _symptoms(labels: NDArray[np.uint8], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name, there in zip(names, labels, strict=True) if there)


def _predictions(order: Order, blind: set[int], grounds: Grounds | None) -> Iterator[Prediction]:
    """One prediction for each frame of an order, made of what the order tells; blind frames come without ticks."""
    sources = grounds.sources if grounds else {}
    for place, task in enumerate(order.tasks.tolist()):
        position = place / len(order.tasks)
        confidence = float(order.told.confidence[place]) if order.told is not None else float("nan")
        audit: dict[str, object] = {"reason": order.reasons[place]}
        if order.told is None or np.isnan(confidence) or task in blind:
            yield Prediction(task, None, position, order.about.name, audit)
        else:
            told = audit | {"confidence": round(confidence, 4), "source": sources.get(task)}
            yield Prediction(task, order.told.labels[place], position, order.about.name, told)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
