"""What can be seen in a phantom: ribs, A-lines, B-lines, pleural lesions and effusions, as echo power in beam space.

Depths `z` and lateral positions `x` are in millimetres; `x` is measured along the pleural line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ml_backend.phantom import fields
from ml_backend.phantom.fields import Array
from ml_backend.phantom.patients import Patient


@dataclass(frozen=True)
class Window:
    """The part of the field between two ribs through which the lung is seen: its middle and half width in mm."""

    centre: float
    half: float

    def profile(self, x: Array, narrowing: float = 1.0) -> Array:
        """How much of the beam passes, 0 to 1."""
        return fields.single(np.exp(-0.5 * (np.abs(x - self.centre) / (0.8 * self.half * narrowing)) ** 4))


@dataclass(frozen=True)
class Rib:
    """A rib: where its top lies and half its width in mm."""

    centre: float
    top: float
    half: float

    def over(self, x: Array) -> Array:
        """Which beams the rib stops (1, beams), 0 to 1."""
        return fields.step((1 - np.abs(x - self.centre) / self.half) * self.half, 0.5)

    def cover(self, diffuse: Array, bright: Array, z: Array, x: Array, breath: float) -> tuple[Array, Array]:
        """Shadow what lies below the rib and draw its bright cap."""
        away = np.abs(x - self.centre) / self.half
        surface = self.top + 2.2 * away**2 + 0.5 * breath
        over = self.over(x)
        shadow = over * fields.step(z - surface, 0.5)
        passing = 1 - 0.99997 * shadow
        cap = fields.line(z - surface, 0.3, 0.9) * fields.power(-12 - 10 * away**2) * over
        return diffuse * passing + 0.3 * cap, bright * passing + 0.7 * cap


class Reverberation:
    """A-lines: echoes of the pleural line at every multiple of its depth, each fainter, thicker and narrower."""

    def __init__(self, rng: np.random.Generator, window: Window, person: Patient) -> None:
        self._window = window
        self._first = rng.uniform(-18, -12)
        self._decay = rng.uniform(2.5, 4.5)
        self._breaks = [fields.Wave(rng, 9) for _ in range(6)]
        self._orders = min(len(self._breaks), int(person.probe.depth / person.pleura))

    def power(self, z: Array, x: Array, surface: Array, wall: Array) -> tuple[Array, Array]:
        """Power of the lines, and of the chest wall mirrored between them."""
        lines = np.zeros((len(z), x.shape[1]), dtype=np.float32)
        for order, gaps in zip(range(1, self._orders), self._breaks, strict=False):
            profile = self._window.profile(x, 0.95 - 0.11 * order)
            level = self._first - self._decay * (order - 1) + 4 * gaps(x)
            lines += (
                fields.line(z - (order + 1) * surface, 0.25 + 0.1 * order, 0.4 + 0.12 * order)
                * profile
                * fields.power(level)
            )
        step = float(z[1, 0] - z[0, 0])
        order = np.maximum(z / surface, 1)
        source = np.clip((z % surface) / step, 0, len(z) - 1).astype(np.intp)
        mirrored = np.take_along_axis(wall, source, axis=0) * fields.power(-8 - 5 * order) * self._window.profile(x)
        return lines, mirrored * (z > surface + 1)


class Comets:
    """B-lines: comet tails that start at the lung's surface and reach the bottom, single or confluent."""

    def __init__(self, rng: np.random.Generator, window: Window) -> None:
        confluent = rng.random() < 0.3
        self.level = float(rng.uniform(-23, -18))
        self.fading = float(rng.uniform(0.02, 0.07))
        count = int(rng.integers(1, 3) if confluent else rng.integers(1, 5))
        reach = 0.7 * window.half
        places = np.linspace(-reach, reach, count + 2)[1:-1] if count > 1 else np.zeros(1)
        self.centres = window.centre + places + rng.uniform(-0.12, 0.12, count) * window.half
        self._halves = rng.uniform(3.5, 6.5, count) if confluent else rng.uniform(0.7, 1.7, count)
        self.strengths = rng.uniform(0.5, 1.0, count)
        self.strengths[0] = 1.0
        self.streaks = 10 ** (0.35 * fields.unit(fields.noise(rng, 0.7, 4.0)))

    def profile(self, x: Array, shown: Sequence[float]) -> Array:
        """Strength of the tails (1, beams) at positions in the frame of the lung, 0 to about 1; ``shown``: of each."""
        tails = np.zeros_like(x)
        for centre, half, strength, share in zip(self.centres, self._halves, self.strengths, shown, strict=False):
            if share:
                tails = tails + strength * fields.faded(share) * np.exp(-0.5 * (np.abs(x - centre) / half) ** 2.5)
        return tails


class Lesion:
    """A pleural line that is thickened, jagged and broken, with small consolidations under it."""

    def __init__(self, rng: np.random.Generator, window: Window) -> None:
        self._jags = fields.Wave(rng, 7, terms=12)
        self._gaps = fields.Wave(rng, 7, terms=10)
        self._thickness = rng.uniform(0.55, 0.95)
        count = int(rng.integers(1, 4))
        self.centres = window.centre + window.half * np.linspace(-0.6, 0.6, count) * rng.uniform(0.6, 1, count)
        if count == 1:
            self.centres = window.centre + window.half * rng.uniform(-0.4, 0.4, 1)
        self._halves = rng.uniform(3.0, 7.0, count)
        self._depths = rng.uniform(3.5, 8.0, count)
        self._shreds = fields.Wave(rng, 5, terms=14)

    def roughness(self, x: Array) -> Array:
        """How far the line leaves its course, in mm."""
        return fields.single(0.55 * self._jags(x))

    def line(self, bright: Array, below: Array, x: Array, shown: float) -> Array:
        """The line with its gaps and its thick pieces, as far as they are ``shown``, 0 to 1."""
        gaps = fields.step(self._gaps(x) + 0.5, 0.25) * (1 - 0.97 * np.clip(self._inside(x), 0, 1))
        thick = fields.line(below, 0.3, self._thickness) * fields.power(-8 + 4 * self._jags(x + 31))
        broken = fields.single((0.7 * bright + thick) * (0.002 + 0.998 * gaps))
        return (1 - shown) * bright + shown * broken

    def consolidate(self, diffuse: Array, below: Array, x: Array, shown: float) -> Array:
        """Dark lenses under the line with a shredded bright far edge and a short enhancement behind it, thinner where
        they are ``shown`` less."""
        for centre, half, depth in zip(self.centres, self._halves, self._depths, strict=True):
            away = np.clip(1 - ((x - centre) / half) ** 2, 0, None)
            edge = shown * depth * away**0.35 * (1 + 0.22 * self._shreds(x)) * (away > 0)
            inside = fields.step(edge - below, 0.35) * fields.step(below, 0.35) * (away > 0)
            rim = fields.line(below - edge, 0.4, 1.3) * fields.power(-17 + 6 * self._shreds(x + 17)) * away
            behind = fields.step(below - edge, 0.5) * fields.power(-28 - 1.2 * np.maximum(below - edge, 0)) * away
            diffuse = diffuse * (1 - inside) + inside * fields.power(-43.0) + shown * rim + shown * behind
        return diffuse

    def _inside(self, x: Array) -> Array:
        """Where the line lies over a consolidation, 0 to about 1."""
        over = np.zeros_like(x)
        for centre, half in zip(self.centres, self._halves, strict=True):
            over += np.exp(-0.5 * ((x - centre) / (0.7 * half)) ** 4)
        return over


class Fluid:
    """Effusion between the layers of the pleura: an echo-free band, deeper on one side, that the lung floats under."""

    def __init__(self, rng: np.random.Generator, person: Patient) -> None:
        self._deep = rng.uniform(0.5, 1.0) * person.pleura
        self._tilt = rng.uniform(-0.5, 0.5) * self._deep / person.probe.half_width_at(person.pleura)

    def thickness(self, x: Array, breath: float) -> Array:
        """Depth of the band in mm, never less than 4."""
        return fields.single(np.maximum(self._deep * (1 + 0.08 * breath) + self._tilt * x, 4.0))

    def fill(
        self, diffuse: Array, bright: Array, z: Array, pleura: Array, below: Array, shown: float
    ) -> tuple[Array, Array]:
        """Empty the band, brighten what lies behind it, keep a thin line for the outer layer; ``shown`` is 0 to 1."""
        inside = fields.step(z - pleura, 0.5) * fields.step(-below, 0.5)
        clutter = fields.power(-46 - 1.5 * np.maximum(z - pleura, 0))
        outer = fields.line(z - pleura, 0.2, 0.3) * fields.power(-17.0) * fields.faded(shown)
        behind = 1 + 0.6 * shown
        return diffuse * (behind - behind * inside) + inside * clutter, bright * (1 - inside) + outer


class Basal:
    """Effusion above the diaphragm: fluid under the chest wall, the bright dome of the diaphragm, liver below it, and
    often a tongue of collapsed lung that floats in the fluid."""

    def __init__(self, rng: np.random.Generator, person: Patient, half: float) -> None:
        depth, pleura = person.probe.depth, person.pleura
        self._side = float(rng.choice([-1.0, 1.0]))
        self._dome = self._side * rng.uniform(0.1, 0.45) * half
        self._apex = pleura + rng.uniform(0.3, 0.42) * (depth - pleura)
        self._curve = rng.uniform(0.45, 1.0) * (depth - pleura) / half**2
        self._dent = fields.Wave(rng, 16)
        self._texture = fields.unit(fields.noise(rng, 2.0, 2.5))
        self._specks = np.clip(fields.unit(fields.noise(rng, 0.8, 1.5)) - 1.4, 0, 2)
        self._tongue = rng.random() < 0.6
        self._tip = -self._side * rng.uniform(-0.05, 0.3) * half
        self._middle = pleura + rng.uniform(0.45, 0.6) * (depth - pleura)
        self._wedge = rng.uniform(0.45, 0.8)
        self._shreds = fields.Wave(rng, 7)
        self._vessels = [
            (self._dome + rng.uniform(-0.6, 0.6) * half, rng.uniform(0.3, 0.8), rng.uniform(1.2, 2.6)) for _ in range(4)
        ]
        self._depth = depth
        self._half = half

    def curtain(self, x: Array, share: float) -> Array:
        """Where lung hangs before the effusion (1, beams), 0 to 1, when this share of the field is free of it."""
        return fields.step(self._half * (1 - 2 * share) - self._side * x, 0.6)

    def cover(
        self, diffuse: Array, bright: Array, z: Array, x: Array, pleura: Array, breath: float, share: float
    ) -> tuple[Array, Array]:
        """Replace the lung, in this share of the field."""
        power, edges = self._fill(z, x, pleura, breath)
        if share >= 1:
            return power, edges
        lung = self.curtain(x, share)
        return power * (1 - lung) + diffuse * lung, edges * (1 - lung) + bright * lung

    def _fill(self, z: Array, x: Array, pleura: Array, breath: float) -> tuple[Array, Array]:
        """Power of everything below the chest wall."""
        dome = self._apex + 2.5 * breath + self._curve * (x - self._dome) ** 2 + 0.9 * self._dent(x)
        under = z - dome
        fluid = fields.power(-46 - 1.2 * np.maximum(z - pleura, 0))
        liver = fields.power(-29 + 3 * self._texture - 0.16 * np.maximum(under, 0))
        for centre, share, radius in self._vessels:
            place = self._apex + share * (self._depth - self._apex) + 2.5 * breath
            liver = liver * (1 - 0.96 * fields.step(radius - np.hypot(x - centre, 0.8 * (z - place)), 0.3))
        liver_here = fields.step(under, 0.5)
        power = fluid * (1 - liver_here) + liver * liver_here
        slope = 2 * self._curve * np.abs(x - self._dome)
        edge = fields.line(under, 0.3 + 0.3 * slope, 0.6 + 0.4 * slope) * fields.power(
            -7 - 9 * slope + 4 * self._dent(x + 9)
        )
        if self._tongue:
            power, edge = self._float(power, edge, z, x, breath, liver_here)
        surface = fields.line(z - pleura, 0.2, 0.4) * fields.power(-13 + 3 * self._dent(x + 23))
        return power, surface + edge

    def _float(self, power: Array, edge: Array, z: Array, x: Array, breath: float, liver: Array) -> tuple[Array, Array]:
        reach = -self._side * (x - self._tip) + 2 * breath
        half = self._wedge * np.maximum(reach, 0) ** 0.9 + 0.6 * self._shreds(x)
        inside = fields.step(half - np.abs(z - self._middle - 0.1 * reach), 0.5) * fields.step(reach, 0.5) * (1 - liver)
        tissue = fields.power(-30 + 3 * self._texture) + self._specks * fields.power(-18.0)
        rim = (
            fields.line(z - self._middle - 0.1 * reach + half, 0.3, 0.5)
            * fields.power(-17.0)
            * fields.step(reach, 0.5)
            * (1 - liver)
        )
        return power * (1 - inside) + tissue * inside, edge + rim


def ribs(rng: np.random.Generator, person: Patient, half: float) -> list[Rib]:
    """No rib, one, or one on either side of the window."""
    count = int(rng.choice([0, 1, 2], p=[0.2, 0.35, 0.45]))
    sides = rng.permutation([-1.0, 1.0])[:count]
    return [
        Rib(
            centre=float(side * rng.uniform(0.5, 0.72) * half),
            top=float(max(person.pleura - rng.uniform(4, 8), 5.0)),
            half=float(rng.uniform(0.13, 0.2) * half),
        )
        for side in sides
    ]


def window_between(ribs: list[Rib], half: float, rng: np.random.Generator) -> Window:
    """The window that the ribs leave open; without ribs, the middle three quarters of the field."""
    left = max([rib.centre + rib.half for rib in ribs if rib.centre < 0], default=-0.75 * half)
    right = min([rib.centre - rib.half for rib in ribs if rib.centre > 0], default=0.75 * half)
    return Window(float((left + right) / 2 + rng.uniform(-0.05, 0.05) * half), float((right - left) / 2))
