"""Frames that look nearly the same as an earlier one of their clip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import imagehash
import numpy as np
from numpy.typing import NDArray

from ml_backend.ingest.pictures import ClipFrame

DISTANCE = 16
_HASH_SIDE = 16  # 16 x 16 = 256 bits: with 64, clips whose B-lines come and go count as one picture


def distinct(frames: Iterable[ClipFrame], distance: int) -> Iterator[ClipFrame]:
    """Drop frames whose perceptual hash is within ``distance`` bits (of 256) of an earlier one of the same clip.

    0 drops only frames with the same hash; a negative distance keeps every frame.
    """
    kept: list[NDArray[np.bool_]] = []
    for frame in frames:
        if distance >= 0:
            bits: NDArray[np.bool_] = imagehash.phash(frame.picture, hash_size=_HASH_SIDE).hash.ravel()
            if kept and int((np.stack(kept) != bits).sum(axis=1).min()) <= distance:
                continue
            kept.append(bits)
        yield frame
