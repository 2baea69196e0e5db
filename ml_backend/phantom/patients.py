"""Who is examined: the probe, and what all clips of one patient share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Probe:
    """A transducer and the field it shows: `depth`, `radius` of its face (0: linear) and `half_width` of the
    field at the face in mm, `zoom` of the picture (1: the whole depth fits)."""

    depth: float
    radius: float
    half_width: float
    zoom: float = 1.0

    @property
    def kind(self) -> str:
        """`convex` or `linear`, as the column `probe` of a clip table says it."""
        return "convex" if self.radius else "linear"

    def half_width_at(self, depth: float) -> float:
        """Half the width of the field in mm at a depth in mm."""
        return self.half_width * (1 + depth / self.radius) if self.radius else self.half_width


@dataclass(frozen=True)
class Patient:
    """What all clips of a person share: the probe, the depth of the pleural line in mm, gain and dynamic range in dB,
    how fast echoes fade in dB/mm, the breath in seconds, how far lung slides in mm, and the seed of the chest wall."""

    probe: Probe
    pleura: float
    gain: float
    dynamic_range: float
    fading: float
    breath: float
    slide: float
    seed: int


def patient(seed: int, linear: bool = False) -> Patient:
    """A person drawn from a seed, examined with a convex or a linear probe."""
    rng = np.random.default_rng([seed, 1])
    pleura = float(rng.uniform(11, 17) if linear else rng.uniform(12, 24))
    if linear:
        probe = Probe(depth=pleura * rng.uniform(4.0, 5.0), radius=0.0, half_width=float(rng.uniform(25, 31)))
    else:
        depth = float(np.clip(pleura * rng.uniform(4.4, 5.8), 75, 125))
        radius = float(rng.uniform(40, 58))
        probe = Probe(depth, radius, radius * float(rng.uniform(0.46, 0.62)), float(rng.uniform(0.94, 1.15)))
    return Patient(
        probe=probe,
        pleura=pleura,
        gain=float(rng.uniform(-4, 4)),
        dynamic_range=float(rng.uniform(54, 64)),
        fading=float(rng.uniform(0.05, 0.16)),
        breath=float(rng.uniform(3, 5)),
        slide=float(rng.uniform(3, 6)),
        seed=seed,
    )
