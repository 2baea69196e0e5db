"""Label stream: the correlation table, and the pseudo-labels it validates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import NotEnoughLabels
from ml_backend.tsal.arrays import Labels, Probabilities, label_matrix, probability_matrix, require_same_shape

_CELLS_AT_ONCE = 2**17


@dataclass(frozen=True, eq=False)
class CorrelationTable:
    """The relationship vectors v_n of the label combinations seen so far (eq. 7).

    combinations: (m, l) uint8, distinct rows in ascending order; vectors: (m, l) float64 in [0, 1], every row summing
    to 1. Both are read-only. Raises ValueError for anything else.
    """

    combinations: Labels
    vectors: NDArray[np.float64]

    def __post_init__(self) -> None:
        combinations = label_matrix(self.combinations, "combinations").copy()
        vectors = probability_matrix(self.vectors, "vectors").astype(np.float64)
        require_same_shape(combinations, vectors, "combinations and vectors")
        if not np.array_equal(combinations, np.unique(combinations, axis=0)):
            raise ValueError("combinations must be distinct and in ascending order")
        if not np.allclose(vectors.sum(axis=1), 1.0, rtol=0.0, atol=1e-6):
            raise ValueError("every one of vectors must sum to 1")
        for name, array in (("combinations", combinations), ("vectors", vectors)):
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.combinations)

    @classmethod
    def empty(cls, label_count: int) -> CorrelationTable:
        """The table before any annotation: no rows, `label_count` >= 2 columns."""
        return cls(np.zeros((0, label_count), dtype=np.uint8), np.zeros((0, label_count)))

    def update(self, fresh: CorrelationTable) -> CorrelationTable:
        """Merge in the table of a newly trained network (eq. 9); neither table changes.

        A fresh vector replaces the old one of its combination z only if v_new . z >= v_old . z. For the empty
        combination both products are 0, so there the fresh one always wins. Combinations in only one table stay.
        Raises ValueError where the tables have different numbers of labels.
        """
        if self.combinations.shape[1] != fresh.combinations.shape[1]:
            raise ValueError(
                f"tables of {self.combinations.shape[1]} and {fresh.combinations.shape[1]} labels cannot be merged"
            )
        merged = {tuple(z): (z, v) for z, v in zip(self.combinations, self.vectors, strict=True)}
        for z, v in zip(fresh.combinations, fresh.vectors, strict=True):
            if tuple(z) not in merged or v @ z >= merged[tuple(z)][1] @ z:
                merged[tuple(z)] = (z, v)
        if not merged:
            return self
        combinations, vectors = zip(*(merged[key] for key in sorted(merged)), strict=True)
        return CorrelationTable(np.array(combinations), np.array(vectors))

    def only(self, labels: Labels) -> CorrelationTable:
        """Keep the rows of the combinations that occur in labels (n, l): nobody holds the others any more."""
        held = {tuple(z) for z in label_matrix(labels).tolist()}
        rows = np.array([tuple(z) in held for z in self.combinations.tolist()], bool)
        return CorrelationTable(self.combinations[rows], self.vectors[rows])

    def relabel(self, columns: Sequence[int | None]) -> CorrelationTable:
        """Give the table the columns of another label set: old column numbers in the new order, None for a new label.

        A new label is 0 in every row. Where a label is gone, vectors are divided by what is left of their sum, a row of
        which nothing is left goes, and of rows that became the same combination the one with the largest v . z stays.
        """
        combinations, vectors = pick_columns(self.combinations, columns), pick_columns(self.vectors, columns)
        sums = vectors.sum(axis=1)
        table = CorrelationTable.empty(len(columns))
        for z, v, total in zip(combinations, vectors, sums, strict=True):
            if total > 0.0:
                table = table.update(CorrelationTable(z[None], v[None] / total))
        return table

    def nearest(self, probabilities: Probabilities) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Find the row of the table nearest to each frame's (n, l) probabilities divided by their sum (eq. 8).

        Returns the rows' indices (n,) and the Manhattan distances (n,) in [0, 2]; the first of equally near rows wins.
        A frame whose probabilities are all 0 has no proportions: it counts as uniform, 1/l each, which is what equally
        small probabilities tend to. Raises NotEnoughLabels for an empty table and ValueError for unusable
        probabilities.
        """
        matrix = probability_matrix(probabilities)
        if matrix.shape[1] != self.vectors.shape[1]:
            raise ValueError(f"probabilities have {matrix.shape[1]} labels, the table has {self.vectors.shape[1]}")
        return nearest_rows(matrix, self.vectors, _proportions)

    def validate(self, probabilities: Probabilities) -> tuple[Labels, NDArray[np.float64]]:
        """Confidence validation: each frame's pseudo-label is the combination of its nearest row.

        Takes (n, l) probabilities; returns pseudo-labels (n, l) uint8 and distances (n,), errors as `nearest`.
        """
        indices, distances = self.nearest(probabilities)
        return self.combinations[indices], distances

    def to_json(self) -> dict[str, Any]:
        """The table as numbers and lists that `json` can write; `from_json` reads it back exactly."""
        return {
            "label_count": self.combinations.shape[1],
            "combinations": self.combinations.tolist(),
            "vectors": self.vectors.tolist(),
        }

    @classmethod
    def from_json(cls, content: Any) -> CorrelationTable:
        """Read back what `to_json` gave; ValueError, saying what is wrong, for anything else."""
        try:
            columns = int(content["label_count"])
            combinations, vectors = (
                np.array(content[name], dtype=np.float64) if content[name] != [] else np.zeros((0, columns))
                for name in ("combinations", "vectors")
            )
            table = cls(combinations, vectors)  # type: ignore[arg-type]  # checked and converted on construction
        except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"not a correlation table: {error!r}") from error
        if table.combinations.shape[1] != columns:
            raise ValueError(f"not a correlation table: {columns} labels and rows of {table.combinations.shape[1]}")
        return table


def nearest_rows(
    matrix: Probabilities, rows: NDArray[np.float64], prepare: Callable[[NDArray[np.float64]], None] | None = None
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Find the nearest of ``rows`` (m, l) to each row of ``matrix`` (n, l) by Manhattan distance.

    ``prepare`` changes a piece of the matrix, turned to (l, pieces), before it is compared. Returns indices (n,) and
    distances (n,); the first of equally near rows wins. Raises NotEnoughLabels where there are no rows.
    """
    if not len(rows):
        raise NotEnoughLabels("the correlation table is empty: confirm annotations and fine-tune first")
    indices = np.empty(len(matrix), dtype=np.intp)
    distances = np.empty(len(matrix))
    step = max(1, _CELLS_AT_ONCE // len(rows))
    for start in range(0, len(matrix), step):
        by_label = matrix[start : start + step].T.astype(np.float64)
        if prepare is not None:
            prepare(by_label)
        to_rows = np.zeros((len(rows), by_label.shape[1]))
        for values, column in zip(by_label, rows.T, strict=True):
            to_rows += np.abs(values - column[:, None])
        indices[start : start + step] = to_rows.argmin(axis=0)
        distances[start : start + step] = to_rows.min(axis=0)
    return indices, distances


def countable(labels: Labels, known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell which of n frames build the tables, where some labels (n, l) are not ``known`` (n, l).

    A frame whose combination is known in full does. Another one does, with 0 for what is unknown, only where no fully
    known frame shares what is known of it: its row then keeps the ticks of the labels that stayed and offers none for
    the new one, and makes way as soon as somebody has said what the combination is.
    """
    truth = label_matrix(labels)
    require_same_shape(truth, known, "labels and known")
    full = np.asarray(known.all(axis=1))
    counts: NDArray[np.bool_] = full.copy()
    for row in np.flatnonzero(~full):
        columns = known[row]
        counts[row] = not bool((truth[full][:, columns] == truth[row, columns]).all(axis=1).any())
    return counts


def pick_columns(matrix: NDArray[Any], columns: Sequence[int | None]) -> NDArray[Any]:
    """Return the columns of a matrix by number, zeros for None."""
    picked = np.zeros((len(matrix), len(columns)), matrix.dtype)
    for place, column in enumerate(columns):
        if column is not None:
            picked[:, place] = matrix[:, column]
    return picked


def group_means(labels: Labels, probabilities: Probabilities) -> tuple[Labels, NDArray[np.float64]]:
    """Average the probabilities (n, l) of the frames of each label combination (eq. 5 and 6).

    Returns the combinations (m, l) in ascending order and their averages (m, l). Raises ValueError for matrices of
    different shapes or unusable values.
    """
    truth = label_matrix(labels)
    matrix = probability_matrix(probabilities)
    require_same_shape(truth, matrix, "labels and probabilities")
    combinations, group, counts = np.unique(truth, axis=0, return_inverse=True, return_counts=True)
    sums = np.zeros(combinations.shape)
    np.add.at(sums, group.reshape(-1), matrix)
    return combinations, sums / counts[:, None]


def _proportions(by_label: NDArray[np.float64]) -> None:
    """Divide every frame's probabilities, a column each, by their sum; a frame without any counts as uniform."""
    sums = by_label.sum(axis=0)
    by_label[:, sums == 0.0] = 1.0
    sums[sums == 0.0] = len(by_label)
    by_label /= sums


def build(labels: Labels, probabilities: Probabilities) -> CorrelationTable:
    """Build the table of one network from the labelled frames (eq. 5 to 7).

    Takes the confirmed labels (n, l) and the network's probabilities (n, l) for the same frames: groups the frames by
    combination, averages each group and divides the average by its sum. Rows come in ascending order of the
    combination; a group whose average is 0 everywhere has no proportions and gets no row. Raises ValueError for
    matrices of different shapes or unusable values.
    """
    combinations, means = group_means(labels, probabilities)
    totals = means.sum(axis=1)
    seen = totals > 0.0
    return CorrelationTable(combinations[seen], means[seen] / totals[seen, None])


def plain_labels(probabilities: Probabilities, threshold: float = 0.5) -> Labels:
    """Plain pseudo-labels (n, l) uint8, the baseline: every label whose probability is above the threshold."""
    return (probability_matrix(probabilities) > threshold).astype(np.uint8)
