"""A whole network as one file that runs without this package: from frames to probabilities, by ONNX or torch.export."""

from __future__ import annotations

import copy
import importlib
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ml_backend.errors import ExportFailed, ExtraMissing
from ml_backend.msml.frames import SHAPE
from ml_backend.msml.network import Network

Format = Literal["onnx", "torch-export"]
FILE_OF: dict[Format, str] = {"onnx": "model.onnx", "torch-export": "model.pt2"}
OPSET = 18
"""Of ONNX's operators: the oldest that torch's exporter writes without converting, so most runtimes read it."""
LABELS = "labels"
"""Where a file keeps the names of its outputs, as a JSON list: in ONNX's metadata, or as an extra file."""
LIBRARIES = ("onnx", "onnxscript", "onnx_ir", "onnxruntime")

Images = NDArray[np.uint8]
Run = Callable[[Images], NDArray[np.float32]]
"""Takes frames (n, 224, 224, 3) uint8 and returns the probability of each label (n, l), float32."""


class Whole(nn.Module):
    """A copy of a network on the CPU, in float32, with scaling before it and the sigmoid behind it."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        # torch.export cannot tell that weights whose channels lie last in memory are whole, and warns.
        self.network = copy.deepcopy(network).cpu().to(memory_format=torch.contiguous_format)
        self.eval()

    def forward(self, frames: Tensor) -> Tensor:
        """Return the probabilities (n, l) of uint8 frames (n, 224, 224, 3)."""
        return torch.sigmoid(self.network(frames))

    def run(self, images: Images) -> NDArray[np.float32]:
        """Return the probabilities (n, l) of frames (n, 224, 224, 3) uint8: no cache, and nothing is rounded."""
        return _run(self, images)


def require(kind: Format) -> None:
    """Raise ExtraMissing where a library that writes or runs this format is missing."""
    if kind != "onnx":
        return
    try:
        for name in LIBRARIES:
            importlib.import_module(name)
    except ImportError as error:
        raise ExtraMissing(
            f"ONNX needs more libraries ({error}): run `pip install onnx onnxscript onnx-ir onnxruntime`, or choose "
            "--format torch-export, which needs none of them"
        ) from error


def write(whole: Whole, path: Path, kind: Format, labels: Sequence[str]) -> None:
    """Write the network and the names of its outputs into one file; the same network gives the same bytes.

    Raises:
        ExportFailed: where the exporter cannot write it.
    """
    named = json.dumps(list(labels), ensure_ascii=False)
    (_write_onnx if kind == "onnx" else _write_torch)(whole, path, named)


def opened(path: Path, kind: Format) -> Run:
    """Open a file made by `write` the way users do: with onnxruntime, or with torch alone."""
    if kind == "onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda images: np.asarray(session.run(None, {"frames": images})[0], np.float32)
    module = torch.export.load(path).module()
    return lambda images: _run(module, images)


def _run(module: nn.Module, images: Images) -> NDArray[np.float32]:
    with torch.inference_mode():
        found: NDArray[np.float32] = module(torch.tensor(images)).numpy()
    return found


def _write_onnx(whole: Whole, path: Path, labels: str) -> None:
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    written = _traced(
        lambda example, shapes: torch.onnx.export(
            whole,
            example,
            dynamo=True,
            input_names=["frames"],
            output_names=["probabilities"],
            dynamic_shapes=shapes,
            opset_version=OPSET,
            verbose=False,
        )
    )
    # The exporter notes which line of which file each operator comes from: a path of this machine.
    ClearMetadataAndDocStringPass()(written.model)
    written.model.metadata_props[LABELS] = labels
    written.save(path, external_data=False)


def _write_torch(whole: Whole, path: Path, labels: str) -> None:
    program = _traced(lambda example, shapes: torch.export.export(whole, example, dynamic_shapes=shapes))
    for module in program.graph_module.modules():
        for node in module.graph.nodes:  # they carry the same paths
            node.meta = {name: value for name, value in node.meta.items() if name == "val"}
    program.example_inputs = None  # would be stored as a pickle
    content = io.BytesIO()  # with a path, its name would become part of the file
    torch.export.save(program, content, extra_files={LABELS: labels})
    path.write_bytes(content.getvalue())


def _traced(export: Callable[[tuple[Tensor], dict[str, Any]], Any]) -> Any:
    """Call an exporter with an example of two frames, of which there may be any number."""
    example = torch.zeros((2, *SHAPE), dtype=torch.uint8)
    try:
        return export((example,), {"frames": {0: torch.export.Dim("n")}})
    except Exception as error:  # another package's backbone makes the exporters raise errors of a dozen kinds
        brief = " ".join(str(error).split())[:200]
        raise ExportFailed(
            f"this network cannot be exported ({type(error).__name__}: {brief}): try the other --format"
        ) from error
