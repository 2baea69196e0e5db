from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from ml_backend.errors import NotEnoughLabels, VersionUnknown
from ml_backend.msml.build import build as build_msml
from ml_backend.msml.finetune import finetune, from_bank, from_frames
from studies.comparison import LEARNING_RATES, ComparisonNetwork, Name, build
from tests.msml.conftest import assert_seeded

NAMES: list[Name] = ["POCOVID-Net", "NNBD-style"]
LABELS = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 0], [0, 1, 0]], np.uint8)


@pytest.fixture(scope="module", params=NAMES)
def shared(request: pytest.FixtureRequest) -> tuple[ComparisonNetwork, dict[str, NDArray[np.float32]]]:
    network = build(request.param, 3, "random", seed=4)
    return network, network.trainable_state()


@pytest.fixture
def network(shared: tuple[ComparisonNetwork, dict[str, NDArray[np.float32]]]) -> Iterator[ComparisonNetwork]:
    network, state = shared
    network.load_trainable_state(state)
    yield network
    network.load_trainable_state(state)


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    """Six frames whose labels are to be seen: noise of three textures, label by label, one of them twice."""
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 40, (6, 224, 224, 3)).astype(np.uint8)
    across, down = np.arange(224) // 8 % 2 == 0, (np.arange(224) // 8 % 2 == 0)[:, None]
    for frame, (first, second, third) in zip(frames, LABELS, strict=True):
        if first:
            frame[:112][np.broadcast_to(across, (112, 224))] = 220
        if second:
            frame[:112][np.broadcast_to(down[:112], (112, 224))] = 150
        if third:
            frame[:112] += 90
    return frames


@pytest.fixture
def activations(network: ComparisonNetwork, frames: NDArray[np.uint8]) -> NDArray[np.float16]:
    return network.activations(frames)


def _layers(module: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in module.modules() if not list(layer.children())]


def _training(network: ComparisonNetwork) -> set[str]:
    return {name for name, layer in network.named_modules() if layer.training and not list(layer.children())}


def test_pocovid_net_is_vgg16_with_its_last_convolution_and_head_trained() -> None:
    """block5_conv3: 3 * 3 * 512 * 512 + 512 = 2,359,808; dense: 512 * 64 + 64; normalisation: 2 * 64 and as many
    statistics; outputs: 64 * 4 + 4. With three outputs the original has 2,392,963 trainable weights: so have we."""
    network = build("POCOVID-Net", 4, "random")
    expected = {
        "tail.body.28.weight": (512, 512, 3, 3),
        "tail.body.28.bias": (512,),
        "tail.head.3.weight": (64, 512),
        "tail.head.3.bias": (64,),
        "tail.head.4.weight": (64,),
        "tail.head.4.bias": (64,),
        "tail.classifier.weight": (4, 64),
        "tail.classifier.bias": (4,),
    }
    assert {name: tuple(value.shape) for name, value in network.named_parameters() if value.requires_grad} == expected
    statistics = {"tail.head.4.running_mean": (64,), "tail.head.4.running_var": (64,)}
    assert {name: value.shape for name, value in network.trainable_state().items()} == expected | statistics
    assert sum(int(np.prod(shape)) for shape in expected.values()) == 2_392_963 + 65
    assert sum(value.numel() for value in network.parameters()) == 14_747_971 - 128 + 65
    head: Any = network.tail.head
    assert _layers(head) == [
        "MaxPool2d", "AvgPool2d", "Flatten", "Linear", "_Normalisation", "ReLU", "Dropout",
    ]  # fmt: skip
    assert head[-1].p == 0.5
    assert network.activation_shape == (512, 14, 14)


def test_pocovid_net_computes_what_its_layers_say(frames: NDArray[np.uint8]) -> None:
    network = build("POCOVID-Net", 3, "random", seed=2)
    vgg = build_msml("vgg16", 3, "random")
    activations = vgg.activations(frames[:2])
    assert np.array_equal(network.activations(frames[:2]), activations)
    assert network.trunk_key != vgg.trunk_key
    state = {name: torch.from_numpy(value) for name, value in network.trainable_state().items()}
    with torch.inference_mode():
        last = vgg.tail.body(torch.from_numpy(activations.astype(np.float32)))
        pooled = nn.functional.max_pool2d(last, 2)[:, :, :4, :4].mean((2, 3))
        dense = pooled @ state["tail.head.3.weight"].T + state["tail.head.3.bias"]
        # Its normalisation has seen nothing yet: mean 0, variance 1, and adds 1e-5 to the variance.
        logits = (dense / (1 + 1e-5) ** 0.5).relu() @ state["tail.classifier.weight"].T + state["tail.classifier.bias"]
    np.testing.assert_allclose(network.probabilities(activations), torch.sigmoid(logits).numpy(), atol=1e-5)


def test_nnbd_style_is_fully_convolutional_and_learns_everything() -> None:
    """3x3 convolutions 3-8, 8-8, 8-16, 16-16, 16-32, 32-32, 32-64, 64-64 without bias, a pair per normalisation."""
    network = build("NNBD-style", 4, None)
    channels = [(3, 8), (8, 8), (8, 16), (16, 16), (16, 32), (32, 32), (32, 64), (64, 64)]
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert [(layer.in_channels, layer.out_channels) for layer in convolutions] == channels
    weights = sum(9 * before * width + 2 * width for before, width in channels) + 64 * 4 + 4
    assert sum(value.numel() for value in network.parameters() if value.requires_grad) == weights
    assert sum(value.numel() for value in network.parameters()) == weights
    assert sum(value.size for value in network.trainable_state().values()) == weights + 2 * sum(w for _, w in channels)
    assert network.activation_shape == (3, 224, 224)
    with torch.inference_mode():
        assert network.tail.body(torch.zeros(1, 3, 224, 224)).shape == (1, 64, 7, 7)


def test_the_boundary_of_nnbd_style_is_the_normalised_frame(frames: NDArray[np.uint8]) -> None:
    activations = build("NNBD-style", 2, None).activations(frames[:2])
    np.testing.assert_allclose(activations, frames[:2].transpose(0, 3, 1, 2) / 127.5 - 1, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_new_layers_come_from_the_seed_and_torch_is_left_alone(name: Name) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, again, other = (build(name, 3, "random", seed=seed).trainable_state() for seed in (4, 4, 5))
    assert torch.equal(torch.rand(1), expected)
    assert all(np.array_equal(first[key], again[key]) for key in first)
    changed = {key.rsplit(".", 2)[-2] for key in first if not np.array_equal(first[key], other[key])}
    assert {"classifier"} < changed
    assert ("28" in changed) is False  # VGG16's convolution is that of the weights, whatever the seed


def test_dropout_is_off_and_normalisation_fixed_in_probabilities(
    network: ComparisonNetwork, activations: NDArray[np.float16]
) -> None:
    finetune(network, from_bank(activations[:, None]), LABELS, epochs=1, minimum_steps=2, learning_rate=0.01)
    assert _training(network) == set()
    first = network.probabilities(activations)
    assert np.array_equal(network.probabilities(activations), first)
    np.testing.assert_allclose(network.probabilities(activations[:1]), first[:1], atol=1e-5)


def test_training_mode_reaches_the_tail_only(network: ComparisonNetwork) -> None:
    network.train()
    assert {name.split(".")[0] for name in _training(network)} == {"tail"}
    assert not network.trunk.training
    network.train(False)
    assert _training(network) == set()


def test_it_learns_what_is_to_be_seen_and_nothing_frozen_moves(
    network: ComparisonNetwork, activations: NDArray[np.float16]
) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes: list[set[str]] = []
    losses = finetune(
        network,
        from_bank(activations[:, None]),
        LABELS,
        epochs=30,
        minimum_steps=1,
        learning_rate=0.05,
        progress=lambda *_: modes.append(_training(network)),
    )
    assert losses[-1] < 0.6 * losses[0]
    assert not any(modes)  # whoever asks for probabilities after an epoch gets them without dropout
    assert np.array_equal(network.probabilities(activations) > 0.5, LABELS)
    state = network.trainable_state()
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert {name for name in changed if not name.endswith("num_batches_tracked")} == set(state)


def test_the_same_seed_gives_the_same_weights(network: ComparisonNetwork, activations: NDArray[np.float16]) -> None:
    start = network.trainable_state()
    results = []
    torch.manual_seed(1)
    for seed in (5, 5, 6):
        network.load_trainable_state(start)
        sample = from_bank(activations[:, None])
        finetune(network, sample, LABELS, epochs=2, minimum_steps=1, batch_size=3, seed=seed)
        results.append(network.trainable_state())
    assert_seeded(*results)
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), drawn)


def test_dropout_is_on_in_training_and_drawn_from_the_seed() -> None:
    """All six rows are equal and in one batch: what differs between seeds is dropout alone."""
    network = build("POCOVID-Net", 3, "random", seed=4)
    start = network.trainable_state()
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.normal(0, 1, (1, 512, 14, 14)).astype(np.float16), 6, axis=0)
    first_losses = []
    for seed in (1, 1, 2):
        network.load_trainable_state(start)
        # Equal rows leave nothing after normalisation but its bias, which must be more than nothing to be dropped.
        with torch.no_grad():
            head: Any = network.tail.head
            head[4].bias.fill_(1.0)
        losses = finetune(network, from_bank(rows[:, None]), LABELS, epochs=1, minimum_steps=1, seed=seed)
        first_losses.append(losses[0])
    assert first_losses[0] == first_losses[1] != first_losses[2]


def test_a_last_batch_of_one_frame_is_trained_on(network: ComparisonNetwork, activations: NDArray[np.float16]) -> None:
    losses = finetune(network, from_bank(activations[:, None]), LABELS, epochs=1, minimum_steps=1, batch_size=5)
    assert np.isfinite(losses).all()
    assert all(np.isfinite(value).all() for value in network.trainable_state().values())


def test_when_it_fails_weights_statistics_and_mode_are_as_before(
    network: ComparisonNetwork, activations: NDArray[np.float16]
) -> None:
    before = network.trainable_state()
    calls = 0

    def sample(rows: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.float16]:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return activations[rows]

    with pytest.raises(KeyboardInterrupt):
        finetune(network, sample, LABELS, learning_rate=0.1)
    after = network.trainable_state()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert _training(network) == set()
    with pytest.raises(NotEnoughLabels):
        finetune(network, sample, LABELS[[0, 0]])


def test_augmentation_on_the_fly_passes_the_trunk_in_evaluation_mode(
    network: ComparisonNetwork, frames: NDArray[np.uint8]
) -> None:
    digest = hashlib.sha256(b"".join(value.numpy().tobytes() for value in network.trunk.state_dict().values()))
    losses = finetune(network, from_frames(network, frames), LABELS, epochs=1, minimum_steps=1)
    after = hashlib.sha256(b"".join(value.numpy().tobytes() for value in network.trunk.state_dict().values()))
    assert np.isfinite(losses).all()
    assert digest.digest() == after.digest()


def test_saved_and_loaded_it_answers_the_same(
    network: ComparisonNetwork, activations: NDArray[np.float16], tmp_path: Path
) -> None:
    finetune(network, from_bank(activations[:, None]), LABELS, epochs=1, minimum_steps=3, learning_rate=0.05)
    path = tmp_path / "tail.safetensors"
    network.save_tail(path, {})
    name: Name = "NNBD-style" if network.backbone.name == "NNBD-style" else "POCOVID-Net"
    other = build(name, 3, "random", seed=9)
    assert not np.allclose(other.probabilities(activations), network.probabilities(activations))
    other.load_tail(path)
    assert np.array_equal(other.probabilities(activations), network.probabilities(activations))
    stranger = build("POCOVID-Net" if name == "NNBD-style" else "NNBD-style", 3, "random")
    with pytest.raises(VersionUnknown, match=f"trained on backbone {name}"):
        stranger.load_tail(path)


def test_every_network_has_its_learning_rate() -> None:
    assert LEARNING_RATES.keys() == set(NAMES)
    assert set(NAMES) == set(get_args(Name))
