"""Levels: where a trunk is cut, and what is told of the maps there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from ml_backend.msml.levels import pooled, stages
from ml_backend.msml.network import Network

from .conftest import Pair

PICTURE = (3, 32, 32)


def steps(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers).eval()


def test_a_trunk_is_cut_where_the_shape_of_its_maps_changes() -> None:
    trunk = steps(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.MaxPool2d(2), nn.Conv2d(4, 6, 1), nn.ReLU())
    found = stages(trunk, PICTURE)
    assert [one.shape for one in found] == [(3, 32, 32), (4, 32, 32), (4, 16, 16)]
    assert [len(list(one.layers.children())) for one in found] == [3, 1, 2]


def test_the_last_stages_count_and_nothing_is_lost() -> None:
    trunk = steps(*(nn.Conv2d(channels, channels + 1, 1) for channels in range(3, 9)))
    found = stages(trunk, PICTURE, 2)
    assert [one.shape[0] for one in found] == [3, 8]
    maps = torch.randn(2, *PICTURE)
    with torch.inference_mode():
        torch.testing.assert_close(found[1].layers(found[0].layers(maps)), trunk(maps))


def test_a_trunk_that_is_no_sequence_is_one_stage() -> None:
    trunk = nn.Identity()
    assert stages(trunk, PICTURE) == [(trunk, PICTURE)]


def test_a_level_has_the_means_and_then_the_deviations() -> None:
    maps = torch.tensor([[[[1.0, 3.0]], [[5.0, 5.0]]]])
    assert pooled(maps).tolist() == [[2.0, 5.0, 1.0, 0.0]]


def test_the_levels_of_lite0_are_those_of_its_blocks(lite: Network, images: NDArray[np.uint8]) -> None:
    seen: list[torch.Tensor] = []
    with torch.inference_mode():
        maps = lite._normalised(torch.tensor(images))
        for place, block in enumerate(lite.trunk.children()):
            maps = block(maps)
            if place in (7, 10, 13, 17):
                seen.append(pooled(maps))
    assert lite.level_widths == (80, 160, 224, 384)
    found = lite.levels(images)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, torch.cat(seen, dim=1).numpy(), rtol=2e-3, atol=2e-3)


def test_every_backbone_has_levels(pair: Pair, images: NDArray[np.uint8]) -> None:
    network = pair.network
    found = network.levels(images)
    assert found.shape == (3, sum(network.level_widths))
    assert len(network.level_widths) == 4
    last = network.activations(images).astype(np.float32).mean(axis=(2, 3))
    width = network.activation_shape[0]
    scale = float(np.abs(last).max())
    np.testing.assert_allclose(found[:, -2 * width : -width], last, atol=1e-2 * scale)


@pytest.mark.parametrize("count", [0, 1, 9])
def test_any_number_of_frames(lite: Network, count: int) -> None:
    assert lite.levels(np.zeros((count, 224, 224, 3), np.uint8)).shape == (count, 848)
