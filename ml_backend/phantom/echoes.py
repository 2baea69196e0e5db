"""Lung-ultrasound phantoms: B-mode frames drawn from a simple model of beams, speckle and lung artefacts, labels exact.

Everything is computed in beam space (depth below the probe face × beam) and scan-converted at the end, so that speckle
widens, shadows spread and B-lines fan with the beam as they do on a scanner. Echo powers are in decibels below the
brightest echo. Depths `z` and lateral positions `x` are in millimetres; `x` is measured along the pleural line.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ml_backend.phantom import fields
from ml_backend.phantom.fields import BEAMS, DEPTH_SAMPLES, Array
from ml_backend.phantom.findings import Basal, Comets, Fluid, Lesion, Reverberation, ribs, window_between
from ml_backend.phantom.motion import MOST_TAILS, Labels, Swing, View
from ml_backend.phantom.patients import Patient, Probe, patient
from ml_backend.phantom.scan import Size, scan_convert

__all__ = ["BEAMS", "DEPTH_SAMPLES", "SYMPTOMS", "Clip", "Patient", "Size", "frame", "patient"]

SYMPTOMS = ("A-line", "B-line", "Pleural lesion", "Pleural effusion")
NOTHING: Labels = (0, 0, 0, 0)


def frame(labels: Sequence[int], seed: int, size: Size = (400, 400)) -> NDArray[np.uint8]:
    """One frame (height, width) of a person and a place drawn from a seed, showing the symptoms whose entry is 1."""
    return Clip(patient(seed), labels, seed).frame(0.0, size)


class Clip:
    """One place on one person's chest, with exactly the symptoms asked for; `frame` shows it at any time."""

    def __init__(self, person: Patient, labels: Sequence[int], seed: int) -> None:
        self.person = person
        self.labels = checked(labels)
        self._seed = seed
        rng = np.random.default_rng([seed, person.seed, 2])
        probe = person.probe
        self._half = probe.half_width_at(person.pleura)
        self._z = np.linspace(0, probe.depth, DEPTH_SAMPLES, dtype=np.float32)[:, None]
        self._x = np.linspace(-self._half, self._half, BEAMS, dtype=np.float32)[None, :]
        self._breath = Swing(1.0, person.breath, rng.uniform(0, 2 * np.pi))
        self._slope = rng.uniform(-0.08, 0.08)
        self._steep = rng.uniform(-0.25, 0.25)
        self._bend = _flatness(probe, person.pleura) * rng.uniform(0.0, 0.6) + rng.uniform(-1, 1) / self._half**2
        self._course = fields.Wave(rng, 30)
        self._line = fields.Wave(rng, 14)
        self._shading = fields.Wave(rng, 18)
        self._haze = rng.uniform(-38, -31)
        self._speckle = [fields.noise(rng, 0.7, 1.6) for _ in range(2)]
        self._wall = self._chest_wall(np.random.default_rng([person.seed, 3]))
        a_line, b_line, lesion, effusion = self.labels
        # Fluid above the diaphragm leaves no lung surface under the probe for lines or lesions to start from.
        basal = effusion and probe.kind == "convex" and not (a_line or b_line or lesion)
        self._basal = Basal(rng, person, self._half) if basal else None
        self._fluid = Fluid(rng, person) if effusion and self._basal is None else None
        self._ribs = [] if self._basal else ribs(rng, person, self._half)
        self._window = window_between(self._ribs, self._half, rng)
        self._reverberation = Reverberation(rng, self._window, person) if a_line else None
        self._comets = Comets(rng, self._window) if b_line else None
        self._lesion = Lesion(rng, self._window) if lesion else None

    def frame(self, time: float, size: Size = (400, 400)) -> NDArray[np.uint8]:
        """The picture (height, width) at a time in seconds."""
        if min(size) < 32:
            raise ValueError(f"a frame of {size} is too small to show anything; ask for at least 32×32 pixels")
        return scan_convert(self.echoes(time), self.person.probe, size)

    def view(self, time: float) -> View:
        """What is to be seen at a time in seconds."""
        a_line, b_line, lesion, effusion = map(float, self.labels)
        return View(self._breath.at(time), 0.0, a_line, (b_line,) * MOST_TAILS, lesion, effusion)

    def labels_at(self, time: float) -> Labels:
        """Which symptoms the frame at a time in seconds shows."""
        return self.view(time).labels

    def pleura(self, time: float) -> Array:
        """The depth in mm of the pleural line under each beam, (1, beams); of its outer layer where there is fluid."""
        return self._pleura(self.view(time))

    def echoes(self, time: float, view: View | None = None) -> Array:
        """The grey levels in beam space (depth, beam), 0 to 1, at a time in seconds; ``view``: of another view."""
        view = view or self.view(time)
        z, pleura = self._z, self._pleura(view)
        x = self._x + view.moved
        lung = x - self.person.slide * view.breath
        tilt = view.moved / self._half  # a probe that is moved also tilts
        surface = pleura
        if self._fluid and view.effusion:
            surface = surface + view.effusion * self._fluid.thickness(x, view.breath)
        if self._lesion and view.lesion:
            surface = surface + view.lesion * self._lesion.roughness(lung)
        below = z - surface

        comets = self._comets.profile(lung, view.tails) if self._comets else np.zeros_like(x)
        wall = fields.reflected(self._wall, -tilt)
        diffuse = self._lung(below, comets, view)
        facing = np.abs(self._x / self._half - self._steep - tilt) ** 2
        bright = fields.line(below, 0.25, 0.5) * fields.power(-4 + 3 * self._line(lung) - 16 * facing)
        if self._lesion and view.lesion:
            bright = self._lesion.line(bright, below, lung, view.lesion)
            diffuse = self._lesion.consolidate(diffuse, below, lung, view.lesion)
        if self._reverberation and view.a_line:
            lines, clutter = self._reverberation.power(z, x, surface, wall)
            hidden = fields.single((1 - 0.9 * np.clip(comets, 0, 1)) ** 2 * fields.faded(view.a_line))
            bright = bright + lines * hidden
            diffuse = diffuse + clutter * hidden
        if self._fluid and view.effusion:
            diffuse, bright = self._fluid.fill(diffuse, bright, z, pleura, below, view.effusion)
        if self._basal and view.effusion:
            diffuse, bright = self._basal.cover(diffuse, bright, z, self._x, pleura, view.breath, view.effusion)
        above = fields.step(pleura - z, 0.3)
        diffuse = diffuse * (1 - above) + wall * above
        for rib in self._ribs:
            diffuse, bright = rib.cover(diffuse, bright, z, x, view.breath)
        return self._display(diffuse, bright, above, view, time)

    def _pleura(self, view: View) -> Array:
        x = self._x
        course = self.person.pleura + self._slope * x + self._bend * x**2 + 0.35 * self._course(x + view.moved)
        return fields.single(course + 0.8 * view.breath)

    def _chest_wall(self, rng: np.random.Generator) -> Array:
        """Power (depth, beam) of skin, fat and muscle at all depths: bright strands in a grey bed."""
        z, x, pleura = self._z, self._x, self.person.pleura
        striation = fields.unit(fields.noise(rng, 1.3, 16.0))
        level = -33 + 4.5 * striation + 3 * fields.Wave(rng, 30)(x) + 4 * np.exp(-z / 4)
        power = fields.power(level)
        for centre in np.sort(rng.uniform(1.5, pleura * 1.05, size=int(rng.integers(9, 16)))):
            depth = centre + 0.8 * fields.Wave(rng, 35)(x) + 0.12 * fields.Wave(rng, 6)(x)
            power = power + fields.line(z - depth, 0.14, 0.26) * fields.power(
                -15 + 5 * fields.Wave(rng, 12)(x) + rng.uniform(-5, 5)
            )
        for centre in (0.0, 1.1, 2.3):
            power = power + fields.line(z - centre, 0.2, 0.3) * fields.power(-9 - 3 * centre)
        return fields.single(power)

    def _shift(self, view: View) -> float:
        """How far the lung has moved across the field, as a share of half its width."""
        return (self.person.slide * view.breath - view.moved) / self._half

    def _lung(self, below: Array, comets: Array, view: View) -> Array:
        """Power of the haze under the lung's surface, and of the comet tails that replace it."""
        x = self._x + view.moved
        shading = 3 * self._shading(x - self.person.slide * view.breath)
        haze = fields.power(self._haze + shading - self.person.fading * np.maximum(below, 0) * 1.5)
        haze = haze * (0.12 + 0.88 * self._window.profile(x)) * (1 - 0.6 * np.clip(comets, 0, 1))
        if self._comets:
            tail = fields.power(self._comets.level - self._comets.fading * np.maximum(below, 0))
            haze = haze + comets * tail * fields.shift(self._comets.streaks, self._shift(view))
        return fields.single(haze * fields.step(below, 0.4))

    def _display(self, diffuse: Array, bright: Array, above: Array, view: View, time: float) -> Array:
        """Multiply by speckle, compress logarithmically."""
        person = self.person
        rng = np.random.default_rng([self._seed, person.seed, 4, round(time * 1e6)])
        fresh = [fields.noise(rng, 0.7, 1.6) for _ in range(2)]
        chest = above > 0.5
        wall, lung = -view.moved / self._half, self._shift(view)
        moved = [np.where(chest, fields.shift(field, wall), fields.shift(field, lung)) for field in self._speckle]
        # Between two frames most of the speckle moves with the lung and some is new: motion out of the plane.
        real, imaginary = (0.9 * old + 0.436 * new for old, new in zip(moved, fresh, strict=True))
        speckle = (real**2 + imaginary**2) / 2
        floor = fields.power(-66 + 8 * self._z / person.probe.depth)
        echo = (diffuse + floor) * speckle + bright * (0.55 + 0.45 * speckle)
        u = self._x / self._half
        level = 10 * np.log10(echo + 1e-9) - 7 * np.clip((np.abs(u) - 0.72) / 0.28, 0, 1) ** 2
        level = level - person.fading * self._z * 0.5 + person.gain + 12 * view.moved / self._half * u
        grey = np.clip(1 + level / person.dynamic_range, 0, 1) ** 1.25
        return fields.single(gaussian_filter(grey, (0.6, 0.5), truncate=2.0))


def checked(labels: Sequence[int]) -> tuple[bool, ...]:
    """The labels of a place; ValueError if they are not one 0 or 1 for each symptom."""
    if len(labels) != len(SYMPTOMS) or any(label not in (0, 1) for label in labels):
        raise ValueError(f"labels must be {len(SYMPTOMS)} values of 0 or 1, for {SYMPTOMS}; got {list(labels)}")
    return tuple(bool(label) for label in labels)


def _flatness(probe: Probe, depth: float) -> float:
    """The curvature in 1/mm that a line straight in the picture has in beam space."""
    return 0.5 / (probe.radius + depth) if probe.radius else 0.0
