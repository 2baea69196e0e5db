"""Compute a project's overview for the lead's page. The sidecar does this, so that nobody has to wait."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime, timezone

import numpy as np

from ml_backend.errors import BackendError
from ml_backend.loop import people as persons
from ml_backend.loop.audit import report_on, told_before
from ml_backend.loop.census import Answers, answered, count
from ml_backend.loop.collect import Labelled
from ml_backend.loop.look_again import look_again
from ml_backend.loop.remember import seen_by_people
from ml_backend.services import Services
from ml_backend.store.orders import Order
from ml_backend.store.overviews import Asked, Audit, LookAgain, Moment, Overview, Plan, Standing, Version, measure
from ml_backend.store.versions import Manifest, VersionStore
from ml_backend.studio.client import Counts
from ml_backend.tsal.certificate import spend
from ml_backend.tsal.forecast import Prospect, cheapest
from ml_backend.tsal.reliability import AuditReport

CONFIDENCE = 0.95
"""Confidence of the finishes in the forecast."""
EPSILONS = (0.01, 0.02, 0.03, 0.05, 0.1)
"""Shares of wrong labels to forecast a finish for."""
USUAL = 0.03
"""The one whose forecast is drawn as a curve."""
BINS = 10
MOMENTS = 200
"""Maximum number of points in the curve."""
ORDERS = 100
"""Number of orders whose reasons are kept."""


def write(services: Services, project: int, ended: str | None) -> Overview:
    """Compute and save a project's overview and census; ``ended``: why its loop has ended, None while it runs."""
    started = time.monotonic()
    info = services.studio.project(project)
    answers = answered(services, project, services.configuration(info.label_config))
    order = services.orders(project).current()
    services.census(project).write(count(services, project, answers, order))
    store = services.overviews(project)
    made = overview(services, project, info.title, answers, order, store.read(), ended)
    made = made.model_copy(update={"seconds": round(time.monotonic() - started, 3)})
    store.write(made)
    return made


def overview(
    services: Services,
    project: int,
    title: str,
    answers: Answers,
    order: Order | None,
    before: Overview | None,
    ended: str | None,
) -> Overview:
    """Compute a project's overview, reusing from the one ``before`` what cannot change or is no longer stored."""
    configuration, annotations, collected = answers.configuration, answers.annotations, answers.collected
    counts = services.studio.counts(project)
    looked = seen_by_people(collected)
    unseen = sum(one.accepted_unseen for one in annotations)
    imported = len(
        {one.task for one in annotations if one.imported} - {one.task for one in annotations if one.by_person}
    )
    told = told_before(services, project, configuration)
    audit = _audit(report_on(services, project, looked, configuration))
    plans = _plans(services, project, order, looked)
    names = {} if services.settings.hide_names else _names(services)
    return Overview(
        project=project,
        title=title,
        at=_now(),
        symptoms=configuration.label_names,
        standing=_standing(counts, order, looked, unseen, imported, len(collected.not_assessable)),
        audit=audit,
        plans=plans,
        history=_history(before, len(looked), plans, audit),
        versions=_versions(services.versions(project), before),
        asked=_asked(before, order, services.settings.k_max),
        people=persons.people(annotations, looked, told, names),
        days=persons.days(annotations),
        agreement=persons.agreement(annotations, configuration),
        again=look_again(
            services, project, configuration, annotations, looked, order, before.again if before else LookAgain()
        ),
        answered=_answered(services, project, looked, collected.not_assessable),
        ended=ended or "",
    )


def _standing(
    counts: Counts, order: Order | None, looked: Sequence[Labelled], unseen: int, imported: int, not_assessable: int
) -> Standing:
    people = sum(one.annotation.by_person for one in looked)
    known = Standing(
        frames=counts.tasks,
        people=people,
        accepted=unseen,
        imported=imported,
        left=max(counts.tasks - people - imported - not_assessable, 0),
        not_assessable=not_assessable,
    )
    if order is None:
        return known
    answered = {one.annotation.task for one in looked}
    open_ = np.array([task not in answered for task in order.tasks.tolist()], bool)
    bins: tuple[int, ...] = ()
    machine = int(open_.sum()) if order.about.version else 0
    if order.told is not None:
        confidence = order.told.confidence[open_]
        told = confidence[~np.isnan(confidence)]
        machine = len(told)
        bins = tuple(np.histogram(told.clip(0, 1), BINS, (0, 1))[0].tolist())
    return known.model_copy(
        update={"machine": machine, "unreadable": len(order.about.unreadable), "bins": bins if machine else ()}
    )


def _audit(report: AuditReport) -> Audit:
    found = report.to_json()
    shares = {what: {name: measure(one) for name, one in found[what].items()} for what in ("sources", "symptoms")}
    return Audit(
        frames=report.frames,
        patients=report.patients,
        right=measure(found["right"]),
        sources={name: one for name, one in shares["sources"].items() if one},
        symptoms={name: one for name, one in shares["symptoms"].items() if one},
        bias=measure(found["automation_bias"]),
        calibration_error=report.calibration_error,
    )


def _plans(services: Services, project: int, order: Order | None, looked: Sequence[Labelled]) -> tuple[Plan, ...]:
    """Forecast the next finish from the current confidences; empty where there are none."""
    if order is None or order.told is None or not order.told.remembered:
        return ()
    answered = {one.annotation.task for one in looked}
    open_ = np.array([task not in answered for task in order.tasks.tolist()], bool)
    confidence = order.told.confidence[open_ & ~np.isnan(order.told.confidence)].astype(np.float64).clip(0, 1)
    if not len(confidence):
        return ()
    prospect = Prospect(1 - confidence, confidence, len(looked))
    alpha = spend(1 - CONFIDENCE, services.finishes(project).count() + 1)
    found = [(epsilon, cheapest(prospect, epsilon, alpha)) for epsilon in EPSILONS]
    return tuple(Plan(epsilon=epsilon, size=one.size, answers=one.answers) for epsilon, one in found)


def _history(before: Overview | None, people: int, plans: Sequence[Plan], audit: Audit) -> tuple[Moment, ...]:
    """Append the present to the curve; drop every other point once it is too long."""
    answers = next((plan.answers for plan in plans if plan.epsilon == USUAL), None)
    now = Moment(at=_now(), people=people, answers=answers, right=audit.right)
    earlier = [one for one in (before.history if before else ()) if one.people != people]
    if len(earlier) >= MOMENTS:
        earlier = earlier[::2]
    return (*earlier, now)


def _versions(store: VersionStore, before: Overview | None) -> tuple[Version, ...]:
    """Return every version. Manifests never change, so each is read once."""
    known = {one.version: one for one in (before.versions if before else ())}
    found = []
    for name in store.names():
        try:
            found.append(known.get(name) or _version(store.get(name)))
        except BackendError:  # unreadable; `tsal versions list` reports it
            continue
    return tuple(found)


def _version(one: Manifest) -> Version:
    return Version(
        version=one.version,
        number=one.number,
        parent=one.parent,
        created_at=one.created_at,
        trained_on=len(one.trained_on),
        held_out=len(one.held_out),
        seconds=one.seconds.get("total"),
        exact_match=measure(one.metrics.get("exact_match")),
        exact_match_parent=measure(one.metrics.get("exact_match_parent")),
        sample=one.metrics.get("sample") or "",
        stood=measure(one.ticks.get("stood")),
        corrected=one.batch.get("manual_share_validated"),
        held_back=one.held_back,
        notes=one.notes,
        reasons=tuple(one.choice.get("reasons", ())),
    )


def _asked(before: Overview | None, order: Order | None, batch: int) -> tuple[Asked, ...]:
    """Return the reasons behind the head of each order, which outlive the orders themselves."""
    earlier = before.asked if before else ()
    if order is None or not order.reasons or any(one.order == order.about.name for one in earlier):
        return earlier
    about = order.about
    now = Asked(
        order=about.name,
        created_at=about.created_at,
        version=about.version,
        strategy=about.strategy,
        reasons=dict(Counter(order.reasons[:batch]).most_common()),
    )
    return (*earlier, now)[-ORDERS:]


def _answered(services: Services, project: int, looked: Sequence[Labelled], not_assessable: Collection[int]) -> int:
    """Count the answered audit frames of the last finish."""
    finish = services.finishes(project).newest()
    answered = {one.annotation.task for one in looked} | set(not_assessable)
    return len(answered & set(finish.drawn)) if finish else 0


def _names(services: Services) -> dict[int, str]:
    """Return the annotators' names; empty where the token's user may not list them."""
    try:
        return services.studio.people()
    except BackendError:
        return {}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
