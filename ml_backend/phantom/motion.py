"""What moves in a phantom: breath and probe, when a finding is seen on their way, and what one moment shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

VISIBLE = 0.25  # of its full strength; a finding that is fainter is not drawn at all, so that labels are exact
SOFTNESS = 0.7  # of the way, over which a finding appears or disappears
MOST_TAILS = 4
ANYWHERE = (-np.inf, np.inf)

Labels = tuple[int, int, int, int]
Window = tuple[float, float]


@dataclass(frozen=True)
class Swing:
    """A movement to and fro: how far either way (1: all the way), the period in seconds, the phase in radians."""

    reach: float
    period: float
    phase: float

    def at(self, time: float) -> float:
        """The place on the way at a time in seconds, -1 to 1."""
        return self.reach * float(np.sin(2 * np.pi * time / self.period + self.phase))


@dataclass(frozen=True)
class Course:
    """When something is seen: while the breath (-1: out, 1: in) and the probe's place are in their windows; and how
    strongly at most."""

    breath: Window = ANYWHERE
    place: Window = ANYWHERE
    most: float = 1.0

    def strength(self, breath: float, place: float) -> float:
        """How much of it is seen, 0 to 1, rising and falling smoothly at the edges of the windows."""
        return self.most * _inside(breath, self.breath) * _inside(place, self.place)


@dataclass(frozen=True)
class View:
    """What one moment shows: the breath, how far the probe has moved along the pleural line in mm, and how strongly
    each finding is drawn, 0 (not at all) to 1; of effusion above the diaphragm, the share of the field that it takes.
    """

    breath: float
    moved: float
    a_line: float
    tails: tuple[float, ...]
    lesion: float
    effusion: float

    @property
    def labels(self) -> Labels:
        """1 for each symptom of which anything is drawn."""
        a_line, b_line, lesion, effusion = self.a_line, max(self.tails, default=0.0), self.lesion, self.effusion
        return (int(a_line > 0), int(b_line > 0), int(lesion > 0), int(effusion > 0))


def drawn(strength: float, passing: float = 1.0) -> float:
    """The strength to draw: 0 where less than `VISIBLE` would be seen, because only the share `passing` can be."""
    return strength if strength * passing >= VISIBLE else 0.0


def _inside(value: float, window: Window) -> float:
    low, high = window
    share = min((value - low) / SOFTNESS + 0.5, (high - value) / SOFTNESS + 0.5, 1.0)
    return max(share, 0.0) ** 2 * (3 - 2 * max(share, 0.0))
