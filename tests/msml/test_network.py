from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from numpy.typing import NDArray

from ml_backend.errors import VersionUnknown
from ml_backend.msml import backbones
from ml_backend.msml import build as build_module
from ml_backend.msml.build import build
from ml_backend.msml.finetune import finetune, from_bank, from_frames
from ml_backend.msml.network import TAIL_BATCH, Network, Precision, Tail, Trained

from .conftest import Pair

RESNET = "body.{0}.weight body.{1}.weight body.{1}.bias body.{2}.weight body.{3}.weight body.{3}.bias"
TRAINED = {
    "resnet50": RESNET.format("conv2", "bn2", "conv3", "bn3").split(),
    "resnet101": RESNET.format("conv2", "bn2", "conv3", "bn3").split(),
    "resnet34": RESNET.format("conv1", "bn1", "conv2", "bn2").split(),
    "vgg16": ["body.26.weight", "body.26.bias", "body.28.weight", "body.28.bias"],
    "efficientnet_lite0": RESNET.format("0._project_conv", "0._bn2", "1", "2").split(),
}
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
LITE0 = ((127 / 255,) * 3, (128 / 255,) * 3)


def _tensors(network: Network) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def _channels_first(images: NDArray[np.uint8], name: str) -> torch.Tensor:
    mean, std = LITE0 if name == "efficientnet_lite0" else IMAGENET
    scaled = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32)) / 255
    return (scaled - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def test_trunk_and_tail_are_the_whole_backbone(pair: Pair, images: NDArray[np.uint8]) -> None:
    network = pair.network
    with torch.inference_mode():
        expected = pair.features(_channels_first(images, pair.name))
        crossing = network.trunk(_channels_first(images, pair.name))
        features = network.tail.features(crossing)
        whole = torch.sigmoid(network(torch.from_numpy(images.copy())))
        classified = torch.sigmoid(
            expected @ network.tail.classifier.weight.T.contiguous() + network.tail.classifier.bias
        )
    assert crossing.shape == (3, *network.activation_shape)
    assert expected.std() > 0.01
    scale = float(expected.abs().max())
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5 * scale)
    torch.testing.assert_close(whole, classified, rtol=1e-3, atol=1e-4)


def test_probabilities_through_float16_activations_are_those_of_the_whole_network(
    pair: Pair, images: NDArray[np.uint8]
) -> None:
    network = pair.network
    activations = network.activations(images)
    probabilities = network.probabilities(activations)
    with torch.inference_mode():
        whole = torch.sigmoid(network(torch.from_numpy(images.copy()))).numpy()
    assert activations.dtype == np.float16
    assert activations.shape == (3, *network.activation_shape)
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (3, 4)
    np.testing.assert_allclose(probabilities, whole, atol=0.01)
    assert len(np.unique(probabilities[:, 0])) == 3


def test_probabilities_are_those_of_the_tail_step_by_step(pair: Pair, images: NDArray[np.uint8]) -> None:
    network = pair.network
    activations = network.activations(images)
    with torch.inference_mode():
        expected = torch.sigmoid(network.tail(network.tensor(activations))).numpy()
    np.testing.assert_allclose(network.probabilities(activations), expected, atol=1e-4)


def test_probabilities_follow_every_weight_that_training_changes(lite: Network, images: NDArray[np.uint8]) -> None:
    activations = lite.activations(images)
    seen = [lite.probabilities(activations)]
    for parameter in lite.parameters():
        if parameter.requires_grad:
            with torch.no_grad():
                parameter.mul_(1.01).add_(0.001)
            seen.append(lite.probabilities(activations))
            with torch.inference_mode():
                expected = torch.sigmoid(lite.tail(lite.tensor(activations))).numpy()
            np.testing.assert_allclose(seen[-1], expected, atol=1e-4)
    assert len({one.tobytes() for one in seen}) == len(seen) == 1 + len(TRAINED["efficientnet_lite0"]) + 2


def test_a_network_that_has_computed_can_be_copied(lite: Network, images: NDArray[np.uint8]) -> None:
    expected = lite.probabilities(lite.activations(images))
    other = copy.deepcopy(lite)
    np.testing.assert_array_equal(other.probabilities(other.activations(images)), expected)
    with torch.no_grad():
        other.tail.classifier.bias.add_(1)
    assert (other.probabilities(other.activations(images)) > expected).all()
    np.testing.assert_array_equal(lite.probabilities(lite.activations(images)), expected)


def test_the_tail_computes_in_fused_steps_that_are_made_once(lite: Network, images: NDArray[np.uint8]) -> None:
    activations = lite.activations(images)
    lite.probabilities(activations)
    body = lite._computing_body()
    steps = [str(node.target) for node in body.body.graph.nodes if node.op.startswith("call")]  # type: ignore[union-attr]
    assert sum("convolution_pointwise" in one for one in steps) == 4
    lite.probabilities(activations)
    assert lite._computing_body() is body


def test_golden_step_changes_the_last_three_layers_and_nothing_else(pair: Pair, images: NDArray[np.uint8]) -> None:
    """One step of fine-tuning, every tensor compared: weights, and normalisation's running statistics and counters."""
    network = pair.network
    state = network.trainable_state()
    before = _tensors(network)
    labels = np.array([[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]], dtype=np.uint8)
    losses = finetune(network, from_frames(network, images), labels, epochs=1, minimum_steps=1, learning_rate=0.1)
    after = _tensors(network)
    network.load_trainable_state(state)
    expected = {f"tail.{name}" for name in [*TRAINED[pair.name], "classifier.weight", "classifier.bias"]}
    assert len(losses) == 1
    assert {name for name in before if not torch.equal(before[name], after[name])} == expected
    assert set(state) == expected


def test_head_trains_the_classifier_alone(images: NDArray[np.uint8], lite: Network) -> None:
    network = build("efficientnet_lite0", 4, trained="head")
    classifier = {"tail.classifier.weight", "tail.classifier.bias"}
    assert np.array_equal(network.activations(images), lite.activations(images))
    before = _tensors(network)
    labels = np.eye(4, dtype=np.uint8)[:3]
    losses = finetune(network, from_frames(network, images), labels, epochs=1, minimum_steps=3, learning_rate=0.1)
    after = _tensors(network)
    assert losses[-1] < losses[0]
    assert {name for name in before if not torch.equal(before[name], after[name])} == classifier
    assert {name: value.shape for name, value in network.trainable_state().items()} == {
        "tail.classifier.weight": (4, 1280),
        "tail.classifier.bias": (4,),
    }
    assert network.trunk_key != lite.trunk_key  # a version of the other has weights that this one never learns


def test_all_trains_every_weight_and_no_statistic(images: NDArray[np.uint8], lite: Network) -> None:
    network = build("efficientnet_lite0", 4, trained="all")
    original = EfficientNet.from_name("efficientnet-lite0")
    wanted = {name for name, _ in original.named_parameters() if not name.startswith("_fc")}
    activations = network.activations(images)
    assert network.activation_shape == activations.shape[1:] == (3, 224, 224)
    np.testing.assert_allclose(activations, _channels_first(images, "efficientnet_lite0"), atol=1e-3)
    np.testing.assert_allclose(
        network.probabilities(activations), lite.probabilities(lite.activations(images)), atol=0.02
    )
    before = _tensors(network)
    labels = np.eye(4, dtype=np.uint8)[:3]
    losses = finetune(network, from_bank(activations[:, None]), labels, epochs=1, minimum_steps=3, learning_rate=0.01)
    after = _tensors(network)
    assert losses[-1] < losses[0]
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == set(network.trainable_state())
    assert len(changed) == len(wanted) + 2
    assert not any("running" in name or "num_batches" in name for name in changed)
    assert sum(value.size for value in network.trainable_state().values()) == (
        sum(value.numel() for name, value in original.named_parameters() if name in wanted) + 4 * 1280 + 4
    )


def test_all_keeps_the_normalisations_that_a_frozen_trunk_does_without() -> None:
    network = build("resnet34", 2, weights="random", trained="all")
    normalisations = [layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    assert len(normalisations) == 36
    assert all(parameter.requires_grad for layer in normalisations for parameter in layer.parameters())


def test_a_whole_network_trained_is_saved_and_loaded(images: NDArray[np.uint8], tmp_path: Path) -> None:
    network = build("efficientnet_lite0", 2, trained="all")
    activations = network.activations(images)
    labels = np.array([[0, 1], [1, 0], [1, 1]], np.uint8)
    sample = from_bank(activations[:, None])
    finetune(network, sample, labels, epochs=1, minimum_steps=1, learning_rate=0.01)
    network.save_tail(tmp_path / "tail.safetensors", {})
    other = build("efficientnet_lite0", 2, seed=8, trained="all")
    other.load_tail(tmp_path / "tail.safetensors")
    assert np.array_equal(other.probabilities(activations), network.probabilities(activations))
    with pytest.raises(VersionUnknown, match="trained on trunk_key"):
        build("efficientnet_lite0", 2).load_tail(tmp_path / "tail.safetensors")


def test_training_mode_cannot_be_switched_on(lite: Network) -> None:
    assert lite.train() is lite
    assert not any(layer.training for layer in lite.modules())


def test_batches_do_not_matter(lite: Network, images: NDArray[np.uint8]) -> None:
    many = np.concatenate([images] * 12)
    activations = lite.activations(many)
    assert activations.shape == (36, 192, 7, 7)
    np.testing.assert_allclose(activations[33:], activations[:3], atol=0.02)
    stacked = np.concatenate([activations[:3]] * 90)
    np.testing.assert_allclose(lite.probabilities(stacked)[-3:], lite.probabilities(activations[:3]), atol=1e-4)


def test_an_empty_pool_is_no_special_case(lite: Network) -> None:
    activations = lite.activations(np.empty((0, 224, 224, 3), np.uint8))
    assert activations.shape == (0, 192, 7, 7)
    assert lite.probabilities(activations).shape == (0, 4)
    assert lite.embed(activations).shape == (0, 512)


def test_activations_beyond_float16_stay_finite(images: NDArray[np.uint8]) -> None:
    network = build("efficientnet_lite0", 2)
    with torch.no_grad():
        trunk: Any = network.trunk
        trunk[-1]._project_conv.weight *= 1e6
    activations = network.activations(images)
    assert np.isfinite(activations).all()
    assert activations.max() == np.finfo(np.float16).max


def test_what_is_computed_does_not_alias_or_need_writable_input(lite: Network, images: NDArray[np.uint8]) -> None:
    locked = images.copy()
    locked.flags.writeable = False
    activations = lite.activations(locked)
    activations.flags.writeable = False
    assert lite.probabilities(activations).flags.writeable


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((1, 224, 224, 3), np.float32), np.zeros((1, 3, 224, 224), np.uint8), np.zeros((224, 224, 3), np.uint8)],
)
def test_frames_of_another_kind_are_refused(lite: Network, wrong: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="uint8"):
        lite.activations(wrong)


def test_activations_of_another_shape_are_refused(lite: Network) -> None:
    with pytest.raises(ValueError, match=r"192, 7, 7"):
        lite.probabilities(np.zeros((1, 2048, 7, 7), np.float32))


def test_classifier_comes_from_the_seed() -> None:
    first, again, other = (build("efficientnet_lite0", 3, seed=seed).trainable_state() for seed in (4, 4, 5))
    name = "tail.classifier.weight"
    assert first[name].shape == (3, 1280)
    assert np.array_equal(first[name], again[name])
    assert not np.array_equal(first[name], other[name])
    assert np.array_equal(first["tail.body.1.weight"], other["tail.body.1.weight"])


def test_weights_converted_once_give_nearly_what_weights_converted_each_time_give() -> None:
    network = build("resnet34", 4, "random", precision="bfloat16")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), np.uint8)
    computed = network.activations(pixels)
    with torch.inference_mode(), network._autocast("bfloat16"):
        expected = network.trunk(network._normalised(torch.tensor(pixels))).float().half().numpy()
    np.testing.assert_allclose(computed, expected, atol=0.02 * float(np.abs(expected).max()))
    assert {parameter.dtype for parameter in network.trunk.parameters()} == {torch.float32}


def test_bfloat16_gives_nearly_the_same_probabilities(lite: Network, images: NDArray[np.uint8]) -> None:
    fast = build("efficientnet_lite0", 4, precision="bfloat16")
    expected = lite.probabilities(lite.activations(images))
    found = fast.probabilities(fast.activations(images))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=0.05)
    assert not np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("able", "name", "precision", "trained", "expected"),
    [
        (True, "efficientnet_lite0", "auto", "last three", ("float32", "float32")),
        (True, "efficientnet_lite0", "mixed", "last three", ("bfloat16", "float32")),
        (False, "efficientnet_lite0", "mixed", "last three", ("float32", "float32")),
        (True, "efficientnet_lite0", "mixed", "all", ("float32", "float32")),  # the tail is the whole network then
        (True, "efficientnet_lite0", "bfloat16", "last three", ("bfloat16", "bfloat16")),
        (True, "efficientnet_lite0", "float32", "last three", ("float32", "float32")),
        (True, "resnet34", "auto", "last three", ("bfloat16", "bfloat16")),
        (False, "efficientnet_lite0", "auto", "last three", ("float32", "float32")),
        (False, "resnet34", "auto", "last three", ("float32", "float32")),
    ],
)
def test_precisions_of_tail_and_trunk(
    able: bool,
    name: str,
    precision: Precision,
    trained: Trained,
    expected: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What the processor can do is the machine's; everything else is the network's own.
    monkeypatch.setattr(build_module, "_computes_in_bfloat16", lambda: able)
    weights = None if name == "efficientnet_lite0" else "random"
    network = build(name, 2, weights, precision=precision, trained=trained)
    assert (network.precision, network.trunk_precision) == expected


def test_mixed_keeps_the_trunk_of_lite0_exact_and_its_tail_close(
    lite: Network, images: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_module, "_computes_in_bfloat16", lambda: True)
    mixed = build("efficientnet_lite0", 4, precision="mixed")
    activations = mixed.activations(images)
    np.testing.assert_array_equal(activations, lite.activations(images))
    found, expected = mixed.probabilities(activations), lite.probabilities(activations)
    np.testing.assert_allclose(found, expected, atol=0.01)
    assert not np.array_equal(found, expected)
    assert mixed.trunk_key == lite.trunk_key


def test_batches_of_the_tail_do_not_show(lite: Network, images: NDArray[np.uint8]) -> None:
    activations = lite.activations(images)
    many = activations[np.arange(TAIL_BATCH + 5) % 3]
    found = lite.probabilities(many)
    np.testing.assert_allclose(found, lite.probabilities(activations)[np.arange(len(many)) % 3], atol=1e-6)


def test_trunk_key_is_the_same_in_another_process(lite: Network) -> None:
    code = "from ml_backend.msml.build import build; print(build('efficientnet_lite0', 2, seed=9).trunk_key)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert found == lite.trunk_key
    assert len(found) == 32


@pytest.mark.parametrize(
    "name", ["trunk.0.weight", "trunk.1.running_mean", "tail.body.0._expand_conv.weight", "tail.body.2.running_var"]
)
def test_trunk_key_depends_on_every_frozen_tensor(lite: Network, name: str) -> None:
    backbone, trunk, body = backbones.load("efficientnet_lite0")
    other = Network(backbone, trunk, Tail(body, backbone.features, 4))
    weights = other.state_dict()[name].select(0, 0)
    before = weights.clone()
    with torch.no_grad():
        weights.add_(0.5)
    assert other.trunk_key != lite.trunk_key
    with torch.no_grad():
        weights.copy_(before)
    other._trunk_key = None
    assert other.trunk_key == lite.trunk_key  # named by the weights as they came, folded or not


def test_the_trunk_has_no_normalisation_of_its_own(pair: Pair) -> None:
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in pair.network.trunk.modules())
    learnt = any(isinstance(layer, torch.nn.BatchNorm2d) for layer in pair.network.tail.modules())
    assert learnt == (pair.name != "vgg16")


def test_trunk_key_depends_on_the_preprocessing(lite: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ml_backend.msml.frames.PREPROCESSING", "another")
    assert build("efficientnet_lite0", 4).trunk_key != lite.trunk_key


def test_saved_and_loaded_it_answers_the_same(lite: Network, images: NDArray[np.uint8], tmp_path: Path) -> None:
    labels = np.eye(4, dtype=np.uint8)[:3]
    finetune(lite, from_frames(lite, images), labels, epochs=1, minimum_steps=2, learning_rate=0.1)
    activations = lite.activations(images)
    path = tmp_path / "tail.safetensors"
    lite.save_tail(path, {"labels": '["A-line", "B-line"]', "version": "3"})
    other = build("efficientnet_lite0", 4, seed=77)
    metadata = other.load_tail(path)
    assert np.array_equal(other.probabilities(activations), lite.probabilities(activations))
    assert metadata["labels"] == '["A-line", "B-line"]'
    assert metadata["version"] == "3"
    assert metadata["backbone"] == "efficientnet_lite0"
    assert metadata["trunk_key"] == lite.trunk_key
    assert [file.name for file in tmp_path.iterdir()] == ["tail.safetensors"]
    assert path.stat().st_size < 4 * 1.1 * sum(value.size for value in lite.trainable_state().values())


def test_the_state_is_a_copy(lite: Network) -> None:
    state = lite.trainable_state()
    state["tail.classifier.bias"][:] = 7
    assert not (lite.trainable_state()["tail.classifier.bias"] == 7).any()


def test_a_tail_of_another_network_is_refused_and_changes_nothing(lite: Network, tmp_path: Path) -> None:
    path = tmp_path / "tail.safetensors"
    lite.save_tail(path, {})

    def refused(network: Network, reason: str) -> None:
        before = network.trainable_state()
        with pytest.raises(VersionUnknown, match=reason):
            network.load_tail(path)
        after = network.trainable_state()
        assert all(np.array_equal(before[name], after[name]) for name in before)

    refused(build("efficientnet_lite0", 3), r"classifier.weight have shape \(4, 1280\), this network's \(3, 1280\)")
    refused(build("resnet34", 4, weights="random"), "trained on backbone efficientnet_lite0, this network has resnet34")
    refused(build("efficientnet_lite0", 4, weights="random"), "trained on trunk_key")
    path.write_bytes(path.read_bytes()[:-100])
    refused(lite, "cannot be read")
    path.unlink()
    refused(lite, "cannot be read")


def test_a_state_that_does_not_fit_changes_nothing(lite: Network) -> None:
    state = lite.trainable_state()
    bias = "tail.classifier.bias"
    missing = {name: value + 1 for name, value in state.items() if name != bias}
    for wrong in (missing, missing | {bias: state[bias], "more": state[bias]}, missing | {bias: np.full(4, np.nan)}):
        with pytest.raises(VersionUnknown, match=r"bias|more"):
            lite.load_trainable_state(wrong)
    after = lite.trainable_state()
    assert all(np.array_equal(state[name], after[name]) for name in state)


def test_a_save_that_fails_leaves_the_old_file(lite: Network, tmp_path: Path) -> None:
    path = tmp_path / "tail"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(OSError, match="directory"):
        lite.save_tail(path, {})
    assert [file.name for file in tmp_path.iterdir()] == ["tail"]
