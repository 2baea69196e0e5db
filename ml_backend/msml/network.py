"""MSML: a pre-trained trunk that never changes, and a tail of the last three weight-holding layers that does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ml_backend.errors import VersionUnknown
from ml_backend.msml import frames, tail_file
from ml_backend.msml.backbones import Backbone
from ml_backend.msml.computing import computing_body, computing_stages
from ml_backend.msml.levels import Stage, pooled
from ml_backend.msml.sketch import sketch

Precision = Literal["auto", "float32", "bfloat16", "mixed"]
Trained = Literal["last three", "head", "all"]

# Batches that fit the processor's caches: ResNet50's trunk runs 15 to 30% faster with 8 frames than with 32 (2 cores,
# bfloat16), EfficientNet-Lite0's tail takes twice as long per frame with 256 as with 64.
TRUNK_BATCH = 8
TAIL_BATCH = 64
_LARGEST_FLOAT16 = float(np.finfo(np.float16).max)


class Tail(nn.Module):
    """The body's last two convolutions, global average pooling and one fully connected output per label."""

    def __init__(self, body: nn.Module, features: int, label_count: int) -> None:
        super().__init__()
        self.body = body
        self.classifier = nn.Linear(features, label_count)

    def features(self, activations: Tensor) -> Tensor:
        """Return the pooled features (n, features) of boundary activations (n, c, h, w)."""
        return self.pooled(self.body(activations))

    def pooled(self, maps: Tensor) -> Tensor:
        """Return the features (n, features) of the body's maps (n, features, h, w)."""
        return maps.mean(dim=(2, 3))

    def forward(self, activations: Tensor) -> Tensor:
        """Return the logits (n, labels) of boundary activations (n, c, h, w)."""
        logits: Tensor = self.classifier(self.features(activations))
        return logits


class Network(nn.Module):
    """MSML on one backbone: `trunk` and `tail`, with exactly one tensor crossing between them.

    Only the last two convolutions, their normalisation's affine pairs and the classifier require gradients, or with
    `trained` the classifier alone ("head") or everything in the tail ("all"); normalisation uses its pre-trained
    statistics always.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        trunk: nn.Module,
        tail: Tail,
        precision: Precision = "float32",
        trunk_precision: Precision | None = None,
        trained: Trained = "last three",
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.trunk = trunk
        self.tail = tail
        self.precision = precision
        self.trunk_precision = trunk_precision or precision
        self.register_buffer("mean", 255 * torch.tensor(backbone.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(backbone.std).view(3, 1, 1), persistent=False)
        self._trunk_key: str | None = None
        self._earlier_keys: tuple[str, ...] = ()
        # In tuples, or they would be parts of this network.
        self._computing: tuple[Stage, ...] | None = None
        self._body: tuple[tuple[tuple[int, int], ...], nn.Module] | None = None
        self.requires_grad_(False)
        for layer in _trained_layers(tail, trained):
            layer.requires_grad_(True)
        self.train(False)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what computes: a copy makes its own, because torch cannot copy packed weights."""
        return self.__dict__ | {"_computing": None, "_body": None}

    def train(self, mode: bool = True) -> Network:
        """Stay in evaluation mode whatever `mode` says: normalisation statistics are frozen."""
        return super().train(False)

    @property
    def label_count(self) -> int:
        """The number of outputs."""
        return self.tail.classifier.out_features

    @property
    def activation_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one frame's boundary activations."""
        return self.backbone.boundary

    @property
    def trunk_key(self) -> str:
        """32 hexadecimal digits that name backbone, preprocessing and every frozen weight; equal in every process."""
        if self._trunk_key is None:
            self._trunk_key = self._digest(frames.PREPROCESSING)
        return self._trunk_key

    def name_trunk(self) -> None:
        """Name the trunk by its weights as they are now."""
        self._trunk_key = self._digest(frames.PREPROCESSING)
        self._earlier_keys = tuple(map(self._digest, frames.EARLIER_PREPROCESSING))

    def fits(self, trunk_key: str | None) -> bool:
        """Whether trained weights fit this trunk: their ``trunk_key`` is its own, or the one that an earlier release
        gave to the same weights.
        """
        return trunk_key == self.trunk_key or trunk_key in self._earlier_keys

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (n, labels) of uint8 frames (n, 224, 224, 3), through the whole network."""
        logits: Tensor = self.tail(self.trunk(self._normalised(images)))
        return logits

    def activations(self, images: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Return what the trunk makes of frames (n, 224, 224, 3) uint8: boundary activations (n, c, h, w) float16.

        float16 always, so that a value is the same bits whether it was computed or read from a cache. Raises ValueError
        for another shape or dtype.
        """
        if images.dtype != np.uint8 or images.shape[1:] != frames.SHAPE:
            raise ValueError(f"frames must be uint8 (n, 224, 224, 3), not {images.dtype} {images.shape}")

        def forward(batch: NDArray[Any]) -> NDArray[np.float16]:
            *_, maps = self._passed(batch)
            return _float16(maps)

        result = np.empty((len(images), *self.activation_shape), np.float16)
        return self._batched(forward, images, TRUNK_BATCH, self.trunk_precision, result)

    @property
    def level_widths(self) -> tuple[int, ...]:
        """How many values each level of the trunk has: two for each channel."""
        stages = self._computing_stages()
        return (*(2 * stage.shape[0] for stage in stages[1:]), 2 * self.activation_shape[0])

    def levels(self, images: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Return what the trunk finds in frames (n, 224, 224, 3) uint8 at several depths, side by side: (n, d) float16.

        Each level has its channels' means and then their deviations, `level_widths` values in all.
        """

        def forward(batch: NDArray[Any]) -> NDArray[np.float16]:
            return _float16(torch.cat([pooled(maps) for maps in self._passed(batch)], dim=1))

        result = np.empty((len(images), sum(self.level_widths)), np.float16)
        return self._batched(forward, images, TRUNK_BATCH, self.trunk_precision, result)

    def probabilities(self, activations: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return every label's probability (n, labels), float32 in [0, 1], from boundary activations (n, c, h, w)."""

        body = self._computing_body()

        def forward(batch: NDArray[Any]) -> NDArray[np.float32]:
            features = self.tail.pooled(body(self.tensor(batch)))
            return _array(torch.sigmoid(self.tail.classifier(features).float()))

        result = np.empty((len(activations), self.label_count), np.float32)
        size = TRUNK_BATCH if isinstance(self.trunk, nn.Identity) else TAIL_BATCH
        return self._batched(forward, activations, size, self.precision, result)

    def embed(self, activations: NDArray[np.floating[Any]]) -> NDArray[np.float16]:
        """Return one vector a frame (n, 512), float16, of boundary activations: the `sketch`, it never changes."""
        return sketch(activations)

    def tensor(self, activations: NDArray[np.floating[Any]]) -> Tensor:
        """Return boundary activations (n, c, h, w) as the tail takes them; another shape raises ValueError."""
        if activations.shape[1:] != self.activation_shape:
            raise ValueError(f"activations must be (n, {self.activation_shape}), not {activations.shape}")
        copy = torch.from_numpy(np.array(activations, dtype=np.float32))
        # Autocast would convert them for every layer that reads them: in bfloat16 that was a third of the tail's time.
        kind = torch.bfloat16 if self.precision == "bfloat16" else torch.float32
        return copy.to(self.mean.device, kind, memory_format=torch.channels_last)

    def autocast(self) -> torch.autocast:
        """Return the context in which forward passes of the tail run at its precision."""
        return self._autocast(self.precision)

    def trainable_state(self) -> dict[str, NDArray[np.float32]]:
        """Return copies of the weights that training changes, by name."""
        return {name: _array(parameter.detach().contiguous()).copy() for name, parameter in self._trainable()}

    def load_trainable_state(self, state: Mapping[str, NDArray[np.float32]]) -> None:
        """Replace the weights that training changes; VersionUnknown, with nothing changed, if `state` does not fit."""
        own = dict(self._trainable())
        if own.keys() != state.keys():
            raise VersionUnknown(f"The weights are of other layers: {', '.join(sorted(own.keys() ^ state.keys()))}.")
        for name, parameter in own.items():
            if state[name].shape != tuple(parameter.shape):
                raise VersionUnknown(
                    f"The weights of {name} have shape {state[name].shape}, this network's {tuple(parameter.shape)}."
                )
            if not np.isfinite(state[name]).all():
                raise VersionUnknown(f"The weights of {name} are not finite: the version is damaged.")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(torch.from_numpy(np.array(state[name], dtype=np.float32)))

    def save_tail(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write the trained weights and `metadata` to `path` (safetensors), aside first and then moved into place.

        The same weights and metadata give the same bytes.
        """
        written = dict(metadata) | {"backbone": self.backbone.name, "trunk_key": self.trunk_key}
        tail_file.write(path, self.trainable_state(), written)

    def load_tail(self, path: Path, columns: Sequence[int | None] | None = None) -> dict[str, str]:
        """Load what `save_tail` wrote and return its metadata.

        ``columns`` names, for each output of this network, the output of the file that it starts from. An output with
        None keeps its weights, as `build` drew them from its seed. Without ``columns`` the outputs are the same.

        Raises VersionUnknown, changing nothing, for a missing or damaged file and for one of another backbone, trunk or
        number of labels.
        """
        state, metadata = tail_file.read(path)
        fits = self.fits(metadata.get("trunk_key"))
        for name, own in (("backbone", self.backbone.name), ("trunk_key", self.trunk_key)):
            if metadata.get(name) != own and not (name == "trunk_key" and fits):
                raise VersionUnknown(
                    f"{path} was trained on {name} {metadata.get(name)}, this network has {own}: set TSAL_BACKBONE and "
                    f"TSAL_WEIGHTS as they were then, or train a new version."
                )
        self.load_trainable_state(state if columns is None else self._with_outputs(state, columns))
        return metadata

    def _with_outputs(
        self, state: Mapping[str, NDArray[np.float32]], columns: Sequence[int | None]
    ) -> dict[str, NDArray[np.float32]]:
        grown = dict(state)
        own = self.trainable_state()
        for name in ("tail.classifier.weight", "tail.classifier.bias"):
            if name not in state:  # refused by whoever loads it
                continue
            for place, column in enumerate(columns):
                if column is not None:
                    own[name][place] = state[name][column]
            grown[name] = own[name]
        return grown

    def _passed(self, images: NDArray[Any]) -> Iterator[Tensor]:
        """Yield the maps at the end of each stage of the trunk; the last ones cross to the tail."""
        maps = self._normalised(torch.tensor(images))
        for stage in self._computing_stages():
            maps = stage.layers(maps)
            yield maps

    def _computing_stages(self) -> Sequence[Stage]:
        """Return the fast copies of the trunk's stages, made at first use."""
        if self._computing is None:
            self._computing = tuple(computing_stages(self.trunk, self.trunk_precision, TRUNK_BATCH))
        return self._computing

    def _computing_body(self) -> nn.Module:
        """Return the fast copy of the tail's body, made again after training has changed the weights."""
        weights = tuple((id(value), value._version) for _, value in self._trainable())
        if self._body is None or self._body[0] != weights:
            self._body = (
                weights,
                computing_body(self.tail.body, self.precision, (TRUNK_BATCH, *self.activation_shape)),
            )
        return self._body[1]

    def _trainable(self) -> Iterable[tuple[str, Tensor]]:
        return ((name, value) for name, value in self.named_parameters() if value.requires_grad)

    def _autocast(self, precision: Precision) -> torch.autocast:
        return torch.autocast(self.mean.device.type, torch.bfloat16, enabled=precision == "bfloat16")

    def _normalised(self, images: Tensor) -> Tensor:
        # Frames lie as (n, height, width, channel): seen as (n, channel, height, width) they are channels-last already.
        return (images.to(self.mean.device).permute(0, 3, 1, 2).float() - self.mean) / self.std

    def _batched(
        self,
        forward: Callable[[NDArray[Any]], NDArray[Any]],
        rows: NDArray[Any],
        size: int,
        precision: Precision,
        result: NDArray[Any],
    ) -> NDArray[Any]:
        with torch.inference_mode(), self._autocast(precision):
            for start in range(0, len(rows), size):
                result[start : start + size] = forward(rows[start : start + size])
        return result

    def _digest(self, preprocessing: str) -> str:
        digest = hashlib.blake2b(digest_size=16)
        digest.update(repr((self.backbone.name, preprocessing, self.backbone.mean, self.backbone.std)).encode())
        trained = {name for name, _ in self._trainable()}
        for name, value in sorted(self.state_dict().items()):
            if name not in trained and not name.endswith("num_batches_tracked"):
                digest.update(f"{name} {tuple(value.shape)}".encode())
                digest.update(_array(value.contiguous()).astype("<f4", copy=False).data)
        return digest.hexdigest()


def _trained_layers(tail: Tail, trained: Trained) -> list[nn.Module]:
    """Return the layers that are trained: for "last three" the last ones with weights, and the norms between them.

    The paper does not say what counts as a layer; normalisation is read as belonging to its convolution.
    """
    if trained == "all":
        return [tail]
    if trained == "head":
        return [tail.classifier]
    layers = [layer for layer in tail.modules() if next(layer.parameters(recurse=False), None) is not None]
    convolutions = [index for index, layer in enumerate(layers) if isinstance(layer, nn.Conv2d)]
    return layers[convolutions[-2] :]


def _float16(tensor: Tensor) -> NDArray[np.float16]:
    return _array(tensor.float().clamp(-_LARGEST_FLOAT16, _LARGEST_FLOAT16).half())


def _array(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.cpu().numpy()
    return array
