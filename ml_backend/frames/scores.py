"""What a version says of frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from ml_backend.settings import Settings
from ml_backend.store.versions import Manifest


def validator_of(settings: Settings, manifest: Manifest) -> str:
    """The validator that pseudo-labels of a version come from: the one set, or the version's own choice.

    The paper's table for a version from before there was a choice, or from before there were strengths to use.
    """
    name: str = settings.validator
    if name == "memory":
        name = "table"  # what the network says for itself; the memory is asked where there is a queue
    if name == "adaptive":
        name = manifest.choice.get("validator", "table")
    return "table" if name == "strengths" and not manifest.strengths else name


@dataclass(frozen=True)
class Scores:
    """What a version says of some frames, row by row.

    ``tasks`` (n,) int64; ``probabilities`` (n, l) float32 in [0, 1]; ``labels`` (n, l) uint8 the pseudo-label by the
    validator that is set; ``distances`` (n,) Manhattan distance to the nearest row of the correlation table; ``plain``
    (n, l) uint8 the label by the 0.5 threshold; ``margins`` (n,) the signed multi-label margin of eq. 4; ``unreadable``
    {task: reason}.
    """

    tasks: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    labels: NDArray[np.uint8]
    distances: NDArray[np.float64]
    plain: NDArray[np.uint8]
    margins: NDArray[np.float64]
    unreadable: dict[int, str] = field(default_factory=dict)


def concatenate(pieces: Sequence[Scores], label_count: int) -> Scores:
    """Join pieces of scores into one."""
    nothing = np.zeros((0, label_count))
    empty = Scores(
        np.zeros(0, np.int64),
        nothing.astype(np.float32),
        nothing.astype(np.uint8),
        np.zeros(0),
        nothing.astype(np.uint8),
        np.zeros(0),
    )
    names = [one.name for one in fields(Scores) if one.name != "unreadable"]
    joined = {name: np.concatenate([getattr(piece, name) for piece in [empty, *pieces]]) for name in names}
    return Scores(**joined, unreadable={task: reason for piece in pieces for task, reason in piece.unreadable.items()})
