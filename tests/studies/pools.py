"""A pool whose frames need no network: clips that look different from each other, as embeddings."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ml_backend.tsal.likeness import Places
from studies.dataset import ClipSet
from studies.simulation import Material

LENGTH = 5


def material(labels: NDArray[np.uint8], per_patient: int = 2) -> Material:
    """A material of clips with `LENGTH` frames each, half a second apart; ``labels`` (clips, l) of each clip."""
    clips = np.repeat(np.arange(len(labels)), LENGTH)
    noise = 0.05 * np.random.default_rng(0).standard_normal((len(clips), len(labels)))
    embeddings = (np.eye(len(labels))[clips] + noise).astype(np.float32)
    times = np.tile(np.arange(LENGTH) / 2, len(labels))
    found = ClipSet(
        name="made",
        folder=Path("nowhere"),
        every=Fraction(1, 2),
        symptoms=("A-line", "B-line", "Pleural lesion")[: labels.shape[1]],
        pixels=np.zeros((len(clips), 1, 1, 3), np.uint8),
        labels=labels[clips],
        patients=tuple(f"patient {clip // per_patient}" for clip in clips),
        clips=tuple(f"{clip}.mp4" for clip in clips),
        times=tuple(times.tolist()),
        unreadable=(),
    )
    places = Places(embeddings, clips, times)
    nothing = cast(Any, None)  # no network looks at these frames
    return Material(found, np.zeros((len(clips), 1, 1), np.uint8), places, nothing, nothing)


LABELS = np.array([[1, 0], [0, 1], [1, 1], [1, 0], [0, 1], [0, 0], [1, 0], [0, 1]], np.uint8)
