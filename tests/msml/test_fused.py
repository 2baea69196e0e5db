"""Fused trunks: the same results as step by step, in fewer steps."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ml_backend.msml import backbones, fused
from ml_backend.msml.folding import fold_normalisation

FUSED_IN_BFLOAT16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
DTYPES = [
    torch.float32,
    pytest.param(
        torch.bfloat16,
        marks=pytest.mark.skipif(not FUSED_IN_BFLOAT16, reason="oneDNN does not compute in bfloat16 on this processor"),
    ),
]
SHAPE = (3, 3, 96, 96)


def trunk_of(name: str) -> nn.Module:
    _, trunk, _ = backbones.load(name, "random")
    fold_normalisation(trunk.eval())
    return trunk.requires_grad_(requires_grad=False).to(memory_format=torch.channels_last)


def pictures(count: int = 3, side: int = 96, channels: int = 3) -> Tensor:
    chance = torch.Generator().manual_seed(0)
    return torch.randn(count, channels, side, side, generator=chance).to(memory_format=torch.channels_last)


def steps_of(module: nn.Module) -> list[str]:
    return [str(node.target) for node in module.body.graph.nodes if node.op.startswith("call")]  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("name", "convolutions", "others"), [("resnet34", 34, 1), ("efficientnet_lite0", 45, 16), ("vgg16", 11, 4)]
)
def test_a_trunk_comes_to_the_same_in_fewer_steps(name: str, convolutions: int, others: int, kind: torch.dtype) -> None:
    trunk = trunk_of(name).to(kind)
    found = fused.fused(trunk, kind, SHAPE)
    steps = steps_of(found)
    assert [sum("convolution_pointwise" in one for one in steps), len(steps)] == [convolutions, convolutions + others]
    with torch.inference_mode():
        expected, computed = trunk(pictures().to(kind)).float(), found(pictures()).float()
    assert (computed - expected).abs().max() <= fused.TOLERANCE[kind] * expected.abs().max()


def test_a_frame_alone_comes_to_the_same_as_among_others() -> None:
    found = fused.fused(trunk_of("efficientnet_lite0"), torch.float32, SHAPE)
    with torch.inference_mode():
        torch.testing.assert_close(found(pictures())[:1], found(pictures()[:1]), rtol=1e-4, atol=1e-4)


def test_weights_are_packed_once_and_nothing_else_is_copied() -> None:
    trunk = trunk_of("resnet34")
    found = fused.fused(trunk, torch.float32, SHAPE)
    packed, shared = ([one for one in found.buffers() if one.is_mkldnn is wanted] for wanted in (True, False))
    assert sorted(one.numel() for one in packed) == sorted(one.numel() for one in trunk.parameters() if one.ndim == 4)
    assert {one.data_ptr() for one in shared} == {one.data_ptr() for one in trunk.parameters() if one.ndim == 1}
    assert list(found.parameters()) == []


@pytest.mark.parametrize("kind", DTYPES, ids=str)
def test_pictures_of_another_size_come_to_the_same(kind: torch.dtype) -> None:
    trunk = trunk_of("resnet34").to(kind)
    first, second = (fused.fused(trunk, kind, shape) for shape in (SHAPE, (8, 3, 224, 224)))
    with torch.inference_mode():
        torch.testing.assert_close(first(pictures()), second(pictures()))


class Block(nn.Module):
    """Two convolutions, put together as ``join`` does."""

    def __init__(self, join: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.join = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), join

    def forward(self, images: Tensor) -> Tensor:
        first = self.first(images)
        return self.join(images, first, self.second(first))


@pytest.mark.parametrize(
    "join",
    [
        lambda images, first, second: torch.relu(second + first) + first,  # needed afterwards: it must stay
        lambda images, first, second: torch.relu(first + second),
        lambda images, first, second: (second + first) * 2,
        lambda images, first, second: torch.relu(second) + second,  # two users: no activation is taken over
        lambda images, first, second: second + images[:, :1] * 0 + first,
        lambda images, first, second: second + second,
    ],
)
@torch.inference_mode()
def test_what_is_needed_afterwards_stays(join: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    block = Block(join).to(memory_format=torch.channels_last)
    found = fused.fused(block, torch.float32, SHAPE)
    assert "mkldnn" in " ".join(steps_of(found))
    images = pictures()
    before = images.clone()
    torch.testing.assert_close(found(images), block(images), rtol=1e-4, atol=1e-4)
    assert torch.equal(images, before)


class Bare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))

    def forward(self, images: Tensor) -> Tensor:
        return torch.relu(torch.conv2d(images, self.weight, None, [1, 1], [1, 1], [1, 1], 1))


def test_weights_may_have_any_name() -> None:
    found = fused.fused(Bare().requires_grad_(requires_grad=False), torch.float32, SHAPE)
    assert steps_of(found) == ["mkldnn._convolution_pointwise.default"]


class Choosy(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images if images.sum() > 0 else -images


@pytest.mark.parametrize("trunk", [Choosy(), nn.Sequential(), nn.Conv2d(3, 4, 3, padding="same")])
def test_what_cannot_be_fused_stays_as_it_is(trunk: nn.Module) -> None:
    assert fused.fused(trunk, torch.float32, SHAPE) is trunk


def test_a_trunk_that_would_come_to_something_else_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    trunk = trunk_of("vgg16")
    monkeypatch.setattr(fused, "_rewritten", lambda *_: nn.Sequential(trunk, nn.Threshold(0.1, 5.0)))
    assert fused.fused(trunk, torch.float32, SHAPE) is trunk


def test_other_threads_compute_meanwhile() -> None:
    busy, failures, over = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), [], threading.Event()
    with torch.inference_mode():
        expected = busy(pictures(1))

    def compute() -> None:
        with torch.inference_mode():
            while not over.is_set():
                if not torch.equal(busy(pictures(1)), expected):
                    failures.append("it came to something else")

    def fuse() -> None:
        for _ in range(3):
            if fused.fused(trunk, torch.float32, SHAPE) is trunk:
                failures.append("it was not fused")

    trunk = trunk_of("resnet34")
    threads = [threading.Thread(target=compute), threading.Thread(target=fuse), threading.Thread(target=fuse)]
    for one in threads:
        one.start()
    for one in threads[1:]:
        one.join()
    over.set()
    threads[0].join()
    assert failures == []
