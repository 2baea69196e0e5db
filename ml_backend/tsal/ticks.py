"""Ticks: the pseudo-labels that annotators see as defaults, and the tables that validate them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.tsal.acquisition import margin
from ml_backend.tsal.arrays import Labels, Probabilities
from ml_backend.tsal.correlation import CorrelationTable, build, pick_columns, plain_labels
from ml_backend.tsal.strengths import StrengthTable


@dataclass(frozen=True, eq=False)
class Tables:
    """What one version knows about label combinations: the paper's table, and the one that keeps strengths."""

    correlation: CorrelationTable
    strengths: StrengthTable

    @classmethod
    def empty(cls, label_count: int) -> Tables:
        """The tables before any annotation."""
        nothing = np.zeros((0, label_count))
        return cls(CorrelationTable.empty(label_count), StrengthTable(nothing.astype(np.uint8), nothing))

    def learn(self, labels: Labels, probabilities: Probabilities) -> Tables:
        """The tables after a fine-tune: rule (9) for the correlation table, strengths built anew.

        Combinations that nobody holds any more leave the table. Takes the confirmed labels (n, l) that the new version
        was trained on and its own probabilities (n, l).
        """
        correlation = self.correlation.update(build(labels, probabilities)).only(labels)
        return Tables(correlation, StrengthTable.build(labels, probabilities))

    def relabel(self, columns: Sequence[int | None]) -> Tables:
        """The tables over another label set, as `CorrelationTable.relabel`; no row of the strengths is dropped."""
        rows, averages = self.strengths.combinations, self.strengths.averages
        strengths = StrengthTable(pick_columns(rows, columns), pick_columns(averages, columns))
        return Tables(self.correlation.relabel(columns), strengths)

    @classmethod
    def from_json(cls, table: Any, strengths: Any) -> Tables:
        """Read what the tables' own `to_json` gave; ``strengths`` is empty in versions that did not keep them."""
        correlation = CorrelationTable.from_json(table)
        nothing = cls.empty(correlation.combinations.shape[1])
        return cls(correlation, StrengthTable.from_json(strengths) if strengths else nothing.strengths)


Validator = Callable[[Probabilities, Tables], Labels]

VALIDATORS: Mapping[str, Validator] = {
    "table": lambda probabilities, tables: tables.correlation.validate(probabilities)[0],
    "plain": lambda probabilities, tables: plain_labels(probabilities),
    "strengths": lambda probabilities, tables: tables.strengths.validate(probabilities)[0],
}
"""Every way to a pseudo-label, by the name that settings use."""


@dataclass(frozen=True, eq=False)
class Ticks:
    """Defaults for n frames.

    ``labels`` (n, l) uint8 by the validator; ``distances`` (n,) to the nearest row of the correlation table, in [0, 2];
    ``plain`` (n, l) uint8 by the 0.5 threshold; ``margins`` (n,) the signed multi-label margin of eq. 4.
    """

    labels: Labels
    distances: NDArray[np.float64]
    plain: Labels
    margins: NDArray[np.float64]


def ticks(probabilities: Probabilities, tables: Tables, validator: str) -> Ticks:
    """Give each of n frames its defaults from its probabilities (n, l); NotEnoughLabels where the table is empty."""
    return Ticks(
        labels=VALIDATORS[validator](probabilities, tables),
        distances=tables.correlation.nearest(probabilities)[1],
        plain=plain_labels(probabilities),
        margins=margin(probabilities),
    )
