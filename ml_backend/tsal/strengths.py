"""The table of strengths: the averages of eq. 6, not divided by their sum as in the correlation table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.tsal.arrays import Labels, Probabilities, label_matrix, probability_matrix, require_same_shape
from ml_backend.tsal.correlation import group_means, nearest_rows


@dataclass(frozen=True, eq=False)
class StrengthTable:
    """The average probabilities of the label combinations, as one network gives them.

    The paper divides them by their sum, so that 0.9 and 0.9 look like 0.2 and 0.2; here they are kept. combinations:
    (m, l) uint8; averages: (m, l) in [0, 1]. Raises ValueError for anything else.
    """

    combinations: Labels
    averages: NDArray[np.float64]

    def __post_init__(self) -> None:
        combinations = label_matrix(self.combinations, "combinations")
        averages = probability_matrix(self.averages, "averages").astype(np.float64)
        require_same_shape(combinations, averages, "combinations and averages")
        object.__setattr__(self, "combinations", combinations)
        object.__setattr__(self, "averages", averages)

    @classmethod
    def build(cls, labels: Labels, probabilities: Probabilities) -> StrengthTable:
        """Average the network's probabilities (n, l) over the frames of each confirmed combination in labels (n, l)."""
        return cls(*group_means(labels, probabilities))

    def validate(self, probabilities: Probabilities) -> tuple[Labels, NDArray[np.float64]]:
        """Give each of (n, l) probabilities the combination whose average is nearest by Manhattan distance.

        Returns pseudo-labels (n, l) uint8 and distances (n,) in [0, l]. Raises NotEnoughLabels for an empty table and
        ValueError for unusable probabilities.
        """
        matrix = probability_matrix(probabilities)
        if matrix.shape[1] != self.averages.shape[1]:
            raise ValueError(f"probabilities have {matrix.shape[1]} labels, the table has {self.averages.shape[1]}")
        indices, distances = nearest_rows(matrix, self.averages)
        return self.combinations[indices], distances

    def to_json(self) -> dict[str, Any]:
        """The table as numbers and lists that `json` can write; `from_json` reads it back exactly."""
        return {"combinations": self.combinations.tolist(), "averages": self.averages.tolist()}

    @classmethod
    def from_json(cls, content: Any) -> StrengthTable:
        """Read back what `to_json` gave; ValueError, saying what is wrong, for anything else and for no rows."""
        try:
            return cls(np.array(content["combinations"], np.float64), np.array(content["averages"], np.float64))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"not a table of strengths: {error!r}") from error
