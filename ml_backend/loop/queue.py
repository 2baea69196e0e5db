"""The queue that a refresh makes: frames scored, chosen, drawn for the audit, and pushed to Label Studio."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ml_backend.frames.frame import Frame
from ml_backend.frames.scores import Scores
from ml_backend.logs import event
from ml_backend.loop import score as scoring
from ml_backend.services import Services
from ml_backend.store.audits import Draw
from ml_backend.store.orders import About, Basis, Order
from ml_backend.store.versions import Manifest
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.payloads import Checker, Prediction
from ml_backend.tsal.correlation import pick_columns
from ml_backend.tsal.diversity import FeatureMatrix
from ml_backend.tsal.labels import columns_of
from ml_backend.tsal.round import Batch, Known, Pool, Rows, Rules, choose
from ml_backend.tsal.split import held_out

logger = logging.getLogger(__name__)
SAMPLING = "Uncertainty sampling"
NOT_RARE = np.iinfo(np.int64).max
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Queue:
    """The readable frames and how they will be asked: rows of ``batch`` are places in ``tasks``."""

    tasks: NDArray[np.int64]
    batch: Batch
    unreadable: dict[int, str]
    scores: Scores | None = None
    new_draw: bool = False


@dataclass(frozen=True)
class Refresh:
    """One refresh of a project's queue: what it works on, and its steps.

    ``manifest`` is the active version, whose scores and ticks the queue has; ``newest`` the newest one, which begins
    the batch also where it was held back. Both are None before the first version.
    """

    services: Services
    project: int
    configuration: Configuration
    manifest: Manifest | None
    newest: Manifest | None
    basis: Basis
    frames: Sequence[Frame]
    name: str
    report: Report

    @property
    def version(self) -> str | None:
        """The version that scores the queue."""
        return self.manifest.version if self.manifest else None

    def queue(self) -> Queue:
        """Score the frames, or before the first version embed them, and choose their order."""
        if self.manifest is None:
            embeddings = self._embeddings(self.frames)
            rows = np.arange(len(embeddings.tasks))
            queue = partial(Queue, embeddings.tasks, unreadable=embeddings.unreadable)
            pool, known = self._pool(embeddings.tasks, None, lambda wanted: (rows[wanted], embeddings.features[wanted]))
        else:
            scores = scoring.score(self.services, self.project, self.frames, self.manifest, self.report)
            queue = partial(Queue, scores.tasks, unreadable=scores.unreadable, scores=scores)
            pool, known = self._pool(scores.tasks, scores.probabilities, partial(self._embed, scores.tasks))
        return queue(batch=choose(pool, known, self._rules()), new_draw=known.audit is None)

    def record_draw(self, queue: Queue) -> None:
        """Write down which frames the batch audits, before anybody can see them."""
        if not queue.new_draw:
            return
        audits = self.services.audits(self.project)
        earlier = audits.tasks() & {frame.task for frame in self.frames}
        if earlier:  # some of them may have been answered while this queue was scored
            earlier &= {task.id for task in self.services.studio.tasks(self.project, only_unlabelled=True)}
        draw = Draw(
            order=self.name,
            version=self.version,
            newest=self.newest.version if self.newest else None,
            drawn_at=_now(),
            seed=self.services.settings.seed,
            pool=len(queue.tasks),
            tasks=tuple(queue.tasks[queue.batch.audit].tolist()),
            released=tuple(sorted(earlier)),
        )
        audits.add(draw)
        event(logger, "audit drawn", project=self.project, order=self.name, frames=len(draw.tasks), pool=draw.pool)

    def order(self, queue: Queue, seconds: float) -> Order:
        """The queue as it is kept: readable frames in the order chosen, then those that cannot be read."""
        settings, last = self.services.settings, sorted(queue.unreadable)
        return Order(
            About(
                **self.basis.model_dump(),
                name=self.name,
                created_at=_now(),
                seed=settings.seed,
                unreadable=queue.unreadable,
                seconds={"scoring": seconds},
            ),
            np.concatenate([queue.tasks[queue.batch.order], np.array(last, np.int64)]),
            np.concatenate([np.sort(queue.batch.scores), np.full(len(last), np.inf)]),
            (*queue.batch.reasons, *["unreadable"] * len(last)),
        )

    def push(self, queue: Queue, order: Order, started: float, scored: float) -> Order:
        """Send the predictions, and only when all are there let Label Studio serve them."""
        services, project, orders = self.services, self.project, self.services.orders(self.project)
        self.report("pushing", 0, len(self.frames))
        predictions = _checked(self._predictions(queue, order), self.configuration, project)
        services.studio.import_predictions(project, predictions)
        now = time.monotonic()
        took = order.about.seconds | {"push": round(now - scored, 3), "refresh": round(now - started, 3)}
        order = replace(order, about=order.about.model_copy(update={"seconds": took}))
        with suppress(OSError):  # the durations are not worth a wasted push
            orders.save(order)
        services.studio.update_project(
            project, model_version=self.name, sampling=SAMPLING, show_collab_predictions=True
        )
        orders.activate(self.name)
        services.count(pushed=len(self.frames))
        event(
            logger,
            "queue in order",
            project=project,
            order=self.name,
            strategy=self.basis.strategy,
            without_ticks=", ".join(self._unknown()) or None,
            frames=len(self.frames),
            audit=len(queue.batch.audit),
            unreadable=len(queue.unreadable),
            seconds=round(time.monotonic() - started, 1),
        )
        return order

    def _pool(
        self,
        tasks: NDArray[np.int64],
        probabilities: NDArray[np.float32] | None,
        embed: Callable[[Rows], tuple[Rows, FeatureMatrix]],
    ) -> tuple[Pool, Known]:
        """What the method knows of the readable ``tasks`` (n,)."""
        settings, newest = self.services.settings, self.newest
        frame_of = {frame.task: frame for frame in self.frames}
        frames = [frame_of[task] for task in tasks.tolist()]
        clips = np.unique([frame.clip for frame in frames], return_inverse=True)[1].reshape(-1).astype(np.intp)
        held = held_out([frame.patient for frame in frames], settings.hold_out, settings.seed)
        counted = newest.clips if newest else {}
        asked = np.array([counted.get(frame.clip, 0) for frame in frames], np.intp)
        positives = None
        if self.manifest is not None and newest is not None and newest.positives:  # older versions did not count them
            # A symptom that was removed from the configuration is not looked for.
            now, counts = self.configuration.label_names, newest.positives
            positives = [counts.get(name, 0) if name in now else NOT_RARE for name in self.manifest.label_names]
        return Pool(probabilities, embed, clips, held), Known(asked, positives, self._unanswered(tasks))

    def _unanswered(self, tasks: NDArray[np.int64]) -> Rows | None:
        """Rows of this batch's audit frames that are still in the pool, None where they are still to be drawn.

        A refresh in the middle of a batch goes on with the draw that was recorded: drawing again would replace frames
        that annotators left unanswered, and the sample would no longer be uniform.
        """
        if self.services.settings.audit == 0:
            return np.empty(0, np.intp)
        draw = self.services.audits(self.project).of_batch(self.newest.version if self.newest else None)
        if draw is None:
            return None
        row_of = {task: row for row, task in enumerate(tasks.tolist())}
        return np.array([row_of[task] for task in draw.tasks if task in row_of], np.intp)

    def _rules(self) -> Rules:
        settings, strategies = self.services.settings, self.services.strategies
        number = self.newest.number if self.newest else 0
        return Rules(self.basis.strategy, settings.k_max, settings.audit, settings.seed, number, strategies=strategies)

    def _embed(self, tasks: NDArray[np.int64], rows: Rows) -> tuple[Rows, FeatureMatrix]:
        """Pre-trained features of the candidates; one that can no longer be read keeps its place by score."""
        frame_of = {frame.task: frame for frame in self.frames}
        embeddings = self._embeddings([frame_of[task] for task in tasks[rows].tolist()])
        row_of = dict(zip(tasks[rows].tolist(), rows.tolist(), strict=True))
        return np.array([row_of[task] for task in embeddings.tasks.tolist()], np.intp), embeddings.features

    def _embeddings(self, frames: Sequence[Frame]) -> scoring.Embeddings:
        label_count = len(self.manifest.label_names if self.manifest else self.configuration.label_names)
        return scoring.embed(self.services, self.project, frames, label_count, self.report)

    def _unknown(self) -> list[str]:
        """Symptoms of the configuration that the version does not know."""
        known = self.manifest.label_names if self.manifest else self.configuration.label_names
        return [name for name in self.configuration.label_names if name not in known]

    def _predictions(self, queue: Queue, order: Order) -> Iterator[Prediction]:
        """One prediction for each frame, its position in the queue as score; without ticks where there are none."""
        position_of = {task: place / len(order.tasks) for place, task in enumerate(order.tasks.tolist())}
        if queue.scores is not None and self.manifest is not None:
            row_order = np.argsort(queue.batch.order)
            reasons = [queue.batch.reasons[place] for place in row_order.tolist()]
            positions = np.array([position_of[task] for task in queue.tasks.tolist()])
            names, strategy = self.manifest.label_names, self.basis.strategy
            yield from predictions_of(queue.scores, names, self.configuration, self.name, strategy, positions, reasons)
        for task, position in position_of.items():
            if queue.scores is None or task in queue.unreadable:
                yield Prediction(task, None, position, self.name)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def predictions_of(
    scores: Scores,
    names: Sequence[str],
    configuration: Configuration,
    name: str,
    strategy: str,
    positions: NDArray[np.float64],
    reasons: Sequence[str] | None = None,
) -> Iterator[Prediction]:
    """What travels to Label Studio for each row of ``scores``, whose columns are the symptoms ``names`` of a version.

    A symptom of the configuration that the version does not know gets neither tick nor probability; one that the
    configuration does not have any more is dropped. ``positions`` (n,) in [0, 1], lowest asked first; ``reasons`` (n,)
    why each frame stands there, where that is known.
    """
    columns = columns_of(configuration.label_names, names)
    known = [
        (name, column) for name, column in zip(configuration.label_names, columns, strict=True) if column is not None
    ]
    labels, plain = pick_columns(scores.labels, columns), pick_columns(scores.plain, columns)
    for row in range(len(scores.tasks)):
        probabilities = scores.probabilities[row]
        yield Prediction(
            int(scores.tasks[row]),
            labels[row],
            float(positions[row]),
            name,
            {
                "probabilities": {name: round(float(probabilities[column]), 4) for name, column in known},
                "margin": round(float(scores.margins[row]), 4),
                "distance": round(float(scores.distances[row]), 4),
                "plain": configuration.label_set.decode(plain[row]),
                "strategy": strategy,
            }
            | ({"reason": reasons[row]} if reasons is not None else {}),
        )


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
