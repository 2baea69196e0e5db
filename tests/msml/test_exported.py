"""A network as a file: that it says what the network says, without this package, and tells nothing of this machine."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from ml_backend.errors import ExportFailed, ExtraMissing
from ml_backend.loop.model_card import EXAMPLES
from ml_backend.msml import exported
from ml_backend.msml.build import build
from ml_backend.msml.exported import FILE_OF, LIBRARIES, OPSET, Format, Whole
from ml_backend.msml.frames import decode
from ml_backend.msml.network import Network, Tail

ROOT = Path(__file__).resolve().parents[2]
KINDS: tuple[Format, ...] = get_args(Format)
LABELS = ("A-line", "B | line", "lésion", "effusion")
FOUND = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "models.md").read_text(encoding="utf-8"), re.M | re.S)


@dataclass
class Written:
    """A file of a network, and the network."""

    kind: Format
    path: Path
    whole: Whole


@pytest.fixture(scope="module")
def network() -> Network:
    """A network that learns in its own layout and precision, with probabilities far from one half."""
    network = build("efficientnet_lite0", len(LABELS), precision="mixed", seed=3)
    state = network.trainable_state()
    rng = np.random.default_rng(3)
    state["tail.classifier.weight"] = rng.standard_normal(state["tail.classifier.weight"].shape).astype(np.float32)
    network.load_trainable_state(state)
    return network


@pytest.fixture(scope="module", params=KINDS)
def written(request: pytest.FixtureRequest, network: Network, tmp_path_factory: pytest.TempPathFactory) -> Written:
    kind: Format = request.param
    path = tmp_path_factory.mktemp(kind) / FILE_OF[kind]
    whole = Whole(network)
    exported.write(whole, path, kind, LABELS)
    return Written(kind, path, whole)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_it_says_what_the_network_says_of_any_number_of_frames(
    written: Written, network: Network, images: NDArray[np.uint8], count: int
) -> None:
    found = exported.opened(written.path, written.kind)(images[:count])
    assert found.shape == (count, len(LABELS))
    assert found.dtype == np.float32
    with torch.inference_mode():
        logits = network(torch.tensor(images[:count]))
    np.testing.assert_allclose(found, torch.sigmoid(logits).numpy(), atol=1e-5)
    assert np.ptp(found) > 0.5


def test_making_a_file_leaves_the_network_as_it_was(written: Written, network: Network) -> None:
    assert network.tail.classifier.weight.requires_grad
    (first, *_) = [layer for layer in network.trunk.modules() if isinstance(layer, nn.Conv2d)]
    assert first.weight.is_contiguous(memory_format=torch.channels_last)
    assert written.whole.network is not network


def test_the_same_network_gives_the_same_bytes(written: Written, network: Network, tmp_path: Path) -> None:
    exported.write(Whole(network), tmp_path / "again", written.kind, LABELS)
    assert (tmp_path / "again").read_bytes() == written.path.read_bytes()


def test_it_tells_nothing_of_this_machine(written: Written) -> None:
    content = written.path.read_bytes()
    for telling in (str(ROOT), sys.prefix, "ml_backend", "network.py"):
        assert telling.encode() not in content
    if written.kind == "torch-export":
        with zipfile.ZipFile(BytesIO(content)) as archive:
            # What torch.save writes is an archive in the archive, with a pickle in it.
            assert not [one for one in archive.namelist() if archive.read(one)[:4] == b"PK\x03\x04"]


def test_an_onnx_file_states_its_opset(written: Written) -> None:
    if written.kind == "onnx":
        model = onnx.load(written.path)
        onnx.checker.check_model(model, full_check=True)
        assert [(one.domain, one.version) for one in model.opset_import] == [("", OPSET)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_of_the_docs_is_that_of_the_card(kind: Format) -> None:
    assert FOUND.count(EXAMPLES[kind]) == 1
    assert len(EXAMPLES[kind].splitlines()) == 10


def test_the_example_of_the_docs_runs_without_this_package(written: Written, tmp_path: Path) -> None:
    (example,) = [text for text in FOUND if FILE_OF[written.kind] in text]
    (tmp_path / FILE_OF[written.kind]).write_bytes(written.path.read_bytes())
    # Large, so that it is read at a smaller size, and on its side: what a reader would get wrong.
    pixels = np.random.default_rng(0).integers(0, 256, (12, 17, 3), dtype=np.uint8).repeat(50, 0).repeat(60, 1)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "frame.jpg", exif=exif)
    (tmp_path / "example.py").write_text(example, encoding="utf-8")
    allowed = {"onnxruntime"} if written.kind == "onnx" else {"torch"}
    program = (
        "import runpy, sys; runpy.run_path('example.py'); "
        f"assert not { ({'ml_backend', 'torch', 'onnxruntime'} - allowed)!r} & set(sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-I", "-X", "utf8", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    printed = ast.literal_eval(ran.stdout)
    assert tuple(printed) == LABELS
    expected = written.whole.run(decode((tmp_path / "frame.jpg").read_bytes())[None])[0]
    np.testing.assert_allclose([*printed.values()], expected, atol=1e-4)


@pytest.mark.parametrize("missing", LIBRARIES)
def test_without_the_libraries_onnx_is_refused_and_torch_is_not(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ExtraMissing):
        exported.require("onnx")
    exported.require("torch-export")


class Undecided(nn.Module):
    """A layer that computes one thing or another, depending on what it sees: no graph can say that."""

    def forward(self, activations: Tensor) -> Tensor:
        return activations + 1 if activations.mean() > 0 else activations


def test_a_network_that_no_exporter_takes_is_named_as_such(network: Network, tmp_path: Path) -> None:
    body = nn.Sequential(Undecided(), network.tail.body)
    other = Network(network.backbone, network.trunk, Tail(body, network.backbone.features, 2))
    with pytest.raises(ExportFailed):
        exported.write(Whole(other), tmp_path / "file", "torch-export", LABELS[:2])
    assert not (tmp_path / "file").exists()
