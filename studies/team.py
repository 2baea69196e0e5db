"""A simulated team and the product beside it: what is asked, what is answered, and what is believed of every frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ml_backend.tsal.belief import Audited, Belief, believe
from ml_backend.tsal.likeness import Places, Scale
from ml_backend.tsal.memory import Remembered, combinations_of
from ml_backend.tsal.round import COVER, Known, Pool, Rows, Rules, choose, generator
from ml_backend.tsal.ticks import ticks
from studies.dataset import ClipSet
from studies.peers import Peer
from studies.simulation import Learner, Material, Way

Clips = Literal["known", "hidden", "sweeps"]
CLIPS: tuple[Clips, ...] = ("known", "hidden", "sweeps")


@dataclass(frozen=True)
class Sizes:
    """``k_max`` answers between fine-tunes, ``refresh`` between refreshes of the memory, ``audit`` share of a batch."""

    k_max: int
    refresh: int
    audit: float


@dataclass(frozen=True, eq=False)
class Told:
    """What annotators are told of n frames, in the order of the rows told of.

    ``labels`` (n, l); ``confidence`` (n,) in [0, 1]: how sure the whole combination is right; ``belief`` where they
    come from a memory.
    """

    labels: NDArray[np.uint8]
    confidence: NDArray[np.float64]
    belief: Belief | None = None


def seen_as(clips: ClipSet, places: Places, mode: Clips) -> Places:
    """The same frames as a team has them whose clips are known, hidden, or one long sweep for each patient.

    In a sweep, a patient's clips follow each other in time.
    """
    if mode == "known":
        return places
    if mode == "hidden":
        return Places(places.embeddings, np.arange(len(places)), np.full(len(places), np.nan))
    patients = np.unique(np.array(clips.patients), return_inverse=True)[1].astype(np.intp)
    times = places.times.copy()
    for patient in np.unique(patients):
        end = 0.0
        for clip in np.unique(places.clips[patients == patient]):
            rows = np.flatnonzero(places.clips == clip)
            times[rows] += end
            end = float(times[rows].max()) + float(clips.every)
    return Places(places.embeddings, patients, times)


class Team:
    """Annotators who give the experts' labels, asked by cover and told what memory, network and table say.

    ``pool`` are the rows that may be asked, in ascending order, ``test`` further rows of which they are told. Without a
    ``way`` there is no network: nothing is ever fine-tuned, and the memory alone makes every tick.
    """

    def __init__(
        self, material: Material, places: Places, pool: Rows, test: Rows, sizes: Sizes, seed: int, way: Way | None
    ) -> None:
        self.material, self.places, self.sizes, self.seed = material, places, sizes, seed
        self.rest, self.test = pool.copy(), test
        self.learner = None if way is None else Learner(material, way, seed)
        self.probabilities: NDArray[np.float32] | None = None
        self.answered: Rows = np.empty(0, np.intp)
        self.corrected = 0
        self.batches = 0
        self.drawn: Rows | None = None  # audit frames of this batch; None before its draw
        self._audited: dict[int, NDArray[np.float32]] = {}
        self._since = 0  # answers since the last fine-tune

    @property
    def truth(self) -> NDArray[np.uint8]:
        """The experts' labels for all frames."""
        return self.material.clips.labels

    @property
    def left(self) -> int:
        """Answers until the next fine-tune."""
        return self.sizes.k_max - self._since

    @property
    def audited(self) -> int:
        """Answers that are a uniform sample of the pool."""
        return len(self._audited)

    def tell(self) -> Told:
        """What is told of the rest of the pool, and after it of the test rows."""
        belief = self._believe()
        return Told(belief.labels, belief.confidence, belief)

    def ask(self, told: Told) -> Rows:
        """The rows that are asked before the next refresh."""
        rest, clips = self.rest, self.places.clips
        asked = np.bincount(clips[self.answered], minlength=int(clips.max()) + 1)[clips[rest]]
        positives = self.truth[self.answered].sum(axis=0) if len(self.answered) else None
        audit = None if self.drawn is None else np.flatnonzero(np.isin(rest, self.drawn))
        belief = None if told.belief is None else told.belief[: len(rest)]
        rules = Rules(COVER, self.left, self.sizes.audit, self.seed, self.batches)
        batch = choose(self._pool(), Known(asked, positives, audit, belief), rules)
        if self.drawn is None:
            self.drawn = rest[batch.audit]
        return rest[batch.order[: min(self.sizes.refresh, self.left)]]

    def answer(self, rows: Rows, told: Told) -> None:
        """Confirm the rows; after a whole batch, fine-tune."""
        self.corrected += self._wrong(rows, told)
        for row in self._audit_of(rows).tolist():
            said = self.probabilities
            self._audited[row] = np.full(self.truth.shape[1], np.nan, np.float32) if said is None else said[row]
        self.answered = np.concatenate([self.answered, rows])
        self.rest = np.setdiff1d(self.rest, rows)
        self._since += len(rows)
        if not self.left:
            self._end_batch()

    def _believe(self) -> Belief:
        rows, labels = np.concatenate([self.rest, self.test]), self.truth[self.answered]
        place_of = {row: place for place, row in enumerate(self.answered.tolist())}
        audited = Audited(
            np.array([place_of[row] for row in self._audited], np.intp),
            np.array(list(self._audited.values()), np.float32).reshape(-1, labels.shape[1]),
        )
        remembered = Remembered(self.places[self.answered], labels, np.ones(labels.shape, bool))
        said = None if self.probabilities is None else self.probabilities[rows]
        tables = None if self.learner is None or said is None else self.learner.tables
        return believe(self.places[rows], remembered, audited, said, tables)

    def _pool(self) -> Pool:
        said = None if self.probabilities is None else self.probabilities[self.rest]
        return Pool(said, self.places[self.rest], np.zeros(len(self.rest), bool))

    def _audit_of(self, rows: Rows) -> Rows:
        """Those of the rows that are a uniform sample."""
        return rows[:0] if self.drawn is None else rows[np.isin(rows, self.drawn)]

    def _wrong(self, rows: Rows, told: Told) -> int:
        """How many of the rows were shown other labels than the right ones; all of them while nothing was known."""
        if not len(self.answered):
            return len(rows)
        shown = told.labels[np.searchsorted(self.rest, rows)]
        return int((shown != self.truth[rows]).any(axis=1).sum())

    def _end_batch(self) -> None:
        batch = self.answered[-self._since :]
        self._since, self.drawn = 0, None
        self.batches += 1
        if self.learner is None:
            return
        self.learner.learn(np.sort(self.answered), batch, np.array(sorted(self._audited), np.intp))
        if self.learner.version:
            self.probabilities = self.learner.probabilities(np.arange(len(self.truth)))


class RandomTeam(Team):
    """A team that is asked any frames, and has the same memory: every frame is an audit frame."""

    def ask(self, told: Told) -> Rows:
        """Any rows."""
        rng = generator(self.seed, len(self.answered))
        return np.sort(rng.permutation(self.rest)[: min(self.sizes.refresh, self.left)])

    def _audit_of(self, rows: Rows) -> Rows:
        return rows


class PeerTeam(Team):
    """A team with the same memory, asked by another library's strategy, a whole batch at once."""

    def __init__(
        self, peer: Peer, material: Material, places: Places, pool: Rows, test: Rows, sizes: Sizes, seed: int
    ) -> None:
        super().__init__(material, places, pool, test, sizes, seed, None)
        self.peer, self._queue = peer, pool[:0]
        self._rows = pool
        self._units = Scale.of(places.embeddings).units(places.embeddings[pool])

    def ask(self, told: Told) -> Rows:
        """The next rows of the batch; chosen anew when it is empty."""
        if not len(self._queue):
            labels = self.truth[self._rows]
            combinations = np.where(
                np.isin(self._rows, self.answered), combinations_of(labels, np.ones(labels.shape, bool)), -1
            )
            self._queue = self._rows[self.peer(self._units, combinations, min(self.left, len(self.rest)))]
        rows, self._queue = np.split(self._queue, [self.sizes.refresh])
        return rows


class PaperTeam(Team):
    """The paper's loop: the smallest multi-label margins are asked, the table validates what the network says."""

    def tell(self) -> Told:
        """Ticks by the table; none before the first fine-tune."""
        rows = np.concatenate([self.rest, self.test])
        if self.learner is None or self.probabilities is None:
            return Told(np.zeros((len(rows), self.truth.shape[1]), np.uint8), np.zeros(len(rows)))
        said = self.probabilities[rows]
        labels = ticks(said, self.learner.tables, "table").labels
        return Told(labels, np.where(labels == 1, said, 1 - said).prod(axis=1, dtype=np.float64))

    def ask(self, told: Told) -> Rows:
        """The whole batch, as nothing is learnt in the middle of it."""
        asked = np.zeros(len(self.rest), np.intp)
        rules = Rules("mlm", self.left, 0.0, self.seed, self.batches, "random")
        return np.sort(self.rest[choose(self._pool(), Known(asked), rules).order[: self.left]])
