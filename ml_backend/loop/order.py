"""Keeping the queue in order: score the pool, push validated predictions, switch Label Studio to them."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ml_backend.errors import BackendError, FinishStands, RedisUnavailable
from ml_backend.frames.frame import Frame
from ml_backend.frames.scores import Scores, validator_of
from ml_backend.logs import changed, event
from ml_backend.loop.ahead import compute_ahead
from ml_backend.loop.collect import Collected, symptoms
from ml_backend.loop.grounds import keep_grounds
from ml_backend.loop.pool_map import keep_sample
from ml_backend.loop.queue import Refresh, Report
from ml_backend.loop.remember import MEMORY, looked_at, marks_of, remember, seen_by_people
from ml_backend.loop.score import Embeddings, embed, score
from ml_backend.services import Services
from ml_backend.store.orders import NAME, UNTRAINED, Basis, Order
from ml_backend.store.versions import Manifest
from ml_backend.studio.configuration import Configuration
from ml_backend.tsal.acquisition import DIVERSE
from ml_backend.tsal.adaptive import FIRST_STRATEGY
from ml_backend.tsal.round import COVER

logger = logging.getLogger(__name__)
# While people answer, old orders stay: up to this many predictions in total, but never fewer or more orders than the
# bounds below. Removing an order of 1,000 frames makes every submission in the project wait for 20 s (PostgreSQL).
# Keeping 25 such orders slows nothing that people wait for.
PILED_PREDICTIONS = 200_000
LEAST_PILE, PILE = 5, 30
OTHER_BASIS = {
    "version": "another version is active",
    "strategy": "another strategy is set",
    "validator": "another validator is set",
    "symptoms": "the symptoms changed",
    "audit": "another TSAL_AUDIT is set",
    "hold_out": "another TSAL_HOLD_OUT is set",
}


def refresh(services: Services, project: int, report: Report) -> Order | None:
    """Score every frame without a confirmed annotation with the active version and make Label Studio serve them so.

    Before the first version the order is by diversity of the pre-trained features, and the predictions are empty.
    Returns the order that is served now, or None where there is nothing to annotate.

    Raises:
        StudioRefused: where Label Studio did not take every prediction; the order before stays in force.
        FinishStands: where a finish stands, which another order would make void.
    """
    standing = services.finishes(project).standing()
    if standing is not None:
        raise FinishStands(
            f"certificate {standing.number} of project {project} stands: a new order would make it void. "
            f"End it first: tsal finish --project {project} --give-up"
        )
    with services.orders(project).alone():
        return _refreshed(services, project, report)


def refresh_if_needed(
    services: Services, project: int, report: Report, look_for_frames: bool = True, look_for_changes: bool = True
) -> Order | None:
    """Like `refresh`, unless another process has done it while this one waited for its turn.

    Returns the order that is served now, or None where there is nothing to annotate.
    """
    orders = services.orders(project)
    with orders.alone():
        if needs_refresh(services, project, look_for_frames, look_for_changes):
            return _refreshed(services, project, report)
        return orders.current()


def _refreshed(services: Services, project: int, report: Report) -> Order | None:
    started = time.monotonic()
    info = services.studio.project(project)
    configuration = services.configuration(info.label_config)
    manifest = active_manifest(services, project, configuration)
    frames = [
        services.frame(task.id, task.data, configuration)
        for task in services.studio.tasks(project, only_unlabelled=True)
    ]
    if not frames:
        return None
    pushed = services.studio.model_versions(project)
    name = services.orders(project).next_name(manifest.version if manifest else None, pushed)
    basis = _basis(services, manifest, configuration)
    newest = services.versions(project).newest()
    with ThreadPoolExecutor(1, "answers") as aside:  # Label Studio finds the answers while we score
        answers = aside.submit(looked_at, services, project, configuration) if uses_memory(basis) else None
        scored = _scored(services, project, configuration, manifest, frames, report)
    memory = remember(services, project, configuration, answers.result(), report) if answers else None
    refreshing = Refresh(
        services, project, configuration, manifest, newest, basis, frames, scored, name, report, memory
    )
    queue = refreshing.queue()
    chosen = time.monotonic()
    refreshing.record_draw(queue)
    refreshing.note_told(queue)
    order = refreshing.order(queue, round(chosen - started, 3))
    # Saved before it is pushed, so that a full disk does not make predictions pile up in Label Studio with every
    # attempt. What an earlier attempt failed to push goes only now, so that its name is not used again.
    services.orders(project).prune([*pushed, info.model_version or ""])
    services.orders(project).save(order)
    keep_grounds(refreshing, queue)
    keep_sample(services, project, scored[1], memory)
    order = refreshing.push(queue, order, started)
    compute_ahead(refreshing, queue)
    _keep_pile_low(services, project, len(frames))
    return order


def _scored(
    services: Services,
    project: int,
    configuration: Configuration,
    manifest: Manifest | None,
    frames: Sequence[Frame],
    report: Report,
) -> tuple[Scores | None, Embeddings]:
    """What the active version says of the frames, None without one, and their embeddings."""
    if manifest is not None:
        return score(services, project, frames, manifest, report)
    return None, embed(services, project, frames, len(configuration.label_names), report)


def needs_refresh(
    services: Services,
    project: int,
    look_for_frames: bool,
    look_for_changes: bool = False,
    answers: Collected | None = None,
    remember_now: bool = True,
) -> str | None:
    """Why the queue must be put in order again, or None while the order that Label Studio serves is right.

    Newly confirmed frames alone are a reason only to ``remember_now``. Two things take long: listing the pool, which is
    done only to ``look_for_frames`` that came, and reading all answers, which is done only to ``look_for_changes`` of
    them, unless they were read just now as ``answers``.
    """
    if services.finishes(project).standing() is not None:  # what was told at its draw is what it certifies
        return None
    info = services.studio.project(project)
    configuration = services.configuration(info.label_config)
    symptoms(services, project, configuration)  # each poll notes when a symptom came or went
    basis = _basis(services, active_manifest(services, project, configuration), configuration)
    orders = services.orders(project)
    order = orders.current()
    if order is None and orders.current_name():
        return "the order that was pushed cannot be read"
    if order is not None:
        for name, reason in OTHER_BASIS.items():
            if getattr(order.about, name) != getattr(basis, name):
                return reason
        if info.model_version != order.about.name:
            return "Label Studio serves another version"
        if not services.grounds(project).path(order.about.name).exists():
            return "nothing says what the order rests on"
        newest = services.versions(project).newest()
        if services.settings.audit and not services.audits(project).of_batch(newest.version if newest else None):
            return "no audit frames are drawn for this batch"
        answered = _answered_since(services, project, order)
        if remember_now and answered >= services.settings.refresh:
            return f"{answered} newly confirmed frames to remember"
    if look_for_changes and order is not None and order.told is not None:
        now = marks_of(seen_by_people(answers) if answers else looked_at(services, project, configuration))
        changed = sum(now.get(task) != mark for task, mark in order.told.remembered.items())
        if changed:
            return f"{changed} remembered answers were changed or deleted"
    if look_for_frames:
        # As arrays: with a million frames sets would take seconds, and memory that the sidecar never gives back.
        known = order.tasks if order else np.zeros(0, np.int64)
        if order and order.told:
            known = np.setdiff1d(known, np.fromiter(order.told.remembered, np.int64, len(order.told.remembered)))
        pool = np.fromiter((task.id for task in services.studio.tasks(project, only_unlabelled=True)), np.int64)
        unknown = int((~np.isin(pool, known)).sum())
        if unknown:
            return f"{unknown} new frames"
    return None


def _answered_since(services: Services, project: int, order: Order) -> int:
    """How many frames were confirmed since an order was made with a memory.

    Zero where Redis cannot be reached: a command may run where only the sidecar knows it.
    """
    try:
        return services.pending(project).count() - order.about.pending if order.told else 0
    except RedisUnavailable:
        return 0


def uses_memory(basis: Basis) -> bool:
    """Whether the queue of a project needs the memory of its confirmed frames."""
    return basis.strategy == COVER or basis.validator == MEMORY


def strategy_of(services: Services, manifest: Manifest) -> str:
    """The network's strategy that orders the queue of a version: the one set, or the version's own choice."""
    strategy = services.settings.strategy
    if strategy == COVER:
        return FIRST_STRATEGY
    return manifest.choice.get("strategy", FIRST_STRATEGY) + DIVERSE if strategy == "adaptive" else strategy


def _basis(services: Services, manifest: Manifest | None, configuration: Configuration) -> Basis:
    """What an order that is made now rests on; before the first version only cover and the memory can be followed."""
    settings = services.settings
    strategy = strategy_of(services, manifest) if manifest else UNTRAINED
    validator = validator_of(settings, manifest) if manifest else None
    return Basis(
        version=manifest.version if manifest else None,
        strategy=COVER if settings.strategy == COVER else strategy,
        validator=MEMORY if settings.validator == MEMORY else validator,
        symptoms=configuration.label_names,
        audit=settings.audit,
        hold_out=settings.hold_out,
    )


def active_manifest(services: Services, project: int, configuration: Configuration) -> Manifest | None:
    """The version that serves, None before the first or where it cannot serve the project as it is now."""
    store = services.versions(project)
    active = store.active()
    if active is None:
        return None
    manifest = store.get(active)
    difference = unfit(services, manifest, configuration)
    if difference:
        reason = f"{difference}: the next confirmed batch starts a new line of versions"
        changed(logger, "version not used", level=logging.WARNING, project=project, version=active, reason=reason)
        return None
    return manifest


def unfit(services: Services, manifest: Manifest, configuration: Configuration) -> str | None:
    """What keeps a version from serving the project as it is now, or None where nothing does.

    A version that shares one symptom with the project can serve it: predictions are matched by name.
    """
    theirs, ours = manifest.label_names, configuration.label_names
    if set(theirs).isdisjoint(ours):
        return f"it shares no symptom ({', '.join(theirs)}) with the project now ({', '.join(ours)})"
    backbone = services.settings.backbone
    if manifest.backbone != backbone:
        return f"it has another backbone ({manifest.backbone}) than TSAL_BACKBONE now ({backbone})"
    return None


def prune(services: Services, project: int) -> str | None:
    """Remove the predictions of the oldest order that is no longer needed; one a call, never the one that serves.

    Nobody can submit anything in the project meanwhile, so call this while people rest.
    """
    with services.orders(project).alone():
        return _pruned(services, project, put_up_with=0)


def pile(frames: int) -> int:
    """Return how many orders of so many frames stay while people answer, beyond those that are kept anyway."""
    return min(max(PILED_PREDICTIONS // max(1, frames), LEAST_PILE), PILE)


def _keep_pile_low(services: Services, project: int, frames: int) -> None:
    """Remove the orders beyond the bound: a team that never rests would fill Label Studio's database.

    Call it while holding the lock under which an order was added, so that no other is added first. If a removal fails,
    the next refresh tries again.
    """
    try:
        while _pruned(services, project, pile(frames)):
            pass
    except BackendError as error:
        event(logger, "old predictions stay", level=logging.WARNING, project=project, reason=error)


def _pruned(services: Services, project: int, put_up_with: int) -> str | None:
    studio, orders, keep = services.studio, services.orders(project), services.settings.keep_pushed
    current = orders.current_name()
    served = studio.project(project).model_version
    finish = services.finishes(project).standing()
    needed = {name for name in (current, served, finish.order if finish else None) if name}
    pushed = studio.model_versions(project)
    if served not in (None, *pushed):  # its frames were all deleted: the next order makes room
        return None
    ours = [name for name in pushed if NAME.match(name) and name not in needed]
    surplus = len(ours) + len(needed.intersection(pushed)) - keep
    if not ours or surplus <= put_up_with:
        return None
    oldest = min(ours, key=lambda name: _age(services, project, name))
    studio.delete_model_version(project, oldest)
    orders.prune([*(name for name in ours if name != oldest), *needed])
    event(logger, "old predictions removed", project=project, order=oldest)
    return oldest


def _age(services: Services, project: int, name: str) -> tuple[str, str]:
    about = services.orders(project).about(name)
    return (about.created_at if about else "", name)
