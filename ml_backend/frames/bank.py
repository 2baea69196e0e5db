"""The views of labelled frames that a fine-tune draws from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ml_backend.frames.activations import Activations
from ml_backend.frames.frame import Frame
from ml_backend.msml.network import Network
from ml_backend.store.quantised import restore


class Bank:
    """Augmented views of labelled frames, on disk: a view is drawn at random each time a frame is asked for."""

    def __init__(
        self, activations: Activations, network: Network, frames: Sequence[Frame], digests: Sequence[bytes], views: int
    ) -> None:
        self._activations = activations
        self._network = network
        self._frames = frames
        self._digests = digests
        self._views = views

    def sample(self, rows: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.float32]:
        """Boundary activations (len(rows), c, h, w) of one random view of each row, as `finetune` wants them."""
        drawn = rng.integers(self._views, size=len(rows))
        frames = [self._frames[row] for row in rows]
        digests = [self._digests[row] for row in rows]
        records = self._activations.records(self._network, frames, digests, drawn)
        return restore(records, self._network.activation_shape)
