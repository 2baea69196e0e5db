"""The memory of confirmed frames: a frame's label combination is that of the confirmed frame most like it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml_backend.tsal.arrays import Labels, label_matrix, require_same_shape
from ml_backend.tsal.likeness import NO_TRUST, Likeness, Places, Scale, Similarity, Trust, likeness
from ml_backend.tsal.linear import Linear

Rows = NDArray[np.intp]
NOTHING = -1
TRUSTS = (
    Trust(0.5, 0.5),
    Trust(2.0, 0.5),
    Trust(0.0, 0.5),
    NO_TRUST,
    Trust(0.5, 0.5, 0.1),
    Trust(0.0, 0.0, 0.1),
    Trust(0.0, 0.0, 1.0),
)
"""What may be believed of nearness within a clip, and of looks; the first until audit frames show that another serves
better."""


@dataclass(frozen=True, eq=False)
class Remembered:
    """The m confirmed frames: where they come from, and their labels.

    ``labels`` (m, l) of 0 and 1; ``known`` (m, l) booleans, False for a symptom that came after the annotation.
    """

    places: Places
    labels: Labels
    known: NDArray[np.bool_]

    def __post_init__(self) -> None:
        labels = label_matrix(self.labels)
        require_same_shape(labels, self.known, "labels and known")
        if len(labels) != len(self.places):
            raise ValueError(f"{len(labels)} rows of labels for {len(self.places)} frames")
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, rows: Rows | slice | NDArray[np.bool_]) -> Remembered:
        kept = np.arange(len(self))[rows]
        return Remembered(self.places[kept], self.labels[kept], self.known[kept])


class Nearest:
    """For each of n frames, the remembered frame most like it, kept up to date as frames are added.

    ``row`` (n,): which remembered frame, counted over all that were added, `NOTHING` while there is none;
    ``similarity`` (n,): how alike it is; ``rival`` (n,): how alike the nearest one of any other combination is; both
    -inf where there is none. Of equally similar ones the first that was added counts.
    """

    def __init__(self, count: int) -> None:
        self.row: Rows = np.full(count, NOTHING, np.intp)
        self.similarity: Similarity = np.full(count, -np.inf, np.float32)
        self.rival: Similarity = np.full(count, -np.inf, np.float32)
        self._combination: Rows = np.full(count, NOTHING, np.intp)
        self._count = 0

    def add(
        self,
        pool: Places,
        added: Places,
        combinations: Rows,
        scale: Scale,
        trust: Trust,
        linear: Linear | None = None,
    ) -> None:
        """Remember more frames; ``combinations`` (m,) are integers from 0, one for each label combination.

        Costs n x m comparisons: what was remembered earlier is not looked at again. With ``linear``, fitted to the
        frames ``added``, looks count as ``trust`` says.
        """
        if not len(added):
            return
        like = Likeness(added, scale, trust)
        for rows, part in pool.chunks():
            alike = like(part)
            if linear is not None:
                alike -= trust.looks * linear.against(linear.said(scale.units(part.embeddings)))
            self.compare(rows, alike, combinations)
        self._count += len(added)

    def compare(self, rows: slice, alike: Similarity, combinations: Rows) -> None:
        """Take in how ``alike`` (k, m) the k frames of ``rows`` are to the next m remembered ones; -inf: not at all."""
        best, rival = self.similarity[rows], self.rival[rows]
        combination, row = self._combination[rows], self.row[rows]
        for one in np.unique(combinations):
            members = np.flatnonzero(combinations == one)
            of_one = alike[:, members]
            place = of_one.argmax(axis=1)
            found = of_one[np.arange(len(of_one)), place]
            nearer, same = found > best, combination == one
            overtaken = nearer & ~same
            rival[overtaken] = best[overtaken]
            behind = ~nearer & ~same
            rival[behind] = np.maximum(rival[behind], found[behind])
            best[nearer], combination[nearer] = found[nearer], one
            row[nearer] = self._count + members[place[nearer]]

    @property
    def margin(self) -> Similarity:
        """How much nearer the nearest frame is than any of another combination, (n,); inf where there is no other.

        0 where nothing is remembered.
        """
        with np.errstate(invalid="ignore"):
            return np.where(self.row == NOTHING, np.float32(0), self.similarity - self.rival)


@dataclass(frozen=True, eq=False)
class Recall:
    """What the memory says of n frames.

    ``labels`` (n, l) and ``known`` (n, l): those of the nearest remembered frame; ``row`` (n,), ``similarity`` (n,) and
    ``margin`` (n,) as in `Nearest`.
    """

    labels: Labels
    known: NDArray[np.bool_]
    row: Rows
    similarity: Similarity
    margin: Similarity

    def __getitem__(self, rows: Rows | slice) -> Recall:
        return Recall(self.labels[rows], self.known[rows], self.row[rows], self.similarity[rows], self.margin[rows])


def combinations_of(labels: Labels, known: NDArray[np.bool_]) -> Rows:
    """Number the label combinations of m frames, (m,); a symptom that is not known makes a combination of its own."""
    if not len(labels):
        return np.empty(0, np.intp)
    values = np.where(known, labels, 2)
    numbers: Rows = np.unique(values, axis=0, return_inverse=True)[1].reshape(-1).astype(np.intp)
    return numbers


def recall(pool: Places, remembered: Remembered, scale: Scale, trust: Trust) -> Recall:
    """What the memory says of every frame of a pool; nothing is known where nothing is remembered."""
    nearest, linear = Nearest(len(pool)), fitted(remembered, scale) if trust.looks and len(remembered) else None
    numbers = combinations_of(remembered.labels, remembered.known)
    nearest.add(pool, remembered.places, numbers, scale, trust, linear)
    return recalled(nearest, remembered)


def fitted(remembered: Remembered, scale: Scale) -> Linear:
    """A linear model of the confirmed frames."""
    return Linear.fit(scale.units(remembered.places.embeddings), remembered.labels, remembered.known)


def recalled(nearest: Nearest, remembered: Remembered) -> Recall:
    """The labels of the nearest frames."""
    if not len(remembered):
        nothing = np.zeros((len(nearest.row), remembered.labels.shape[1]), np.uint8)
        return Recall(nothing, nothing.astype(bool), nearest.row, nearest.similarity, nearest.margin)
    labels, known = remembered.labels[nearest.row], remembered.known[nearest.row]
    return Recall(labels, known, nearest.row, nearest.similarity, nearest.margin)


def recall_others(
    remembered: Remembered, asked: Rows, scale: Scale, trust: Trust, linear: Linear | None = None
) -> Recall:
    """What the memory of all *other* confirmed frames says of those in the rows ``asked``: as if they were unknown.

    ``linear``: the model of all confirmed frames, where it is fitted already.
    """
    numbers = combinations_of(remembered.labels, remembered.known)
    alike = likeness(remembered.places[asked], remembered.places, scale, trust)
    if trust.looks and len(asked):
        linear = linear or fitted(remembered, scale)
        alike -= trust.looks * linear.against(linear.others[asked])
    alike[np.arange(len(asked)), asked] = -np.inf
    nearest = Nearest(len(asked))
    nearest.compare(slice(None), alike, numbers)
    return recalled(nearest, remembered)


def learnt_trust(remembered: Remembered, audited: Rows, scale: Scale) -> Trust:
    """How far nearness within a clip, and looks, may be believed: what would have labelled most audit frames rightly.

    ``audited`` are the rows of the confirmed frames that an audit drew: a uniform sample, so the share that the memory
    of the others has right is that of the pool. In one data set symptoms come and go within a clip, in another they
    don't. The earlier of `TRUSTS` wins a tie.
    """
    if not len(audited) or len(remembered) < 2:
        return TRUSTS[0]
    truth, known, linear = remembered.labels[audited], remembered.known[audited], fitted(remembered, scale)

    def right(trust: Trust) -> int:
        found = recall_others(remembered, audited, scale, trust, linear)
        return int((((found.labels == truth) | ~known) & (found.known | ~known)).all(axis=1).sum())

    return max(TRUSTS, key=right)
