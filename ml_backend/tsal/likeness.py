"""How alike two frames are: what they look like, and whether they are near each other in the same clip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.intp]
Similarity = NDArray[np.float32]

TIME_SECONDS = 2.0
"""How far apart in its clip a frame's neighbours still count: nearness in time falls to 1/e after so many seconds."""

_SCALED_ROWS = 10_000  # enough to know the mean and deviation of each column
_CHUNK = 1024  # rows of 512 numbers that fit a processor's cache: twice as fast as 8,192


@dataclass(frozen=True, eq=False)
class Places:
    """Where n frames come from.

    ``embeddings`` (n, d) any floating type, a memory map too; ``clips`` (n,) integers: a frame whose clip is not known
    has a number of its own; ``times`` (n,) seconds within the clip, NaN where they are not known. Raises ValueError for
    other shapes.
    """

    embeddings: NDArray[np.floating[Any]]
    clips: NDArray[np.intp]
    times: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.embeddings.ndim != 2 or not len(self.embeddings) == len(self.clips) == len(self.times):
            raise ValueError(
                f"{self.embeddings.shape} embeddings, {len(self.clips)} clips and {len(self.times)} times do not match"
            )

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, rows: Rows | slice) -> Places:
        return Places(self.embeddings[rows], self.clips[rows], self.times[rows])

    def chunks(self) -> Iterator[tuple[slice, Places]]:
        """The frames in pieces that fit a processor's cache, each with its rows."""
        for start in range(0, len(self), _CHUNK):
            rows = slice(start, min(start + _CHUNK, len(self)))
            yield rows, self[rows]


@dataclass(frozen=True)
class Trust:
    """What counts beside likeness, which lies in [-1, 1].

    ``clip`` is added for every two frames of a clip, ``time`` for two frames of the same moment, and less of it the
    more seconds lie between them. ``looks`` is what the linear model counts for in the memory: two frames are not alike
    where the look of one speaks against the labels of the other.
    """

    clip: float
    time: float
    looks: float = 0.0


NO_TRUST = Trust(0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Scale:
    """Gives every column of the embeddings the same weight: mean and inverse deviation (d,) over the pool."""

    mean: NDArray[np.float32]
    factor: NDArray[np.float32]

    @classmethod
    def of(cls, embeddings: NDArray[np.floating[Any]]) -> Scale:
        """Measure the columns on rows evenly spread over the pool; a column that never varies gets no weight.

        Raises ValueError for embeddings that are not finite.
        """
        step = max(1, len(embeddings) // _SCALED_ROWS)
        rows = np.asarray(embeddings[::step], np.float32)
        if not np.isfinite(rows).all():
            raise ValueError("embeddings must be finite")
        if not len(rows):
            return cls(np.zeros(rows.shape[1], np.float32), np.zeros(rows.shape[1], np.float32))
        mean, deviation = rows.mean(axis=0), rows.std(axis=0)
        varies = deviation > 1e-6 * max(1.0, float(np.abs(rows).max()))
        factor = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=varies)
        return cls(mean, factor)

    def units(self, embeddings: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Embeddings (n, d) as directions of length 1; a row without any direction stays zero."""
        rows = np.array(embeddings, np.float32)
        rows -= self.mean
        rows *= self.factor
        lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
        if not np.isfinite(lengths).all():
            raise ValueError("embeddings must be finite")
        rows /= np.where(lengths == 0.0, 1.0, lengths)[:, None]
        return rows


class Likeness:
    """How alike frames are to the same m others, prepared once for any number of frames.

    How alike two frames are: the cosine of their scaled embeddings, and for frames of the same clip ``trust.clip`` +
    ``trust.time`` exp(-|seconds apart| / `TIME_SECONDS`).
    """

    def __init__(self, others: Places, scale: Scale, trust: Trust) -> None:
        self._scale, self._trust, self._times = scale, trust, others.times
        self._directions = scale.units(others.embeddings).T
        self._by_clip = np.argsort(others.clips, kind="stable")
        self._clips = others.clips[self._by_clip]

    def __call__(self, frames: Places) -> Similarity:
        """Return how alike each of n frames is to each of the others: (n, m) float32."""
        alike: Similarity = self._scale.units(frames.embeddings) @ self._directions
        if not (self._trust.clip or self._trust.time):
            return alike
        rows, columns = self._of_same_clip(frames)
        apart = np.abs(frames.times[rows] - self._times[columns])
        near = np.where(np.isnan(apart), 0.0, np.exp(-np.nan_to_num(apart) / TIME_SECONDS))
        alike[rows, columns] += (self._trust.clip + self._trust.time * near).astype(np.float32)
        return alike

    def _of_same_clip(self, frames: Places) -> tuple[Rows, Rows]:
        """Every pair of a frame and another of its clip, without comparing each with each: rows and columns."""
        first = np.searchsorted(self._clips, frames.clips, "left")
        counts = np.searchsorted(self._clips, frames.clips, "right") - first
        rows = np.repeat(np.arange(len(frames)), counts)
        before = np.repeat(counts.cumsum() - counts, counts)
        return rows, self._by_clip[np.arange(len(rows)) - before + first[rows]]


def likeness(first: Places, second: Places, scale: Scale, trust: Trust) -> Similarity:
    """How alike each of n frames is to each of m others: (n, m) float32, as `Likeness` says."""
    return Likeness(second, scale, trust)(first)
