"""The label set of a project, and label combinations as 0/1 vectors over it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ml_backend.errors import ConfigurationUnusable, UnknownLabel
from ml_backend.tsal.arrays import Labels, label_matrix


@dataclass(frozen=True)
class LabelSet:
    """The l symptoms of a labelling configuration, in its order; the first one means a healthy lung.

    Raises ConfigurationUnusable for fewer than two names, a blank name or a name that occurs twice.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        if len(self.names) < 2:
            raise ConfigurationUnusable(
                f"the labelling configuration needs at least 2 choices, the healthy one first; it has {len(self.names)}"
            )
        if any(not name.strip() for name in self.names):
            raise ConfigurationUnusable("the labelling configuration has a choice without a name; give it one")
        repeated = sorted({name for name in self.names if self.names.count(name) > 1})
        if repeated:
            raise ConfigurationUnusable(f"choices must differ; rename the repeated ones: {', '.join(repeated)}")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def healthy(self) -> str:
        """The label that means a healthy lung."""
        return self.names[0]

    def encode(self, chosen: Iterable[str]) -> Labels:
        """Turn label names, in any order, into their combination, a (l,) uint8 vector of 0 and 1.

        Raises UnknownLabel for a name outside the set.
        """
        vector = np.zeros(len(self), dtype=np.uint8)
        for name in chosen:
            if name not in self.names:
                raise UnknownLabel(f"unknown label {name!r}; the configuration allows {', '.join(self.names)}")
            vector[self.names.index(name)] = 1
        return vector

    def decode(self, vector: ArrayLike) -> list[str]:
        """Turn a (l,) combination of 0 and 1 into its label names, in the set's order; ValueError for anything else."""
        return [name for name, present in zip(self.names, self._checked(vector), strict=True) if present]

    def _checked(self, vector: ArrayLike) -> Labels:
        row: Labels = label_matrix(np.asarray(vector)[None], "the combination")[0]
        if len(row) != len(self):
            raise ValueError(f"the combination has {len(row)} entries, the label set has {len(self)}")
        return row


def columns_of(names: Sequence[str], others: Sequence[str]) -> list[int | None]:
    """Return for each of ``names`` its place among ``others``, None where it is not there."""
    places = {name: place for place, name in enumerate(others)}
    return [places.get(name) for name in names]


def shared_of(columns: Sequence[int | None]) -> list[int]:
    """Return the places of ``columns``, as `columns_of` gives them, that are not None: what both label sets have."""
    return [place for place, column in enumerate(columns) if column is not None]
