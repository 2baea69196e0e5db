"""Lung-ultrasound phantoms: B-mode frames drawn from a simple model of beams, speckle and lung artefacts, labels exact.

Everything is computed in beam space (depth below the probe face × beam) and scan-converted at the end, so that speckle
widens, shadows spread and B-lines fan with the beam as they do on a scanner. Echo powers are in decibels below the
brightest echo. Depths `z` and lateral positions `x` are in millimetres; `x` is measured along the pleural line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Array = NDArray[np.float32]
Size = tuple[int, int]

SYMPTOMS = ("A-line", "B-line", "Pleural lesion", "Pleural effusion")
DEPTH_SAMPLES = 384
BEAMS = 192


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


def frame(labels: Sequence[int], seed: int, size: Size = (400, 400)) -> NDArray[np.uint8]:
    """One frame (height, width) of a person and a place drawn from a seed, showing the symptoms whose entry is 1."""
    return Clip(patient(seed), labels, seed).frame(0.0, size)


class Clip:
    """One place on one person's chest, with exactly the symptoms asked for; `frame` shows it at any time."""

    def __init__(self, person: Patient, labels: Sequence[int], seed: int) -> None:
        if len(labels) != len(SYMPTOMS) or any(label not in (0, 1) for label in labels):
            raise ValueError(f"labels must be {len(SYMPTOMS)} values of 0 or 1, for {SYMPTOMS}; got {list(labels)}")
        self.person = person
        self.labels = tuple(bool(label) for label in labels)
        self._seed = seed
        rng = np.random.default_rng([seed, person.seed, 2])
        probe = person.probe
        self._half = probe.half_width_at(person.pleura)
        self._z = np.linspace(0, probe.depth, DEPTH_SAMPLES, dtype=np.float32)[:, None]
        self._x = np.linspace(-self._half, self._half, BEAMS, dtype=np.float32)[None, :]
        self._phase = rng.uniform(0, 2 * np.pi)
        self._slope = rng.uniform(-0.08, 0.08)
        self._steep = rng.uniform(-0.25, 0.25)
        self._bend = _flatness(probe, person.pleura) * rng.uniform(0.0, 0.6) + rng.uniform(-1, 1) / self._half**2
        self._course = Wave(rng, 30)
        self._line = Wave(rng, 14)
        self._shading = Wave(rng, 18)
        self._haze = rng.uniform(-38, -31)
        self._speckle = [_noise(rng, 0.7, 1.6) for _ in range(2)]
        self._wall = self._chest_wall(np.random.default_rng([person.seed, 3]))
        a_line, b_line, lesion, effusion = self.labels
        # Fluid above the diaphragm leaves no lung surface under the probe for lines or lesions to start from.
        basal = effusion and probe.kind == "convex" and not (a_line or b_line or lesion)
        self._basal = Basal(rng, person, self._half) if basal else None
        self._fluid = Fluid(rng, person) if effusion and self._basal is None else None
        self._ribs = [] if self._basal else _ribs(rng, person, self._half)
        self._window = _window(self._ribs, self._half, rng)
        self._reverberation = Reverberation(rng, self._window, person) if a_line else None
        self._comets = Comets(rng, self._window) if b_line else None
        self._lesion = Lesion(rng, self._window) if lesion else None

    def frame(self, time: float, size: Size = (400, 400)) -> NDArray[np.uint8]:
        """The picture (height, width) at a time in seconds."""
        if min(size) < 32:
            raise ValueError(f"a frame of {size} is too small to show anything; ask for at least 32×32 pixels")
        return _scan_convert(self.echoes(time), self.person.probe, size)

    def pleura(self, time: float) -> Array:
        """The depth in mm of the pleural line under each beam, (1, beams); of its outer layer where there is fluid."""
        x = self._x
        course = self.person.pleura + self._slope * x + self._bend * x**2 + 0.35 * self._course(x)
        return _single(course + 0.8 * self._breath(time))

    def echoes(self, time: float) -> Array:
        """The grey levels in beam space (depth, beam), 0 to 1, at a time in seconds."""
        x, z, breath, pleura = self._x, self._z, self._breath(time), self.pleura(time)
        slide = self.person.slide * breath
        surface = pleura + (self._fluid.thickness(x, breath) if self._fluid else 0)
        if self._lesion:
            surface = surface + self._lesion.roughness(x - slide)
        below = z - surface

        comets = self._comets.profile(x - slide) if self._comets else np.zeros_like(x)
        diffuse = self._lung(below, comets, slide)
        facing = np.abs(x / self._half - self._steep) ** 2
        bright = _line(below, 0.25, 0.5) * _power(-4 + 3 * self._line(x - slide) - 16 * facing)
        if self._lesion:
            bright = self._lesion.line(bright, below, x - slide)
            diffuse = self._lesion.consolidate(diffuse, below, x - slide)
        if self._reverberation:
            lines, clutter = self._reverberation.power(z, x, surface, self._wall)
            hidden = (1 - 0.9 * np.clip(comets, 0, 1)) ** 2
            bright = bright + lines * hidden
            diffuse = diffuse + clutter * hidden
        if self._fluid:
            diffuse, bright = self._fluid.fill(diffuse, bright, z, pleura, below)
        if self._basal:
            diffuse, bright = self._basal.fill(z, x, pleura, breath, diffuse, bright)
        above = _step(pleura - z, 0.3)
        diffuse = diffuse * (1 - above) + self._wall * above
        for rib in self._ribs:
            diffuse, bright = rib.cover(diffuse, bright, z, x, breath)
        return self._display(diffuse, bright, above, slide, time)

    def _breath(self, time: float) -> float:
        return float(np.sin(2 * np.pi * time / self.person.breath + self._phase))

    def _chest_wall(self, rng: np.random.Generator) -> Array:
        """Power (depth, beam) of skin, fat and muscle at all depths: bright strands in a grey bed."""
        z, x, pleura = self._z, self._x, self.person.pleura
        striation = _unit(_noise(rng, 1.3, 16.0))
        level = -33 + 4.5 * striation + 3 * Wave(rng, 30)(x) + 4 * np.exp(-z / 4)
        power = _power(level)
        for centre in np.sort(rng.uniform(1.5, pleura * 1.05, size=int(rng.integers(9, 16)))):
            depth = centre + 0.8 * Wave(rng, 35)(x) + 0.12 * Wave(rng, 6)(x)
            power = power + _line(z - depth, 0.14, 0.26) * _power(-15 + 5 * Wave(rng, 12)(x) + rng.uniform(-5, 5))
        for centre in (0.0, 1.1, 2.3):
            power = power + _line(z - centre, 0.2, 0.3) * _power(-9 - 3 * centre)
        return _single(power)

    def _lung(self, below: Array, comets: Array, slide: float) -> Array:
        """Power of the haze under the lung's surface, and of the comet tails that replace it."""
        shading = 3 * self._shading(self._x - slide)
        haze = _power(self._haze + shading - self.person.fading * np.maximum(below, 0) * 1.5)
        haze = haze * (0.12 + 0.88 * self._window.profile(self._x)) * (1 - 0.6 * np.clip(comets, 0, 1))
        if self._comets:
            tail = _power(self._comets.level - self._comets.fading * np.maximum(below, 0))
            haze = haze + comets * tail * _shift(self._comets.streaks, slide / self._half)
        return _single(haze * _step(below, 0.4))

    def _display(self, diffuse: Array, bright: Array, above: Array, slide: float, time: float) -> Array:
        """Multiply by speckle, compress logarithmically."""
        person = self.person
        rng = np.random.default_rng([self._seed, person.seed, 4, round(time * 1e6)])
        fresh = [_noise(rng, 0.7, 1.6) for _ in range(2)]
        chest = above > 0.5
        moved = [np.where(chest, field, _shift(field, slide / self._half)) for field in self._speckle]
        # Between two frames most of the speckle moves with the lung and some is new: motion out of the plane.
        real, imaginary = (0.9 * old + 0.436 * new for old, new in zip(moved, fresh, strict=True))
        speckle = (real**2 + imaginary**2) / 2
        floor = _power(-66 + 8 * self._z / person.probe.depth)
        echo = (diffuse + floor) * speckle + bright * (0.55 + 0.45 * speckle)
        u = self._x / self._half
        level = 10 * np.log10(echo + 1e-9) - 7 * np.clip((np.abs(u) - 0.72) / 0.28, 0, 1) ** 2
        level = level - person.fading * self._z * 0.5 + person.gain
        grey = np.clip(1 + level / person.dynamic_range, 0, 1) ** 1.25
        return _single(gaussian_filter(grey, (0.6, 0.5), truncate=2.0))


class Wave:
    """A smooth random function of the lateral position in mm: mean 0, deviation 1, no detail below `scale` mm."""

    def __init__(self, rng: np.random.Generator, scale: float, terms: int = 7) -> None:
        self._frequency = 2 * np.pi * rng.uniform(0.15, 1, size=(terms, 1)) / scale
        self._phase = rng.uniform(0, 2 * np.pi, size=(terms, 1))

    def __call__(self, x: Array) -> Array:
        """Values (1, beams) at positions (1, beams)."""
        waves = np.sin(self._frequency * x + self._phase)
        return _single(waves.sum(axis=0, keepdims=True) * np.sqrt(2 / len(waves)))


@dataclass(frozen=True)
class Window:
    """The part of the field between two ribs through which the lung is seen: its middle and half width in mm."""

    centre: float
    half: float

    def profile(self, x: Array, narrowing: float = 1.0) -> Array:
        """How much of the beam passes, 0 to 1."""
        return _single(np.exp(-0.5 * (np.abs(x - self.centre) / (0.8 * self.half * narrowing)) ** 4))


@dataclass(frozen=True)
class Rib:
    """A rib: where its top lies and half its width in mm."""

    centre: float
    top: float
    half: float

    def cover(self, diffuse: Array, bright: Array, z: Array, x: Array, breath: float) -> tuple[Array, Array]:
        """Shadow what lies below the rib and draw its bright cap."""
        away = np.abs(x - self.centre) / self.half
        surface = self.top + 2.2 * away**2 + 0.5 * breath
        shadow = _step((1 - away) * self.half, 0.5) * _step(z - surface, 0.5)
        passing = 1 - 0.99997 * shadow
        cap = _line(z - surface, 0.3, 0.9) * _power(-12 - 10 * away**2) * _step((1 - away) * self.half, 0.5)
        return diffuse * passing + 0.3 * cap, bright * passing + 0.7 * cap


class Reverberation:
    """A-lines: echoes of the pleural line at every multiple of its depth, each fainter, thicker and narrower."""

    def __init__(self, rng: np.random.Generator, window: Window, person: Patient) -> None:
        self._window = window
        self._first = rng.uniform(-18, -12)
        self._decay = rng.uniform(2.5, 4.5)
        self._breaks = [Wave(rng, 9) for _ in range(6)]
        self._orders = min(len(self._breaks), int(person.probe.depth / person.pleura))

    def power(self, z: Array, x: Array, surface: Array, wall: Array) -> tuple[Array, Array]:
        """Power of the lines, and of the chest wall mirrored between them."""
        lines = np.zeros((len(z), x.shape[1]), dtype=np.float32)
        for order, gaps in zip(range(1, self._orders), self._breaks, strict=False):
            profile = self._window.profile(x, 0.95 - 0.11 * order)
            level = self._first - self._decay * (order - 1) + 4 * gaps(x)
            lines += _line(z - (order + 1) * surface, 0.25 + 0.1 * order, 0.4 + 0.12 * order) * profile * _power(level)
        step = float(z[1, 0] - z[0, 0])
        order = np.maximum(z / surface, 1)
        source = np.clip((z % surface) / step, 0, len(z) - 1).astype(np.intp)
        mirrored = np.take_along_axis(wall, source, axis=0) * _power(-8 - 5 * order) * self._window.profile(x)
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
        self._centres = window.centre + places + rng.uniform(-0.12, 0.12, count) * window.half
        self._halves = rng.uniform(3.5, 6.5, count) if confluent else rng.uniform(0.7, 1.7, count)
        self._strengths = rng.uniform(0.5, 1.0, count)
        self._strengths[0] = 1.0
        self.streaks = 10 ** (0.35 * _unit(_noise(rng, 0.7, 4.0)))

    def profile(self, x: Array) -> Array:
        """Strength of the tails (1, beams) at positions in the frame of the lung, 0 to about 1."""
        tails = np.zeros_like(x)
        for centre, half, strength in zip(self._centres, self._halves, self._strengths, strict=True):
            tails = tails + strength * np.exp(-0.5 * (np.abs(x - centre) / half) ** 2.5)
        return tails


class Lesion:
    """A pleural line that is thickened, jagged and broken, with small consolidations under it."""

    def __init__(self, rng: np.random.Generator, window: Window) -> None:
        self._jags = Wave(rng, 7, terms=12)
        self._gaps = Wave(rng, 7, terms=10)
        self._thickness = rng.uniform(0.55, 0.95)
        count = int(rng.integers(1, 4))
        self._centres = window.centre + window.half * np.linspace(-0.6, 0.6, count) * rng.uniform(0.6, 1, count)
        if count == 1:
            self._centres = window.centre + window.half * rng.uniform(-0.4, 0.4, 1)
        self._halves = rng.uniform(3.0, 7.0, count)
        self._depths = rng.uniform(3.5, 8.0, count)
        self._shreds = Wave(rng, 5, terms=14)

    def roughness(self, x: Array) -> Array:
        """How far the line leaves its course, in mm."""
        return _single(0.55 * self._jags(x))

    def line(self, bright: Array, below: Array, x: Array) -> Array:
        """The line with its gaps and its thick pieces."""
        gaps = _step(self._gaps(x) + 0.5, 0.25) * (1 - 0.97 * np.clip(self._inside(x), 0, 1))
        thick = _line(below, 0.3, self._thickness) * _power(-8 + 4 * self._jags(x + 31))
        return _single((0.7 * bright + thick) * (0.002 + 0.998 * gaps))

    def consolidate(self, diffuse: Array, below: Array, x: Array) -> Array:
        """Dark lenses under the line with a shredded bright far edge and a short enhancement behind it."""
        for centre, half, depth in zip(self._centres, self._halves, self._depths, strict=True):
            away = np.clip(1 - ((x - centre) / half) ** 2, 0, None)
            edge = depth * away**0.35 * (1 + 0.22 * self._shreds(x)) * (away > 0)
            inside = _step(edge - below, 0.35) * _step(below, 0.35) * (away > 0)
            rim = _line(below - edge, 0.4, 1.3) * _power(-17 + 6 * self._shreds(x + 17)) * away
            behind = _step(below - edge, 0.5) * _power(-28 - 1.2 * np.maximum(below - edge, 0)) * away
            diffuse = diffuse * (1 - inside) + inside * _power(-43.0) + rim + behind
        return diffuse

    def _inside(self, x: Array) -> Array:
        """Where the line lies over a consolidation, 0 to about 1."""
        over = np.zeros_like(x)
        for centre, half in zip(self._centres, self._halves, strict=True):
            over += np.exp(-0.5 * ((x - centre) / (0.7 * half)) ** 4)
        return over


class Fluid:
    """Effusion between the layers of the pleura: an echo-free band, deeper on one side, that the lung floats under."""

    def __init__(self, rng: np.random.Generator, person: Patient) -> None:
        self._deep = rng.uniform(0.5, 1.0) * person.pleura
        self._tilt = rng.uniform(-0.5, 0.5) * self._deep / person.probe.half_width_at(person.pleura)

    def thickness(self, x: Array, breath: float) -> Array:
        """Depth of the band in mm, never less than 4."""
        return _single(np.maximum(self._deep * (1 + 0.08 * breath) + self._tilt * x, 4.0))

    def fill(self, diffuse: Array, bright: Array, z: Array, pleura: Array, below: Array) -> tuple[Array, Array]:
        """Empty the band, brighten what lies behind it, keep a thin line for the outer layer."""
        inside = _step(z - pleura, 0.5) * _step(-below, 0.5)
        clutter = _power(-46 - 1.5 * np.maximum(z - pleura, 0))
        outer = _line(z - pleura, 0.2, 0.3) * _power(-17.0)
        return diffuse * (1.6 - 1.6 * inside) + inside * clutter, bright * (1 - inside) + outer


class Basal:
    """Effusion above the diaphragm: fluid under the chest wall, the bright dome of the diaphragm, liver below it, and
    often a tongue of collapsed lung that floats in the fluid."""

    def __init__(self, rng: np.random.Generator, person: Patient, half: float) -> None:
        depth, pleura = person.probe.depth, person.pleura
        self._side = float(rng.choice([-1.0, 1.0]))
        self._dome = self._side * rng.uniform(0.1, 0.45) * half
        self._apex = pleura + rng.uniform(0.3, 0.42) * (depth - pleura)
        self._curve = rng.uniform(0.45, 1.0) * (depth - pleura) / half**2
        self._dent = Wave(rng, 16)
        self._texture = _unit(_noise(rng, 2.0, 2.5))
        self._specks = np.clip(_unit(_noise(rng, 0.8, 1.5)) - 1.4, 0, 2)
        self._tongue = rng.random() < 0.6
        self._tip = -self._side * rng.uniform(-0.05, 0.3) * half
        self._middle = pleura + rng.uniform(0.45, 0.6) * (depth - pleura)
        self._wedge = rng.uniform(0.45, 0.8)
        self._shreds = Wave(rng, 7)
        self._vessels = [
            (self._dome + rng.uniform(-0.6, 0.6) * half, rng.uniform(0.3, 0.8), rng.uniform(1.2, 2.6)) for _ in range(4)
        ]
        self._depth = depth

    def fill(
        self, z: Array, x: Array, pleura: Array, breath: float, diffuse: Array, bright: Array
    ) -> tuple[Array, Array]:
        """Power of everything below the chest wall, in place of the lung."""
        dome = self._apex + 2.5 * breath + self._curve * (x - self._dome) ** 2 + 0.9 * self._dent(x)
        under = z - dome
        fluid = _power(-46 - 1.2 * np.maximum(z - pleura, 0))
        liver = _power(-29 + 3 * self._texture - 0.16 * np.maximum(under, 0))
        for centre, share, radius in self._vessels:
            place = self._apex + share * (self._depth - self._apex) + 2.5 * breath
            liver = liver * (1 - 0.96 * _step(radius - np.hypot(x - centre, 0.8 * (z - place)), 0.3))
        liver_here = _step(under, 0.5)
        power = fluid * (1 - liver_here) + liver * liver_here
        slope = 2 * self._curve * np.abs(x - self._dome)
        edge = _line(under, 0.3 + 0.3 * slope, 0.6 + 0.4 * slope) * _power(-7 - 9 * slope + 4 * self._dent(x + 9))
        if self._tongue:
            power, edge = self._float(power, edge, z, x, breath, liver_here)
        surface = _line(z - pleura, 0.2, 0.4) * _power(-13 + 3 * self._dent(x + 23))
        return power, surface + edge

    def _float(self, power: Array, edge: Array, z: Array, x: Array, breath: float, liver: Array) -> tuple[Array, Array]:
        reach = -self._side * (x - self._tip) + 2 * breath
        half = self._wedge * np.maximum(reach, 0) ** 0.9 + 0.6 * self._shreds(x)
        inside = _step(half - np.abs(z - self._middle - 0.1 * reach), 0.5) * _step(reach, 0.5) * (1 - liver)
        tissue = _power(-30 + 3 * self._texture) + self._specks * _power(-18.0)
        rim = _line(z - self._middle - 0.1 * reach + half, 0.3, 0.5) * _power(-17.0) * _step(reach, 0.5) * (1 - liver)
        return power * (1 - inside) + tissue * inside, edge + rim


def _flatness(probe: Probe, depth: float) -> float:
    """The curvature in 1/mm that a line straight in the picture has in beam space."""
    return 0.5 / (probe.radius + depth) if probe.radius else 0.0


def _ribs(rng: np.random.Generator, person: Patient, half: float) -> list[Rib]:
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


def _window(ribs: list[Rib], half: float, rng: np.random.Generator) -> Window:
    left = max([rib.centre + rib.half for rib in ribs if rib.centre < 0], default=-0.75 * half)
    right = min([rib.centre - rib.half for rib in ribs if rib.centre > 0], default=0.75 * half)
    return Window(float((left + right) / 2 + rng.uniform(-0.05, 0.05) * half), float((right - left) / 2))


def _single(values: NDArray[np.floating] | float) -> Array:
    """Single precision: numpy's own scalars would turn everything they touch into double."""
    return np.asarray(values, dtype=np.float32)


def _power(level: NDArray[np.floating] | float) -> Array:
    """Echo power of a level in dB."""
    return _single(np.power(np.float32(10), _single(level) / 10))


def _line(distance: Array, above: Array | float, below: Array | float) -> Array:
    """A bright line across the beam: rises over `above` mm, dies away over `below` mm."""
    width = np.where(distance < 0, above, below).astype(np.float32)
    return _single(np.exp(-0.5 * (distance / width) ** 2))


def _step(distance: Array, softness: float) -> Array:
    """0 for negative, 1 for positive distances in mm, smooth over `softness` mm."""
    return _single(0.5 + 0.5 * np.tanh(distance / softness))


def _noise(rng: np.random.Generator, axial: float, lateral: float) -> Array:
    """Gaussian noise (depth, beam), correlated over so many samples and beams, standard deviation 1."""
    field = rng.standard_normal((DEPTH_SAMPLES, BEAMS), dtype=np.float32)
    smooth = gaussian_filter(field, (axial, lateral), truncate=3.0, mode="wrap")
    return _single(smooth / smooth.std())


def _unit(field: Array) -> Array:
    return _single((field - field.mean()) / field.std())


def _shift(field: Array, share: float) -> Array:
    """The field moved sideways by a share of half its width."""
    return np.roll(field, round(share * BEAMS / 2), axis=1)


def _scan_convert(grey: Array, probe: Probe, size: Size) -> NDArray[np.uint8]:
    """Beam space (depth, beam), 0 to 1, to pixels (height, width), 0 to 255."""
    inside, corners, weights = _pixels(probe, size)
    flat = np.ascontiguousarray(grey).ravel()
    values = sum(flat[corner] * weight for corner, weight in zip(corners, weights, strict=True))
    picture = np.zeros(size[0] * size[1], dtype=np.uint8)
    picture[inside] = np.round(np.asarray(values) * 255).astype(np.uint8)
    return picture.reshape(size)


@lru_cache(maxsize=8)
def _pixels(probe: Probe, size: Size) -> tuple[NDArray[np.intp], list[NDArray[np.intp]], list[Array]]:
    """Which pixels the field covers, and the four samples and weights that each is interpolated from."""
    height, width = size
    angle = probe.half_width / probe.radius if probe.radius else 0.0
    sagitta = probe.radius * (1 - np.cos(angle))
    scale = (probe.depth + sagitta) / height / probe.zoom
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    across = (columns - (width - 1) / 2) * scale
    down = rows * scale - sagitta
    if probe.radius:
        depth = np.hypot(across, down + probe.radius) - probe.radius
        beam = np.arctan2(across, down + probe.radius) / angle
    else:
        depth, beam = down, across / probe.half_width
    z = depth / probe.depth * (DEPTH_SAMPLES - 1)
    b = (beam + 1) / 2 * (BEAMS - 1)
    inside = np.flatnonzero(((z >= 0) & (z < DEPTH_SAMPLES - 1) & (b >= 0) & (b < BEAMS - 1)).ravel())
    z, b = z.ravel()[inside], b.ravel()[inside]
    z0, b0 = z.astype(np.intp), b.astype(np.intp)
    fz, fb = (z - z0).astype(np.float32), (b - b0).astype(np.float32)
    first = z0 * BEAMS + b0
    corners = [first, first + 1, first + BEAMS, first + BEAMS + 1]
    weights = [(1 - fz) * (1 - fb), (1 - fz) * fb, fz * (1 - fb), fz * fb]
    return inside, corners, weights
