"""The queue that a refresh makes: frames scored, chosen, drawn for the audit, and pushed to Label Studio."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone

import numpy as np
from numpy.typing import NDArray

from ml_backend.frames.frame import Frame
from ml_backend.frames.scores import Scores
from ml_backend.logs import event
from ml_backend.loop.collect import changed_since
from ml_backend.loop.push import predictions_of, serve
from ml_backend.loop.remember import Memory, believed, places_of
from ml_backend.loop.score import Embeddings
from ml_backend.services import Services
from ml_backend.store.audits import AuditTold, Draw
from ml_backend.store.orders import About, Basis, Order, Told
from ml_backend.store.versions import Manifest
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.payloads import Prediction
from ml_backend.tsal.belief import SOURCES, Belief
from ml_backend.tsal.likeness import Places
from ml_backend.tsal.round import Batch, Known, Pool, Rows, Rules, choose
from ml_backend.tsal.split import held_out

logger = logging.getLogger(__name__)
NOT_RARE = np.iinfo(np.int64).max
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Queue:
    """The readable frames and how they will be asked: rows of ``batch`` are places in ``tasks``."""

    tasks: NDArray[np.int64]
    batch: Batch
    unreadable: dict[int, str]
    scores: Scores | None = None
    belief: Belief | None = None
    new_draw: bool = False


@dataclass(frozen=True)
class Refresh:
    """One refresh of a project's queue: what it works on, and its steps.

    ``manifest`` is the active version, whose scores and ticks the queue has; ``newest`` the newest one, which begins
    the batch also where it was held back. Both are None before the first version. ``scored``: what the version says of
    the ``frames``, None without one, and their embeddings. ``memory`` is None where neither strategy nor validator uses
    it.
    """

    services: Services
    project: int
    configuration: Configuration
    manifest: Manifest | None
    newest: Manifest | None
    basis: Basis
    frames: Sequence[Frame]
    scored: tuple[Scores | None, Embeddings]
    name: str
    report: Report
    memory: Memory | None = None

    @property
    def answered(self) -> list[Frame]:
        """Frames of this batch that are confirmed already, as far as the memory knows."""
        if self.memory is None:
            return []
        fresh = {one.annotation.task for one in changed_since(self.memory.labelled, self.newest)}
        return [frame for frame in self.memory.frames if frame.task in fresh]

    @property
    def version(self) -> str | None:
        """The version that scores the queue."""
        return self.manifest.version if self.manifest else None

    def queue(self) -> Queue:
        """Say what is believed of the frames, and choose their order."""
        scores, embeddings = self.scored
        frame_of = {frame.task: frame for frame in self.frames}
        frames = [frame_of[task] for task in embeddings.tasks.tolist()]
        numbers: dict[str, int] = {}
        places = places_of(frames, embeddings.features, numbers)
        belief = self._believed(places, numbers, scores)
        pool, known = self._pool(frames, places, scores, belief)
        return Queue(
            embeddings.tasks,
            choose(pool, known, self._rules()),
            embeddings.unreadable,
            scores,
            belief,
            new_draw=known.audit is None,
        )

    def first(self, queue: Queue, count: int) -> list[Frame]:
        """The ``count`` frames that are asked for first, or as many as there are; in no particular order."""
        asked = set(queue.tasks[queue.batch.order[:count]].tolist())
        return [frame for frame in self.frames if frame.task in asked]

    def record_draw(self, queue: Queue) -> None:
        """Write down which frames the batch audits, before anybody can see them."""
        if not queue.new_draw:
            return
        audits = self.services.audits(self.project)
        earlier = audits.tasks() & {frame.task for frame in self.frames}
        if earlier:  # some of them may have been answered while this queue was scored
            earlier &= {task.id for task in self.services.studio.tasks(self.project, only_unlabelled=True)}
        tasks = queue.tasks[queue.batch.audit].tolist()  # in random order, so the first are as good as any
        draw = Draw(
            order=self.name,
            version=self.version,
            newest=self.newest.version if self.newest else None,
            drawn_at=_now(),
            seed=self.services.settings.seed,
            pool=len(queue.tasks),
            tasks=tuple(tasks),
            blind=tuple(tasks[: round(self.services.settings.blind * len(tasks))] if queue.belief else ()),
            released=tuple(sorted(earlier)),
        )
        audits.add(draw)
        event(logger, "audit drawn", project=self.project, order=self.name, frames=len(draw.tasks), pool=draw.pool)

    def note_told(self, queue: Queue) -> None:
        """Write down what is told of the audit frames that nobody has answered: memory and network are judged by it."""
        if queue.belief is None or not self.speaks(queue):
            return
        audits, blind = self.services.audits(self.project), self.blind()
        rows = np.flatnonzero(np.isin(queue.tasks, sorted(audits.tasks()))).tolist()
        audits.note_told(
            {
                int(queue.tasks[row]): AuditTold(
                    ticks=tuple(self.configuration.label_set.decode(queue.belief.labels[row])),
                    confidence=round(float(queue.belief.confidence[row]), 4),
                    source=SOURCES[queue.belief.source[row]],
                    network=self._network_says(queue, row),
                    blind=int(queue.tasks[row]) in blind,
                )
                for row in rows
            }
        )

    def _network_says(self, queue: Queue, row: int) -> dict[str, float]:
        if queue.scores is None or self.manifest is None:
            return {}
        values = queue.scores.probabilities[row].tolist()
        return {name: round(value, 4) for name, value in zip(self.manifest.label_names, values, strict=True)}

    def blind(self) -> set[int]:
        """Audit frames of this batch that are asked without ticks."""
        draw = self.services.audits(self.project).of_batch(self.newest.version if self.newest else None)
        return set(draw.blind) if draw else set()

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
                pending=len(self.answered),
            ),
            np.concatenate([queue.tasks[queue.batch.order], np.array(last, np.int64)]),
            np.concatenate([np.sort(queue.batch.scores), np.full(len(last), np.inf)]),
            (*queue.batch.reasons, *["unreadable"] * len(last)),
            self._told(queue, len(last)),
        )

    def _told(self, queue: Queue, unreadable: int) -> Told | None:
        """What the order tells annotators, with rows for the unreadable frames that say nothing."""
        if queue.belief is None or self.memory is None:
            return None
        rows = queue.batch.order
        labels = np.pad(queue.belief.labels[rows], ((0, unreadable), (0, 0)))
        confidence = queue.belief.confidence[rows].astype(np.float32)
        if not self.speaks(queue):
            confidence[:] = np.nan
        confidence = np.pad(confidence, (0, unreadable), constant_values=np.nan)
        return Told(labels, confidence, self.memory.marks)

    def speaks(self, queue: Queue) -> bool:
        """Whether anything can be said of a frame: there is a network, or somebody has confirmed a frame."""
        return queue.scores is not None or bool(self.memory and self.memory.labelled)

    def push(self, queue: Queue, order: Order, started: float) -> Order:
        """Send the predictions, and only when all are there let Label Studio serve them."""
        services, project, orders = self.services, self.project, self.services.orders(self.project)
        self.report("pushing", 0, len(self.frames))
        sending = time.monotonic()
        serve(services, project, order, self._predictions(queue, order), self.configuration)
        now = time.monotonic()
        took = order.about.seconds | {"push": round(now - sending, 3), "refresh": round(now - started, 3)}
        order = replace(order, about=order.about.model_copy(update={"seconds": took}))
        with suppress(OSError):  # the durations are not worth a wasted push
            orders.save(order)
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

    def _believed(self, places: Places, numbers: dict[str, int], scores: Scores | None) -> Belief | None:
        if self.memory is None:
            return None
        audits = self.services.audits(self.project)
        return believed(
            self.memory, places, numbers, audits.told(), audits.tasks(), self.configuration, self.manifest, scores
        )

    def _pool(
        self, frames: Sequence[Frame], places: Places, scores: Scores | None, belief: Belief | None
    ) -> tuple[Pool, Known]:
        """What the method knows of the readable ``frames``."""
        settings, newest = self.services.settings, self.newest
        held = held_out([frame.patient for frame in frames], settings.hold_out, settings.seed)
        counted = Counter(frame.clip for frame in self.memory.frames) if self.memory else newest.clips if newest else {}
        asked = np.array([counted.get(frame.clip, 0) for frame in frames], np.intp)
        tasks = np.array([frame.task for frame in frames], np.int64)
        pool = Pool(scores.probabilities if scores else None, places, held)
        return pool, Known(asked, self._positives(), self._unanswered(tasks), belief)

    def _positives(self) -> list[int] | None:
        """Confirmed frames that show each symptom: of the configuration with a memory, else of the version."""
        if self.memory is not None:
            if not self.memory.labelled:
                return None
            return [int(count) for count in np.sum([one.labels for one in self.memory.labelled], axis=0)]
        newest = self.newest
        if self.manifest is None or newest is None or not newest.positives:  # older versions did not count them
            return None
        # A symptom that was removed from the configuration is not looked for.
        now, counts = self.configuration.label_names, newest.positives
        return [counts.get(name, 0) if name in now else NOT_RARE for name in self.manifest.label_names]

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
        left = max(1, settings.k_max - len(self.answered))
        return Rules(self.basis.strategy, left, settings.audit, settings.seed, number, strategies=strategies)

    def _unknown(self) -> list[str]:
        """Symptoms of the configuration that the version does not know."""
        known = self.manifest.label_names if self.manifest else self.configuration.label_names
        return [name for name in self.configuration.label_names if name not in known]

    def _predictions(self, queue: Queue, order: Order) -> Iterator[Prediction]:
        """One prediction for each frame, its position in the queue as score; without ticks where there are none."""
        position_of = {task: place / len(order.tasks) for place, task in enumerate(order.tasks.tolist())}
        told: set[int] = set()
        row_order = np.argsort(queue.batch.order)
        reasons = [queue.batch.reasons[place] for place in row_order.tolist()]
        positions = np.array([position_of[task] for task in queue.tasks.tolist()])
        if queue.scores is not None and self.manifest is not None:
            names, strategy = self.manifest.label_names, self.basis.strategy
            made = predictions_of(queue.scores, names, self.configuration, self.name, strategy, positions, reasons)
        else:
            made = (
                Prediction(task, None, float(position), self.name, {"reason": reason})
                for task, position, reason in zip(queue.tasks.tolist(), positions, reasons, strict=True)
            )
        if queue.belief is not None and self.speaks(queue):
            made = self._with_belief(made, queue.belief)
        for prediction in made:
            told.add(prediction.task)
            yield prediction
        for task, position in position_of.items():
            if task not in told:
                yield Prediction(task, None, position, self.name)

    def _with_belief(self, made: Iterable[Prediction], belief: Belief) -> Iterator[Prediction]:
        """The same predictions with what is believed as ticks: how sure, by which source, because of which frame."""
        remembered = [frame.task for frame in self.memory.frames] if self.memory else []
        blind = self.blind()
        for row, prediction in enumerate(made):
            if prediction.task in blind:
                yield Prediction(prediction.task, None, prediction.score, self.name)
                continue
            nearest = int(belief.recall.row[row])
            audit = dict(prediction.audit) | {
                "confidence": round(float(belief.confidence[row]), 4),
                "source": SOURCES[belief.source[row]],
                "nearest": remembered[nearest] if nearest >= 0 else None,
            }
            yield replace(prediction, labels=belief.labels[row], audit=audit)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
