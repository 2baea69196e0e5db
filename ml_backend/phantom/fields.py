"""The numerical pieces that phantoms are drawn with: decibels, soft edges, speckle and smooth random waves.

Arrays live in beam space, (depth samples, beams) float32. Distances are in millimetres.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Array = NDArray[np.float32]

DEPTH_SAMPLES = 384
BEAMS = 192


class Wave:
    """A smooth random function of the lateral position in mm: mean 0, deviation 1, no detail below `scale` mm."""

    def __init__(self, rng: np.random.Generator, scale: float, terms: int = 7) -> None:
        self._frequency = 2 * np.pi * rng.uniform(0.15, 1, size=(terms, 1)) / scale
        self._phase = rng.uniform(0, 2 * np.pi, size=(terms, 1))

    def __call__(self, x: Array) -> Array:
        """Values (1, beams) at positions (1, beams)."""
        waves = np.sin(self._frequency * x + self._phase)
        return single(waves.sum(axis=0, keepdims=True) * np.sqrt(2 / len(waves)))


def single(values: NDArray[np.floating] | float) -> Array:
    """Single precision: numpy's own scalars would turn everything they touch into double."""
    return np.asarray(values, dtype=np.float32)


def power(level: NDArray[np.floating] | float) -> Array:
    """Echo power of a level in dB."""
    return single(np.power(np.float32(10), single(level) / 10))


def line(distance: Array, above: Array | float, below: Array | float) -> Array:
    """A bright line across the beam: rises over `above` mm, dies away over `below` mm."""
    width = np.where(distance < 0, above, below).astype(np.float32)
    return single(np.exp(-0.5 * (distance / width) ** 2))


def step(distance: Array, softness: float) -> Array:
    """0 for negative, 1 for positive distances in mm, smooth over `softness` mm."""
    return single(0.5 + 0.5 * np.tanh(distance / softness))


def noise(rng: np.random.Generator, axial: float, lateral: float) -> Array:
    """Gaussian noise (depth, beam), correlated over so many samples and beams, standard deviation 1."""
    field = rng.standard_normal((DEPTH_SAMPLES, BEAMS), dtype=np.float32)
    smooth = gaussian_filter(field, (axial, lateral), truncate=3.0, mode="wrap")
    return single(smooth / smooth.std())


def unit(field: Array) -> Array:
    return single((field - field.mean()) / field.std())


def shift(field: Array, share: float) -> Array:
    """The field moved sideways by a share of half its width."""
    return np.roll(field, round(share * BEAMS / 2), axis=1)


def reflected(field: Array, share: float) -> Array:
    """The field moved sideways by a share of half its width; what enters mirrors what is at the edge."""
    beams = np.abs(np.arange(BEAMS) - round(share * BEAMS / 2))
    return field[:, BEAMS - 1 - np.abs(BEAMS - 1 - beams)]


def faded(strength: float) -> float:
    """The share of its power that something has at a strength of 0 to 1: all at 1, 7.5 dB less at 0.25."""
    return float(10 ** (strength - 1))
