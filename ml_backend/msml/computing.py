"""Make fast copies of a network's layers for inference: fused, with weights stored at the precision of the computation.

Nothing is fused on a GPU.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from ml_backend.msml import frames
from ml_backend.msml.folding import fold_normalisation
from ml_backend.msml.fused import fused
from ml_backend.msml.levels import Stage, stages


def computing_stages(trunk: nn.Module, precision: str, batch: int) -> list[Stage]:
    """Return fast stages of a trunk for ``batch`` frames; weights are converted once, not by autocast at each call."""
    kind = torch.float32
    if precision == "bfloat16":
        trunk, kind = copy.deepcopy(trunk).to(torch.bfloat16), torch.bfloat16
    found = stages(trunk, frames.SHAPE[::-1])
    if not _on_cpu(trunk):
        return found
    return [one._replace(layers=fused(one.layers, kind, (batch, *one.shape))) for one in found]


def computing_body(body: nn.Module, precision: str, shape: Sequence[int]) -> nn.Module:
    """Return a fast copy of a tail's body for activations of this ``shape`` (n, c, h, w)."""
    if not _on_cpu(body):
        return body
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
    body = copy.deepcopy(body).requires_grad_(False)
    fold_normalisation(body)
    return fused(body.to(kind), kind, shape)


def _on_cpu(module: nn.Module) -> bool:
    return all(value.device.type == "cpu" for value in module.parameters())
