"""Keeping the queue in order: score the pool, push validated predictions, switch Label Studio to them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from ml_backend.frames.frame import Frame
from ml_backend.frames.scores import Scores, validator_of
from ml_backend.logs import event
from ml_backend.loop import score as scoring
from ml_backend.services import Services
from ml_backend.store.orders import NAME, About, Order
from ml_backend.store.versions import Manifest
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.payloads import Checker, Prediction
from ml_backend.tsal.acquisition import DIVERSE, score
from ml_backend.tsal.adaptive import FIRST_STRATEGY
from ml_backend.tsal.batch import candidates, diverse
from ml_backend.tsal.diversity import spread
from ml_backend.tsal.rarity import feed_rare

logger = logging.getLogger(__name__)
SAMPLING = "Uncertainty sampling"
PILE = 5  # pushed orders more than wanted that are put up with while annotators are busy
Report = Callable[[str, int, int], None]


def refresh(services: Services, project: int, report: Report) -> Order | None:
    """Score every frame without a confirmed annotation with the active version and make Label Studio serve them so.

    Before the first version the order is by diversity of the pre-trained features, and the predictions are empty.
    Returns the order that is served now, or None where there is nothing to annotate.

    Raises:
        StudioRefused: where Label Studio did not take every prediction; the order before stays in force.
    """
    with services.orders(project).alone():
        return _refreshed(services, project, report)


def refresh_if_needed(services: Services, project: int, report: Report, look_for_frames: bool = True) -> Order | None:
    """Like `refresh`, unless another process has done it while this one waited for its turn.

    Returns the order that is served now, or None where there is nothing to annotate.
    """
    orders = services.orders(project)
    with orders.alone():
        if needs_refresh(services, project, look_for_frames):
            return _refreshed(services, project, report)
        return orders.current()


def _refreshed(services: Services, project: int, report: Report) -> Order | None:
    started = time.monotonic()
    studio = services.studio
    settings = services.settings
    orders = services.orders(project)
    info = studio.project(project)
    configuration = services.configuration(info.label_config)
    manifest = active_manifest(services, project, configuration)
    frames = [
        Frame.of(task.id, task.data, configuration.image_key, services.settings.clip_key)
        for task in studio.tasks(project, only_unlabelled=True)
    ]
    if not frames:
        return None
    pushed = studio.model_versions(project)
    name = orders.next_name(manifest.version if manifest else None, pushed)
    if manifest is None:
        ranked = _by_diversity(services, project, frames, configuration, name, report)
    else:
        ranked = _by_informativeness(services, project, frames, configuration, manifest, name, report)
    scored = time.monotonic()

    report("pushing", 0, len(frames))
    last = sorted(ranked.unreadable)
    nothing = (
        Prediction(task, None, (len(ranked.tasks) + place) / len(frames), name) for place, task in enumerate(last)
    )
    placed = Order(
        About(
            name=name,
            version=manifest.version if manifest else None,
            strategy=ranked.strategy,
            validator=validator_of(settings, manifest) if manifest else None,
            created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            seed=settings.seed,
            unreadable=ranked.unreadable,
            seconds={"scoring": round(scored - started, 3)},
        ),
        np.concatenate([ranked.tasks, np.array(last, np.int64)]),
        np.concatenate([ranked.informativeness, np.full(len(last), np.inf)]),
    )
    # Kept before it is pushed, so that no predictions pile up in Label Studio with every try where the disk takes
    # nothing. What a try before this one could not push goes only now, so that its name is not taken again.
    orders.prune([*pushed, info.model_version or ""])
    orders.save(placed)
    studio.import_predictions(project, _checked(chain(ranked.predictions, nothing), configuration, project))
    now = time.monotonic()
    took = placed.about.seconds | {"push": round(now - scored, 3), "refresh": round(now - started, 3)}
    placed = replace(placed, about=placed.about.model_copy(update={"seconds": took}))
    with suppress(OSError):  # how long it took is not worth a push in vain
        orders.save(placed)
    studio.update_project(project, model_version=name, sampling=SAMPLING, show_collab_predictions=True)
    orders.activate(name)
    services.count(pushed=len(frames))
    event(
        logger,
        "queue in order",
        project=project,
        order=name,
        strategy=ranked.strategy,
        frames=len(frames),
        unreadable=len(last),
        seconds=round(time.monotonic() - started, 1),
    )
    return placed


def needs_refresh(services: Services, project: int, look_for_frames: bool) -> str | None:
    """Why the queue must be put in order again, or None while the order that Label Studio serves is right.

    Listing the pool is the dear part, so it is done only where ``look_for_frames`` says that frames may have come.
    """
    info = services.studio.project(project)
    manifest = active_manifest(services, project, services.configuration(info.label_config))
    orders = services.orders(project)
    order = orders.current()
    if order is None and orders.current_name():
        return "the order that was pushed cannot be read"
    if order is not None:
        if order.about.version != (manifest.version if manifest else None):
            return "another version is active"
        if manifest is not None and order.about.strategy != strategy_of(services, manifest):
            return "another strategy is set"
        if manifest is not None and order.about.validator != validator_of(services.settings, manifest):
            return "another validator is set"
        if info.model_version != order.about.name:
            return "Label Studio serves another version"
    if look_for_frames:
        known = set(order.tasks.tolist()) if order else set()
        unknown = sum(task.id not in known for task in services.studio.tasks(project, only_unlabelled=True))
        if unknown:
            return f"{unknown} new frames"
    return None


def strategy_of(services: Services, manifest: Manifest) -> str:
    """The strategy that orders the queue of a version: the one set, or the version's own choice."""
    strategy = services.settings.strategy
    return manifest.choice.get("strategy", FIRST_STRATEGY) + DIVERSE if strategy == "adaptive" else strategy


def active_manifest(services: Services, project: int, configuration: Configuration) -> Manifest | None:
    """The version that serves, None before the first or where it has other symptoms or another backbone."""
    store = services.versions(project)
    active = store.active()
    if active is None:
        return None
    manifest = store.get(active)
    difference = unfit(services, manifest, configuration)
    if difference:
        reason = f"{difference}: the next confirmed batch starts a new line of versions"
        event(logger, "version not used", level=logging.WARNING, project=project, version=active, reason=reason)
        return None
    return manifest


def unfit(services: Services, manifest: Manifest, configuration: Configuration) -> str | None:
    """What keeps a version from serving the project as it is now, or None where nothing does."""
    theirs, ours = manifest.label_names, configuration.label_names
    if theirs != ours:
        return f"it has other symptoms ({', '.join(theirs)}) than the project now ({', '.join(ours)})"
    backbone = services.settings.backbone
    if manifest.backbone != backbone:
        return f"it has another backbone ({manifest.backbone}) than TSAL_BACKBONE now ({backbone})"
    return None


def predictions_of(
    scores: Scores, configuration: Configuration, name: str, strategy: str, positions: NDArray[np.float64]
) -> Iterator[Prediction]:
    """What travels to Label Studio for each row of ``scores``; ``positions`` (n,) in [0, 1], lowest asked first."""
    names = configuration.label_names
    for row in range(len(scores.tasks)):
        probabilities = zip(names, scores.probabilities[row].tolist(), strict=True)
        yield Prediction(
            int(scores.tasks[row]),
            scores.labels[row],
            float(positions[row]),
            name,
            {
                "probabilities": {symptom: round(probability, 4) for symptom, probability in probabilities},
                "margin": round(float(scores.margins[row]), 4),
                "distance": round(float(scores.distances[row]), 4),
                "plain": configuration.label_set.decode(scores.plain[row]),
                "strategy": strategy,
            },
        )


def prune(services: Services, project: int, busy: bool = False) -> str | None:
    """Remove the predictions of the oldest order that is no longer needed; one a call, never the one that serves.

    Label Studio on SQLite stands still meanwhile, so while annotators are ``busy`` it is done only where too many have
    piled up.
    """
    studio, orders, keep = services.studio, services.orders(project), services.settings.keep_pushed
    with orders.alone():
        current = orders.current_name()
        served = studio.project(project).model_version
        ours = [name for name in studio.model_versions(project) if NAME.match(name) and name not in (current, served)]
        ours.sort(key=lambda name: _age(services, project, name))
        surplus = 1 + len(ours) - keep
        if surplus <= (PILE if busy else 0):
            return None
        studio.delete_model_version(project, ours[0])
        orders.prune([*ours[1:], served or ""])
    event(logger, "old predictions removed", project=project, order=ours[0])
    return ours[0]


def _age(services: Services, project: int, name: str) -> tuple[str, str]:
    order = services.orders(project).get(name)
    return (order.about.created_at if order else "", name)


@dataclass(frozen=True)
class _Ranked:
    """The readable frames as they will be asked: ``tasks`` and ``informativeness`` as in `Order`."""

    strategy: str
    tasks: NDArray[np.int64]
    informativeness: NDArray[np.float64]
    unreadable: dict[int, str]
    predictions: Iterator[Prediction]


def _by_informativeness(
    services: Services,
    project: int,
    frames: Sequence[Frame],
    configuration: Configuration,
    manifest: Manifest,
    name: str,
    report: Report,
) -> _Ranked:
    strategy = strategy_of(services, manifest)
    seed = [services.settings.seed, manifest.number]
    scores = scoring.score(services, project, frames, manifest, report)
    values = score(scores.probabilities, strategy, np.random.default_rng(seed))
    order: NDArray[np.intp] = np.argsort(values, kind="stable")
    if strategy.endswith(DIVERSE):
        first = _diverse_first(services, project, frames, scores, values, manifest, report)
        order = np.concatenate([first, order[~np.isin(order, first)]])
    positions = np.empty(len(order))
    positions[order] = np.arange(len(order)) / len(frames)
    predictions = predictions_of(scores, configuration, name, strategy, positions)
    return _Ranked(strategy, scores.tasks[order], np.sort(values), scores.unreadable, predictions)


def _diverse_first(
    services: Services,
    project: int,
    frames: Sequence[Frame],
    scores: Scores,
    values: NDArray[np.float64],
    manifest: Manifest,
    report: Report,
) -> NDArray[np.intp]:
    """The rows of ``scores`` asked first: informative by their ``values`` (n,), apart, rare symptoms among them.

    Only the most informative ones are embedded, so that neither memory nor time grow with the pool.
    """
    k_max = services.settings.k_max
    tasks = scores.tasks
    rows = candidates(values, k_max)
    frame_of = {frame.task: frame for frame in frames}
    found = [frame_of[task] for task in tasks[rows].tolist()]
    embeddings = scoring.embed(services, project, found, len(manifest.label_names), report)
    # A frame that cannot be read any more keeps its place by score.
    row_of = dict(zip(tasks[rows].tolist(), rows.tolist(), strict=True))
    rows = np.array([row_of[task] for task in embeddings.tasks.tolist()], np.intp)
    names = [frame_of[task].clip for task in tasks.tolist()]
    clips = np.unique(names, return_inverse=True)[1].reshape(-1)
    asked = np.array([manifest.clips.get(clip, 0) for clip in names])
    rng = np.random.default_rng([services.settings.seed, manifest.number])
    order = rows[diverse(values[rows], embeddings.features, clips[rows], asked[rows], k_max, rng)]
    if not manifest.positives:  # a version from before they were counted
        return order
    positives = [manifest.positives[symptom] for symptom in manifest.label_names]
    return feed_rare(order, scores.probabilities, positives, clips, asked, k_max)


def _by_diversity(
    services: Services,
    project: int,
    frames: Sequence[Frame],
    configuration: Configuration,
    name: str,
    report: Report,
) -> _Ranked:
    embeddings = scoring.embed(services, project, frames, len(configuration.label_set), report)
    order = spread(embeddings.features, services.settings.k_max, np.random.default_rng(services.settings.seed))
    positions = np.arange(len(order)) / len(frames)
    tasks = embeddings.tasks[order]
    predictions = (
        Prediction(task, None, position, name)
        for task, position in zip(tasks.tolist(), positions.tolist(), strict=True)
    )
    return _Ranked("diversity", tasks, positions, embeddings.unreadable, predictions)


def _checked(
    predictions: Iterable[Prediction], configuration: Configuration, project: int
) -> Iterator[dict[str, object]]:
    """Payloads that Label Studio's own check accepts; one that it does not is sent empty and logged."""
    checker = Checker(configuration)
    for prediction in predictions:
        payload, problem = checker.payload(prediction)
        if problem:
            event(
                logger, "prediction refused", level=logging.ERROR, project=project, task=prediction.task, reason=problem
            )
        yield payload
