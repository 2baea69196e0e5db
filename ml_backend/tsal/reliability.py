"""What the audit shows: how often ticks are right, how well their confidence fits, and how far they sway people.

An audit draws frames uniformly from the pool, so its frames are a fair sample, however alike the pool's frames are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.tsal.intervals import Interval, newcombe, wilson

BINS = 10
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Share:
    """So many of so many frames."""

    count: int
    frames: int

    @property
    def value(self) -> float | None:
        """The share, in [0, 1]; None without frames."""
        return self.count / self.frames if self.frames else None

    @property
    def interval(self) -> Interval:
        """Its 95% interval (Wilson)."""
        return wilson(self.count, self.frames)

    @classmethod
    def of(cls, flags: Flags) -> Share:
        """The share of true ``flags`` (n,)."""
        return cls(int(flags.sum()), len(flags))

    def to_json(self) -> dict[str, Any]:
        """The share as numbers that `json` can write."""
        return {"count": self.count, "frames": self.frames, "value": self.value, **self.interval._asdict()}


@dataclass(frozen=True)
class Bias:
    """How often ticks were changed where they were ``shown``, and would have been where they were ``hidden``."""

    shown: Share
    hidden: Share

    @property
    def value(self) -> float | None:
        """The automation bias in [-1, 1]: the share of ticks that stand because people saw them; None without both."""
        if self.shown.value is None or self.hidden.value is None:
            return None
        return self.hidden.value - self.shown.value

    @property
    def interval(self) -> Interval:
        """Its 95% interval (Newcombe)."""
        return newcombe((self.hidden.count, self.hidden.frames), (self.shown.count, self.shown.frames))

    def to_json(self) -> dict[str, Any]:
        """The bias as numbers that `json` can write."""
        ends = self.interval._asdict()
        return {"shown": self.shown.to_json(), "hidden": self.hidden.to_json(), "value": self.value, **ends}


@dataclass(frozen=True)
class Bin:
    """The frames whose confidence lies in one of `BINS` equal parts of [0, 1], the ``place``-th from 0."""

    place: int
    confidence: float
    right: Share

    def to_json(self) -> dict[str, Any]:
        """The bin as numbers that `json` can write."""
        ends = {"from": self.place / BINS, "to": (self.place + 1) / BINS}
        return ends | {"mean_confidence": self.confidence, "right": self.right.to_json()}


def reliability(confidence: NDArray[np.floating[Any]], right: Flags) -> tuple[Bin, ...]:
    """Sort frames by their confidence (n,) in [0, 1] into bins, those without frames left out; 1 is in the last one."""
    bins = np.minimum((np.asarray(confidence) * BINS).astype(np.intp), BINS - 1)
    return tuple(
        Bin(one, float(confidence[bins == one].mean()), Share.of(right[bins == one]))
        for one in np.unique(bins).tolist()
    )


def calibration_error(bins: Sequence[Bin]) -> float | None:
    """Average distance between mean confidence and share right over the bins, by their frames; None without frames."""
    frames = sum(one.right.frames for one in bins)
    apart = sum(abs(one.confidence * one.right.frames - one.right.count) for one in bins)
    return apart / frames if frames else None


@dataclass(frozen=True)
class AuditReport:
    """What the answered audit frames of a project say.

    ``frames`` of so many ``patients``; ``right``: those whose answer has exactly the ticks, also by ``sources``;
    ``symptoms``: those whose answer on this symptom is what was ticked.
    """

    frames: int
    patients: int
    right: Share
    bias: Bias
    bins: tuple[Bin, ...]
    sources: Mapping[str, Share]
    symptoms: Mapping[str, Share]

    @property
    def calibration_error(self) -> float | None:
        """Expected calibration error of the confidence, in [0, 1]; None without frames."""
        return calibration_error(self.bins)

    @classmethod
    def of(
        cls,
        right: Flags,
        confidence: NDArray[np.floating[Any]],
        blind: Flags,
        sources: Sequence[str],
        patients: Sequence[str],
        symptoms: Mapping[str, Share],
    ) -> AuditReport:
        """Report on n answered frames.

        ``right`` (n,): whether the answer has exactly the symptoms that were ticked; ``confidence`` (n,) of the ticks;
        ``blind`` (n,): asked without them; ``sources``: whose ticks they are, empty where that is not known;
        ``patients``: of each frame; ``symptoms``: the share right of each.
        """
        of_frame = np.array(sources, object)
        return cls(
            len(right),
            len(set(patients)),
            Share.of(right),
            Bias(Share.of(~right[~blind]), Share.of(~right[blind])),
            reliability(confidence, right),
            {one: Share.of(right[of_frame == one]) for one in sorted({*sources} - {""})},
            symptoms,
        )

    def to_json(self) -> dict[str, Any]:
        """The report as names, numbers and lists that `json` can write."""
        return {
            "frames": self.frames,
            "patients": self.patients,
            "right": self.right.to_json(),
            "automation_bias": self.bias.to_json(),
            "reliability": [one.to_json() for one in self.bins],
            "calibration_error": self.calibration_error,
            "sources": {name: share.to_json() for name, share in self.sources.items()},
            "symptoms": {name: share.to_json() for name, share in self.symptoms.items()},
        }
