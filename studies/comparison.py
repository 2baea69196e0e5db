"""The two networks that the paper's Table I compares MSML with and that are not a backbone of its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Literal, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ml_backend.errors import WeightsUnavailable
from ml_backend.msml import backbones, frames
from ml_backend.msml.backbones import Backbone
from ml_backend.msml.network import Network, Precision, Tail

Name = Literal["POCOVID-Net", "NNBD-style"]

# What `finetune` should be given for each; POCOVID-Net learns at MSML's own rate, the other has everything to learn.
LEARNING_RATES: dict[Name, float] = {"POCOVID-Net": 2e-3, "NNBD-style": 0.05}

_HIDDEN = 64
_WIDTHS = (8, 16, 32, 64)


class ComparisonNetwork(Network):
    """A network whose tail has layers that MSML has not: normalisation over the batch at hand, and dropout.

    In training mode the tail normalises with the statistics of the batch and drops features; the running statistics
    count as trained weights. The trunk stays in evaluation mode always.
    """

    def train(self, mode: bool = True) -> ComparisonNetwork:
        """Switch the tail between training and evaluation mode."""
        super().train(False)
        self.tail.train(mode)
        return self

    def _trainable(self) -> Iterable[tuple[str, Tensor]]:
        yield from super()._trainable()
        for name, value in self.tail.named_buffers(prefix="tail"):
            if value.is_floating_point():  # not the counter of batches, which nothing reads
                yield name, value


def build(
    name: Name, label_count: int, weights: str | None = None, seed: int = 0, precision: Precision = "float32"
) -> ComparisonNetwork:
    """Return the network called `name`, what is not pre-trained drawn from `seed`, for `finetune` to train.

    "POCOVID-Net" (Born et al. 2020): VGG16 without its top, of which only the last convolution learns, 4x4 average
    pooling, 64 features, batch normalisation, ReLU, dropout of one half, and a sigmoid per label where the original has
    a softmax. `weights` are VGG16's, as in `backbones.load`; frames are normalised as VGG16 was trained. Its boundary
    is VGG16's own.

    "NNBD-style", after van Sloun and Demi 2020, a small fully convolutional classifier. The paper names no layer sizes:
    these are our choice. Frames averaged to 112x112, four times two 3x3 convolutions with batch normalisation and ReLU,
    8, 16, 32 and 64 channels wide, the first of all in steps of two, a maximum over 2x2 between the pairs, a 1x1
    convolution to the labels and the average over the frame. All of it learns from scratch, whatever `weights` says;
    its boundary is the normalised frame (3, 224, 224).

    torch's global generator is not touched. The network lies on the GPU where there is one. Raises WeightsUnavailable.
    """
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)
        if name == "POCOVID-Net":
            network = _pocovid_net(label_count, weights, precision)
        else:
            network = _nnbd_style(label_count, precision)
    network.to(memory_format=torch.channels_last)
    return network.to("cuda" if torch.cuda.is_available() else "cpu")


class _Normalisation(nn.BatchNorm1d):
    """Batch normalisation to which an epoch's last batch may be a single frame, which has no variance of its own."""

    def forward(self, features: Tensor) -> Tensor:
        if self.training and len(features) == 1:
            return F.batch_norm(features, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(features)


class _PocovidTail(Tail):
    """VGG16's last two convolutions with the head of POCOVID-Net behind them."""

    def __init__(self, body: nn.Module, features: int, label_count: int) -> None:
        super().__init__(body, _HIDDEN, label_count)
        self.head = nn.Sequential(
            nn.MaxPool2d(2),
            nn.AvgPool2d(4),  # of 7x7: as in the original, the last three rows and columns are not seen
            nn.Flatten(),
            nn.Linear(features, _HIDDEN),
            _Normalisation(_HIDDEN),
            nn.ReLU(),
            nn.Dropout(0.5),
        )

    def pooled(self, maps: Tensor) -> Tensor:
        features: Tensor = self.head(maps)
        return features


def _pocovid_net(label_count: int, weights: str | None, precision: Precision) -> ComparisonNetwork:
    backbone, trunk, body = backbones.load("vgg16", weights)
    tail = _PocovidTail(body, backbone.features, label_count)
    network = ComparisonNetwork(replace(backbone, name="POCOVID-Net"), trunk, tail, precision, trained="all")
    first_convolution = next(body.children())
    first_convolution.requires_grad_(False)
    return network


def _nnbd_style(label_count: int, precision: Precision) -> ComparisonNetwork:
    trunk, body = _NNBD_STYLE.split(_NNBD_STYLE.architecture())
    # The average of a 1x1 convolution is the fully connected layer of the average: the tail that there is will do.
    tail = Tail(body, _NNBD_STYLE.features, label_count)
    return ComparisonNetwork(_NNBD_STYLE, trunk, tail, precision, trained="all")


def _convolutions() -> nn.Sequential:
    # At 112x112 the second convolution alone would take as long as all the others.
    layers = [nn.AvgPool2d(2), *_two_convolutions(3, _WIDTHS[0], stride=2)]
    for before, width in pairwise(_WIDTHS):
        layers += [nn.MaxPool2d(2), *_two_convolutions(before, width)]
    return nn.Sequential(*layers)


def _two_convolutions(before: int, width: int, stride: int = 1) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for channels, step in ((before, stride), (width, 1)):
        convolution = nn.Conv2d(channels, width, 3, step, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    return layers


def _never_pretrained() -> NoReturn:
    raise WeightsUnavailable("NNBD-style has no pre-trained weights: it learns from scratch.")


_NNBD_STYLE = Backbone(
    name="NNBD-style",
    mean=(0.5,) * 3,
    std=(0.5,) * 3,
    boundary=(3, frames.SIDE, frames.SIDE),
    features=_WIDTHS[-1],
    classifier="",
    architecture=_convolutions,
    split=lambda body: (nn.Identity(), body),
    pretrained=_never_pretrained,
)
