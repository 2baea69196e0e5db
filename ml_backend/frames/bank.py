"""The views of labelled frames that a fine-tune draws from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml_backend.frames.activations import Activations
from ml_backend.frames.frame import Frame
from ml_backend.msml.network import Network
from ml_backend.store.quantised import restore


@dataclass(frozen=True)
class Bank:
    """Augmented views of labelled frames, on disk: a view is drawn at random each time a frame is asked for."""

    activations: Activations
    network: Network
    frames: Sequence[Frame]
    digests: Sequence[bytes]
    views: int

    def sample(self, rows: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.float32]:
        """Boundary activations (len(rows), c, h, w) of one random view of each row, as `finetune` wants them."""
        drawn = rng.integers(self.views, size=len(rows))
        frames, digests = [self.frames[row] for row in rows], [self.digests[row] for row in rows]
        return restore(self.activations.records(self.network, frames, digests, drawn), self.network.activation_shape)
