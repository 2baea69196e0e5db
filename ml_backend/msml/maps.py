"""Show where on a frame the network finds evidence of a symptom: class activation maps, and Grad-CAM for studies."""

from __future__ import annotations

import copy
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from ml_backend.errors import BackendError
from ml_backend.msml.frames import SIDE
from ml_backend.msml.network import TRUNK_BATCH, Network

Method = Literal["Grad-CAM", "Grad-CAM++"]


def activation_maps(
    network: Network, activations: NDArray[np.floating[Any]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return each label's probability (n, labels) and its class activation map (n, labels, h, w), both float32.

    Both come from one pass of boundary activations (n, c, h, w) through the tail. Class activation maps
    (arXiv:1512.04150) are exact for a tail that ends in global average pooling and one fully connected layer: the mean
    of a label's map, plus the label's bias, is its logit. No gradient is needed.
    """
    classifier = network.tail.classifier
    with torch.inference_mode():
        with network.autocast():
            features = network.tail.body(network.tensor(activations))
            logits = classifier(features.mean(dim=(2, 3)))
        found = torch.einsum("lf,nfhw->nlhw", classifier.weight.float(), features.float())
        return torch.sigmoid(logits.float()).cpu().numpy(), found.cpu().numpy()


def maps(network: Network, frames: NDArray[np.uint8], label: int, method: Method) -> NDArray[np.float32]:
    """Return one map a frame (n, 224, 224), float32 in [0, 1], of frames (n, 224, 224, 3) uint8 for one label.

    The evidence for output `label` at the last convolutions, before the global pooling: the positive part of their
    channels' sum, weighted by the gradients of the label's logit (Grad-CAM, arXiv:1610.02391; Grad-CAM++,
    arXiv:1710.11063), stretched frame by frame to [0, 1] and resized bilinearly: maps tell where, not how much. A frame
    without any evidence gives zeros. The network is left as it was. Raises ValueError for an unknown label,
    BackendError where the library `grad-cam` is missing.
    """
    if not 0 <= label < network.label_count:
        raise ValueError(f"label must be from 0 to {network.label_count - 1}, not {label}")
    library = _library()
    # The library clears gradients and adds hooks: give it a copy. Every weight of the copy has a gradient, because the
    # library needs one at the last convolution, even where only the classifier is trained.
    tail = copy.deepcopy(network.tail).float().requires_grad_(True)
    cam = {"Grad-CAM": library.GradCAM, "Grad-CAM++": library.GradCAMPlusPlus}[method](tail, [tail.body])
    target = library.utils.model_targets.ClassifierOutputTarget(label)
    result = np.empty((len(frames), SIDE, SIDE), np.float32)
    for start in range(0, len(frames), TRUNK_BATCH):
        activations = network.tensor(network.activations(frames[start : start + TRUNK_BATCH])).float()
        found = torch.from_numpy(cam(activations, [target] * len(activations)))
        resized = F.interpolate(found[:, None], (SIDE, SIDE), mode="bilinear")[:, 0]
        result[start : start + TRUNK_BATCH] = resized.clamp(0, 1).numpy()
    return result


def _library() -> Any:
    # It takes seconds to import and is optional: only maps need it.
    try:
        import pytorch_grad_cam  # type: ignore[import-untyped]
    except ImportError as error:
        raise BackendError(
            f"Maps need the library grad-cam ({error}): pip install --requirement requirements/development.txt"
        ) from error
    return pytorch_grad_cam
