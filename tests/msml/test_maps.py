from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from ml_backend.errors import BackendError
from ml_backend.msml.backbones import BACKBONES
from ml_backend.msml.build import build
from ml_backend.msml.finetune import finetune, from_bank, from_frames
from ml_backend.msml.maps import Method, activation_maps, maps
from ml_backend.msml.network import Network, Tail
from studies.comparison import build as build_comparison

from .conftest import Pair

METHODS: list[Method] = ["Grad-CAM", "Grad-CAM++"]
LEFT, RIGHT = (56, 112), (168, 112)
RADIUS = 24
DISC, STRIPES = 0, 1
ROWS, COLUMNS = np.mgrid[:224, :224]


def _frame(
    rng: np.random.Generator, disc: tuple[int, int] | None, stripes: tuple[int, int] | None
) -> NDArray[np.uint8]:
    y, x = np.mgrid[:224, :224]
    frame = rng.integers(0, 20, (224, 224, 3)).astype(np.uint8)
    if disc is not None:
        frame[(x - disc[0]) ** 2 + (y - disc[1]) ** 2 < RADIUS**2] = 230
    if stripes is not None:
        frame[(abs(x - stripes[0]) < RADIUS) & (abs(y - stripes[1]) < RADIUS) & (y // 6 % 2 == 0)] = 230
    return frame


@pytest.fixture(scope="module", params=["efficientnet_lite0", "NNBD-style"])
def trained(request: pytest.FixtureRequest) -> Network:
    """A network that tells a disc (label 0) from stripes (label 1), wherever on the frame they are."""
    lite = request.param == "efficientnet_lite0"
    network = build("efficientnet_lite0", 2) if lite else build_comparison("NNBD-style", 2, None, seed=0)
    rng = np.random.default_rng(0)
    labels = np.array([(1, 0), (0, 1), (1, 1)] * 40, np.uint8)
    places = rng.integers(35, 190, (len(labels), 2, 2))
    frames = [
        _frame(rng, tuple(where[0]) if disc else None, tuple(where[1]) if stripes else None)
        for (disc, stripes), where in zip(labels, places, strict=True)
    ]
    bank = network.activations(np.stack(frames))[:, None]
    finetune(network, from_bank(bank), labels, epochs=1, minimum_steps=60, learning_rate=0.01 if lite else 0.05)
    return network


@pytest.mark.parametrize("method", METHODS)
def test_the_map_lies_where_the_only_bright_thing_is(trained: Network, method: Method) -> None:
    rng = np.random.default_rng(5)
    discs = np.stack([_frame(rng, place, None) for place in (LEFT, RIGHT)])
    stripes = np.stack([_frame(rng, None, place) for place in (LEFT, RIGHT)])
    for label, frames in ((DISC, discs), (STRIPES, stripes)):
        assert (trained.probabilities(trained.activations(frames))[:, label] > 0.5).all()
        left, right = maps(trained, frames, label, method)
        assert left[:, :112].sum() > 1.5 * left[:, 112:].sum()
        assert right[:, 112:].sum() > 1.5 * right[:, :112].sum()
        for found, (x, y) in ((left, LEFT), (right, RIGHT)):
            # The network sees 7x7 places, each 32 pixels wide; which of them is brightest depends on the processor.
            assert abs(np.average(ROWS, weights=found) - y) < 32
            assert abs(np.average(COLUMNS, weights=found) - x) < 32


@pytest.mark.parametrize("method", METHODS)
def test_each_label_has_its_own_map(trained: Network, method: Method) -> None:
    frame = _frame(np.random.default_rng(6), LEFT, RIGHT)[None]
    (disc,) = maps(trained, frame, DISC, method)
    (stripes,) = maps(trained, frame, STRIPES, method)
    assert disc[:, :112].sum() > 1.5 * disc[:, 112:].sum()
    assert stripes[:, 112:].sum() > 1.5 * stripes[:, :112].sum()


def test_grad_cam_worked_out_by_hand(lite: Network, images: NDArray[np.uint8]) -> None:
    """Behind the last convolutions only an average and one weight a channel follow: the gradient is that weight."""
    with torch.inference_mode():
        last = lite.tail.body(lite.tensor(lite.activations(images)))
        weighted = torch.einsum("ncij,c->nij", last, lite.tail.classifier.weight[2]).relu().numpy()
    low = weighted.min((1, 2), keepdims=True)
    expected = (weighted - low) / (weighted.max((1, 2), keepdims=True) - low)
    found = maps(lite, images, 2, "Grad-CAM")
    # The middle of each of the 7x7 squares, where 32 pixels meet around the value itself.
    middles = found.reshape(3, 7, 32, 7, 32)[:, :, 15:17, :, 15:17].mean((2, 4))
    assert expected.std() > 0.1
    np.testing.assert_allclose(middles, expected, atol=0.04)


@pytest.mark.parametrize("method", METHODS)
def test_every_backbone_gives_finite_maps(pair: Pair, images: NDArray[np.uint8], method: Method) -> None:
    found = maps(pair.network, images, 3, method)
    assert found.shape == (3, 224, 224)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1
    assert found.max() > 0.9  # one of the three frames has some evidence


def _lite_head() -> Network:
    return build("efficientnet_lite0", 4, trained="head")


def _lite_all() -> Network:
    return build("efficientnet_lite0", 4, trained="all")


def _lite_bfloat16() -> Network:
    return build("efficientnet_lite0", 4, precision="bfloat16")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("make", [_lite_head, _lite_all, _lite_bfloat16])
def test_what_is_trained_and_the_precision_hardly_change_a_map(
    make: Callable[[], Network], lite: Network, images: NDArray[np.uint8], method: Method
) -> None:
    np.testing.assert_allclose(maps(make(), images, 1, method), maps(lite, images, 1, method), atol=0.2)


@pytest.mark.parametrize("method", METHODS)
def test_pocovid_net_has_maps_too(images: NDArray[np.uint8], method: Method) -> None:
    """More than one layer and dropout lie between its last convolution and the outputs."""
    network = build_comparison("POCOVID-Net", 4, "random")
    found = maps(network, images, 0, method)
    assert np.isfinite(found).all()
    assert 0 <= found.min() < 0.1 < 0.9 < found.max() <= 1
    assert np.array_equal(maps(network, images, 0, method), found)


def test_batches_do_not_matter(lite: Network, images: NDArray[np.uint8]) -> None:
    many = maps(lite, np.concatenate([images] * 4), 0, "Grad-CAM")
    np.testing.assert_allclose(many[9:], maps(lite, images, 0, "Grad-CAM"), atol=0.02)
    assert maps(lite, images[:0], 0, "Grad-CAM").shape == (0, 224, 224)


@pytest.mark.parametrize("method", METHODS)
def test_the_network_is_left_as_it_was(lite: Network, images: NDArray[np.uint8], method: Method) -> None:
    # Gradients that somebody left there are theirs.
    for parameter in lite.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.full_like(parameter, 0.25)
    tensors = {name: value.clone() for name, value in lite.state_dict().items()}
    wanted = {name: parameter.requires_grad for name, parameter in lite.named_parameters()}
    training = [layer.training for layer in lite.modules()]
    maps(lite, images, 0, method)
    assert all(torch.equal(tensors[name], value) for name, value in lite.state_dict().items())
    assert {name: parameter.requires_grad for name, parameter in lite.named_parameters()} == wanted
    for parameter in lite.parameters():
        assert (parameter.grad is not None) == parameter.requires_grad
        assert parameter.grad is None or bool((parameter.grad == 0.25).all())
        parameter.grad = None
    assert [layer.training for layer in lite.modules()] == training
    for layer in lite.modules():
        assert not layer._forward_hooks
        assert not layer._backward_hooks
    losses = finetune(lite, from_frames(lite, images), np.eye(4, dtype=np.uint8)[:3], epochs=1, minimum_steps=1)
    assert np.isfinite(losses).all()


@pytest.mark.parametrize("label", [-1, 4])
def test_an_unknown_label_is_refused(lite: Network, images: NDArray[np.uint8], label: int) -> None:
    with pytest.raises(ValueError, match=f"from 0 to 3, not {label}"):
        maps(lite, images, label, "Grad-CAM")


def test_without_the_library_the_error_says_what_to_install(
    lite: Network, images: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    with pytest.raises(BackendError, match=r"grad-cam .* --requirement requirements/development\.txt"):
        maps(lite, images, 0, "Grad-CAM")


def test_an_activation_map_is_what_each_place_adds_to_the_logit() -> None:
    tail = Tail(nn.Identity(), 2, 2)
    with torch.no_grad():
        tail.classifier.weight.copy_(torch.tensor([[1.0, 10.0], [-1.0, 0.5]]))
    shape = replace(BACKBONES["efficientnet_lite0"], boundary=(2, 1, 2), features=2)
    network = Network(shape, nn.Identity(), tail, trained="head")
    first, second = [[1.0, 2.0]], [[3.0, 4.0]]  # two channels of one row of two places
    with torch.no_grad():
        tail.classifier.bias.copy_(torch.tensor([-36.5, 0.0]))
    probabilities, found = activation_maps(network, np.array([[first, second]], np.float32))
    assert probabilities[0].tolist() == pytest.approx([0.5, 1 / (1 + np.exp(-0.25))])
    assert found.tolist() == [[[[31.0, 42.0]], [[0.5, 0.0]]]]


def test_the_mean_of_activation_maps_gives_the_probabilities(pair: Pair, images: NDArray[np.uint8]) -> None:
    network = pair.network
    activations = network.activations(images)
    probabilities, found = activation_maps(network, activations)
    assert found.shape[:2] == (3, network.label_count)
    np.testing.assert_allclose(probabilities, network.probabilities(activations), atol=1e-6)
    bias = network.tail.classifier.bias.detach().numpy()
    logits = found.mean(axis=(2, 3)) + bias
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), probabilities, atol=1e-5)
