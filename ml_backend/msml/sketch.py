"""One short vector a frame, of the trunk's whole boundary map: what is like it, and where in the picture, stays."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

NAME = "sketch-1"
"""Belongs into whatever names a kept embedding; another way to make them gets another name."""

WIDTH = 512
_SEED = 20_190_417
_LARGEST = float(np.finfo(np.float16).max)


def sketch(activations: NDArray[np.floating[Any]]) -> NDArray[np.float16]:
    """Return embeddings (n, 512) float16 of boundary activations (n, c, h, w): a balanced count sketch.

    Each of the c h w values gets a random sign, the values fall at random into 512 groups of one size, and the sums of
    the groups are divided by the root of that size, so that inner products keep their expected value up to one factor.
    The draw depends on c h w alone, and every sum on its own order alone, so the same activations give the same bits in
    every process and on every machine. Sums beyond float16 are clipped.
    """
    width = math.prod(activations.shape[1:])
    columns, signs = _drawn(width)
    # Channels last, as restored activations lie in memory: they need no copy.
    rows = np.moveaxis(activations, 1, 3).reshape(len(activations), width)
    result = np.empty((len(rows), WIDTH), np.float16)
    for row, values in zip(result, rows, strict=True):
        sums = (values[columns].astype(np.float32, copy=False) * signs).sum(axis=0)
        sums /= math.sqrt(len(columns))
        row[:] = sums.clip(-_LARGEST, _LARGEST)
    return result


@cache
def _drawn(width: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Columns (g, 512), a group in each column, and their signs (g, 512): 0 where groups are filled up to one size."""
    places = -(-width // WIDTH) * WIDTH
    # Raw bits, because numpy may change what its generators make of them but not the bits.
    bits = np.random.PCG64(_SEED).random_raw(places)
    columns = np.argsort(bits, kind="stable")
    signs = np.where(bits & 1, np.float32(1), np.float32(-1))
    signs[columns >= width] = 0
    columns[columns >= width] = 0
    return columns.reshape(-1, WIDTH), signs.reshape(-1, WIDTH)
