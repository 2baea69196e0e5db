"""A data set as it is exported: the rows, and what is to be said of them."""

from __future__ import annotations

from dataclasses import dataclass

from ml_backend.export.gather import Gathered
from ml_backend.export.rows import Only, Rows


@dataclass(frozen=True)
class Dataset:
    """What is written.

    ``about``: what was read of the project; ``copied``: whether the pictures are in the folder; ``hold_out`` and
    ``seed``: the settings that the split follows from; ``licence``: what the team says of it, or empty.
    """

    project: int
    about: Gathered
    rows: Rows
    only: Only
    formats: tuple[str, ...]
    copied: bool
    hold_out: float
    seed: int
    licence: str = ""

    @property
    def symptoms(self) -> tuple[str, ...]:
        """The names of the symptoms, the healthy one first."""
        return self.about.symptoms
