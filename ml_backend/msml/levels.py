"""Levels: what a frozen trunk finds at several depths, as the mean and the deviation of each channel over the picture.

The last layers of an ImageNet network know objects, and ultrasound has none. Lines and textures show before them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

COUNT = 4
"""Levels of a trunk that has at least so many sizes of maps."""


class Stage(NamedTuple):
    """Layers of a trunk, and the ``shape`` (channels, height, width) of the maps that they take."""

    layers: nn.Module
    shape: tuple[int, ...]


def stages(trunk: nn.Module, shape: Sequence[int], count: int = COUNT) -> list[Stage]:
    """Cut a trunk into at most `count` stages, each of which ends where the shape of the maps changes.

    ``shape`` (channels, height, width) is that of a picture. The last stage ends with the trunk. A trunk that is not a
    sequence of layers is one stage.
    """
    if not isinstance(trunk, nn.Sequential) or not len(trunk):
        return [Stage(trunk, tuple(shape))]
    shapes = [tuple(shape)]
    with torch.inference_mode():
        maps = next(trunk.parameters()).new_zeros(1, *shape).to(memory_format=torch.channels_last)
        for layer in trunk:
            maps = layer(maps)
            shapes.append(tuple(maps.shape[1:]))
    ends = [place for place in range(1, len(trunk)) if shapes[place] != shapes[place + 1]] + [len(trunk)]
    ends = ends[-count:]
    return [Stage(trunk[begin:end], shapes[begin]) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]


def pooled(maps: Tensor) -> Tensor:
    """Return the mean and the deviation of each channel, (n, 2 channels) float32, of maps (n, channels, h, w)."""
    values = maps.float()
    return torch.cat([values.mean(dim=(2, 3)), values.std(dim=(2, 3), correction=0)], dim=1)
