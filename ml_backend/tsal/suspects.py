"""Suspects: confirmed frames whose labels the other confirmed frames, and the network, contradict strongly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.tsal.arrays import require_same_shape
from ml_backend.tsal.likeness import Places, Rows, Scale, Similarity, Trust, likeness
from ml_backend.tsal.memory import Remembered

NEIGHBOURS = 10
"""How many of the most similar frames vote on a frame's labels. They outvote a single wrong label."""

STRONG = 2 / 3
"""A label is contradicted where more than this share of the evidence is against it: two to one."""

_FADES = 0.2  # evidence falls to 1/e for so much less likeness
_UNDECIDED = 0.1  # evidence for either side that is there before anything is known, in frames that are exact copies
_NETWORK = 0.3  # it learnt from the very labels that it is asked about, so it repeats some of the wrong ones
_SMALLEST_PROBABILITY = 0.01
_AT_ONCE = 1024
Evidence = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Suspects:
    """The k confirmed frames that are contradicted in some symptom, the most strongly contradicted first.

    ``rows`` (k,) of the confirmed frames; ``strength`` (k,) in [0, 1]; ``memory`` (k, l) and ``network`` (k, l) in
    [0, 1]: the share of the other frames' evidence, and the network's probability, against each confirmed label,
    ``network`` NaN where it does not know the symptom; ``contradicted`` (k, l): where ``memory`` is above `STRONG`;
    ``witnesses`` for each frame, the rows of the nearest frames that differ in these, the nearest first.
    """

    rows: Rows
    strength: Evidence
    memory: Evidence
    network: Evidence
    contradicted: NDArray[np.bool_]
    witnesses: tuple[Rows, ...]

    def __len__(self) -> int:
        return len(self.rows)


def suspects(
    remembered: Remembered, probabilities: NDArray[np.floating[Any]] | None, scale: Scale, trust: Trust
) -> Suspects:
    """Find the confirmed frames that all others, and the network, contradict.

    ``probabilities`` (m, l) are the network's for the m confirmed frames, NaN for a symptom it does not know; None
    without a network. A symptom that an annotation says nothing of is neither contradicted nor evidence.
    """
    near, alike = nearest_others(remembered.places, scale, trust)
    memory = contradiction(remembered, near, alike, trust)
    network = np.full(memory.shape, np.nan)
    if probabilities is not None:
        require_same_shape(memory, probabilities, "labels and probabilities")
        against = np.where(remembered.labels == 1, 1.0 - probabilities, probabilities)
        network = np.where(remembered.known, against, np.nan)
    strength = strength_of(memory, network)
    contradicted = memory > STRONG
    strongest = np.where(contradicted, strength, 0.0).max(axis=1, initial=0.0)
    rows: Rows = np.flatnonzero(contradicted.any(axis=1)).astype(np.intp)
    rows = rows[np.argsort(-strongest[rows], kind="stable")]
    witnesses = tuple(_witnesses(remembered, row, near[row], contradicted[row]) for row in rows.tolist())
    return Suspects(rows, strongest[rows], memory[rows], network[rows], contradicted[rows], witnesses)


def nearest_others(places: Places, scale: Scale, trust: Trust) -> tuple[Rows, Similarity]:
    """Find the `NEIGHBOURS` frames most like each of m frames: their rows and how alike they are, both (m, k).

    The most similar comes first, of equally similar ones the earlier row; k is less where there are fewer others. Which
    of equally similar ones are left out is not defined.
    """
    count = max(0, min(NEIGHBOURS, len(places) - 1))
    rows, found = np.empty((len(places), count), np.intp), np.empty((len(places), count), np.float32)
    for start in range(0, len(places), _AT_ONCE):
        some = slice(start, min(start + _AT_ONCE, len(places)))
        alike = likeness(places[some], places, scale, trust)
        alike[np.arange(len(alike)), np.arange(some.start, some.stop)] = -np.inf
        best = np.sort(np.argpartition(-alike, count, axis=1)[:, :count], axis=1)
        likest = np.take_along_axis(alike, best, axis=1)
        order = np.argsort(-likest, axis=1, kind="stable")
        rows[some], found[some] = np.take_along_axis(best, order, axis=1), np.take_along_axis(likest, order, axis=1)
    return rows, found


def contradiction(remembered: Remembered, near: Rows, alike: Similarity, trust: Trust) -> Evidence:
    """Weigh the evidence against each confirmed label: (m, l) in [0, 1], 0.5 where there is none.

    ``near`` (m, k) and ``alike`` (m, k) as `nearest_others` gives them. A wrong label also counts against its
    neighbours, but other frames support them. So every frame is judged twice, and the second time each neighbour counts
    only as far as its own label was believed the first time.
    """
    weights = np.exp((alike - (1.0 + trust.clip + trust.time)) / _FADES).astype(np.float64)
    heard = remembered.known[near] & remembered.known[:, None, :]
    differs = remembered.labels[near] != remembered.labels[:, None, :]
    against = np.full(remembered.labels.shape, 0.5)
    believed = np.ones(len(remembered))
    for _ in range(2):
        evidence = (weights * believed[near])[:, :, None] * heard
        against = ((evidence * differs).sum(axis=1) + _UNDECIDED) / (evidence.sum(axis=1) + 2 * _UNDECIDED)
        believed = 1.0 - against.max(axis=1, initial=0.0)
    return against


def strength_of(memory: Evidence, network: Evidence) -> Evidence:
    """How strongly both contradict each label, (m, l) in [0, 1]; where the network is NaN, the memory alone."""
    word = np.where(np.isnan(network), 1.0, np.maximum(network, _SMALLEST_PROBABILITY))
    strength: Evidence = memory * word**_NETWORK
    return strength


def _witnesses(remembered: Remembered, row: int, near: Rows, contradicted: NDArray[np.bool_]) -> Rows:
    """The frames ``near`` (k,) a frame that differ from it in a contradicted symptom."""
    differs: NDArray[np.bool_] = (remembered.labels[near] != remembered.labels[row]) & remembered.known[near]
    witnesses: Rows = near[(differs & contradicted).any(axis=1)]
    return witnesses
