"""Scan conversion: from beam space to the pixels of a sector or a rectangle."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ml_backend.phantom.fields import BEAMS, DEPTH_SAMPLES, Array
from ml_backend.phantom.patients import Probe

Size = tuple[int, int]


def scan_convert(grey: Array, probe: Probe, size: Size) -> NDArray[np.uint8]:
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
