"""Build an MSML network on a backbone, at a precision that suits the processor."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from ml_backend.msml import backbones, frames
from ml_backend.msml.folding import fold_normalisation
from ml_backend.msml.network import Network, Precision, Tail, Trained


def build(
    backbone: str,
    label_count: int,
    weights: str | None = None,
    seed: int = 0,
    precision: Precision = "float32",
    trained: Trained = "last three",
) -> Network:
    """Return MSML on the named backbone, its classifier drawn from `seed` (torch's global generator is not touched).

    `weights` as in `backbones.load`: None for ImageNet's, "random", or a file. `precision` "auto" is bfloat16 where the
    processor computes in it and the backbone keeps its results so, else float32; "mixed" is a trunk in float32 with a
    tail in bfloat16 where the processor has it: EfficientNet-Lite0 then learns 1.6 times as fast, and probabilities
    move by up to 0.02. `trained` says which weights learn: the last three layers that hold any, the classifier alone
    ("head") or "all"; then only the normalisation statistics are frozen, the tail is the whole network and the boundary
    activations are the normalised frames (n, 3, 224, 224). The network lies on the GPU where there is one. Raises
    WeightsUnavailable.
    """
    found, trunk, body = backbones.load(backbone, weights)
    if trained == "all":
        found = replace(found, boundary=frames.SHAPE[::-1])
        trunk, body = nn.Identity(), nn.Sequential(trunk, body)
    with torch.device("meta"):
        tail = Tail(body, found.features, label_count)
    tail.classifier.to_empty(device="cpu")
    bound = found.features**-0.5
    with torch.no_grad():
        tail.classifier.weight.uniform_(-bound, bound, generator=torch.Generator().manual_seed(seed))
        tail.classifier.bias.zero_()
    trunk_precision = precision
    if precision == "auto":
        precision = "bfloat16" if found.keeps_in_bfloat16 and _computes_in_bfloat16() else "float32"
        trunk_precision = precision
    elif precision == "mixed":
        precision = "bfloat16" if _computes_in_bfloat16() else "float32"
        trunk_precision = "float32"
    if trained == "all":
        precision = trunk_precision
    network = Network(found, trunk, tail, precision, trunk_precision, trained)
    network.name_trunk()  # by the weights as they came, before they are folded
    fold_normalisation(trunk)
    network.to(memory_format=torch.channels_last)
    return network.to("cuda" if torch.cuda.is_available() else "cpu")


def _computes_in_bfloat16() -> bool:
    """Return whether the processor or the GPU multiplies bfloat16 matrices itself; emulating that is slow."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def use_threads(count: int) -> None:
    """Let this process compute on `count` cores; 0 leaves it to torch, which takes all."""
    if count:
        torch.set_num_threads(count)
