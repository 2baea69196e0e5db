"""Fine-tuning: the last three weight-holding layers learn the confirmed labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ml_backend.errors import BackendError, NotEnoughLabels
from ml_backend.msml import frames as frames_module
from ml_backend.msml.network import Network

Sample = Callable[[NDArray[np.intp], np.random.Generator], NDArray[np.floating[Any]]]
Progress = Callable[[int, int, float], None]

# Measured on public clips split by patient, EfficientNet-Lite0: from 20 labelled frames, 10 epochs (10 updates) give a
# mean AUC of 0.56 on other patients, 50 updates 0.70, 100 give 0.73, 400 give 0.74; from 60 frames 0.66 (20 updates),
# 0.73, 0.74, 0.73. Beyond 100 the loss on other patients only rises. With 1,000 frames, answered in batches of 100,
# one pass after each batch (100 updates or more) does as well as 10 passes (docs/study.md).
MINIMUM_STEPS = 100
BATCH_SIZE = 32


def passes(frames: int, epochs: int, minimum_steps: int, batch_size: int = BATCH_SIZE) -> int:
    """Return the number of epochs: ``epochs``, or as many as ``minimum_steps`` updates need."""
    return max(epochs, math.ceil(minimum_steps / math.ceil(frames / batch_size)))


def finetune(
    network: Network,
    sample: Sample,
    labels: NDArray[np.uint8],
    *,
    epochs: int = 1,
    minimum_steps: int = MINIMUM_STEPS,
    batch_size: int = BATCH_SIZE,
    learning_rate: float = 2e-3,
    momentum: float = 0.9,
    positive_weights: NDArray[np.floating[Any]] | None = None,
    known: NDArray[np.bool_] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[float]:
    """Train the tail on `labels` (n, l) of 0 and 1 by SGD and return the mean loss of each epoch.

    The loss is the sigmoid cross-entropy of eq. 1, averaged over labels and frames. `sample(rows, rng)` returns the
    boundary activations (len(rows), c, h, w) of those rows, an augmented view drawn anew each time. Where `epochs`
    would give fewer than `minimum_steps` updates there are more epochs: a few frames must not leave the classifier
    where it started. Labels that are not `known` (n, l), booleans, do not enter the loss. `positive_weights` (l,)
    multiplies the loss of frames that have the label: above 1 for rare ones. `progress(epoch, epochs, loss)` is called
    after every epoch, counted from 1. The same seed gives the same weights.

    Raises NotEnoughLabels with fewer than two label combinations, BackendError when the loss is no longer finite;
    whatever is raised, the network keeps the weights it came with.
    """
    _check(labels, network.label_count)
    rng = np.random.default_rng(seed)
    epochs = passes(len(labels), epochs, minimum_steps, batch_size)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=learning_rate, momentum=momentum)
    weights = None
    if positive_weights is not None:
        weights = torch.from_numpy(np.asarray(positive_weights, np.float32)).to(network.mean.device)
    before = network.trainable_state()
    losses: list[float] = []
    try:
        with _dropout_from(seed, network.mean.device):
            for epoch in range(1, epochs + 1):
                total = 0.0
                order = rng.permutation(len(labels))
                network.train()
                for start in range(0, len(order), batch_size):
                    rows = order[start : start + batch_size]
                    told = None if known is None else known[rows]
                    total += len(rows) * _step(network, optimizer, sample(rows, rng), labels[rows], weights, told)
                network.train(False)
                losses.append(total / len(labels))
                if progress is not None:
                    progress(epoch, epochs, losses[-1])
    except BaseException:
        network.train(False)
        network.load_trainable_state(before)
        raise
    return losses


def from_bank(views: NDArray[np.floating[Any]]) -> Sample:
    """Return a sample that draws one of the stored views of every row from activations (n, views, c, h, w)."""

    def sample(rows: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.floating[Any]]:
        return views[rows, rng.integers(views.shape[1], size=len(rows))]

    return sample


def from_frames(network: Network, frames: NDArray[np.uint8]) -> Sample:
    """Return a sample that augments frames (n, 224, 224, 3) on the fly and sends them through the trunk."""

    def sample(rows: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.floating[Any]]:
        return network.activations(np.stack([frames_module.augment(frames[row], rng) for row in rows]))

    return sample


@contextmanager
def _dropout_from(seed: int, device: torch.device) -> Iterator[None]:
    """Let dropout, in networks that have any, draw from `seed`; torch's global generators are left as they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _check(labels: NDArray[np.uint8], label_count: int) -> None:
    if labels.ndim != 2 or labels.shape[1] != label_count or not np.isin(labels, (0, 1)).all():
        raise ValueError(f"labels must be 0 or 1 of shape (n, {label_count}), not {labels.dtype} {labels.shape}")
    if len(labels) == 0 or (labels == labels[0]).all():
        raise NotEnoughLabels(
            f"The {len(labels)} confirmed frames have fewer than two different label combinations: nothing can be told "
            f"apart yet. Annotate frames with other symptoms."
        )


def _step(
    network: Network,
    optimizer: torch.optim.SGD,
    activations: NDArray[np.floating[Any]],
    labels: NDArray[np.uint8],
    positive_weights: Tensor | None,
    known: NDArray[np.bool_] | None,
) -> float:
    targets = torch.from_numpy(labels.astype(np.float32)).to(network.mean.device)
    optimizer.zero_grad()
    with network.autocast():
        logits = network.tail(network.tensor(activations))
    mask = torch.ones_like(targets) if known is None else torch.from_numpy(known.astype(np.float32)).to(targets.device)
    loss = F.binary_cross_entropy_with_logits(
        logits.float(), targets, weight=mask, pos_weight=positive_weights, reduction="sum"
    ) / mask.sum().clamp(min=1)
    if not bool(loss.isfinite()):
        raise BackendError("Training diverged, the loss is not finite any more: lower TSAL_LEARNING_RATE.")
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.item()
