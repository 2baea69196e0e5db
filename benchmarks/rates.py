"""How fast this machine multiplies matrices and passes over memory, at its best."""

from __future__ import annotations

import torch

from benchmarks.timing import repeat

_PASS = 8 * 64 * 112 * 112  # values: as many as ResNet50's first layer gives for eight frames


def matrix_rate(precision: str, quick: bool) -> list[float]:
    """GFLOP/s of large matrix products."""
    size = 1024 if quick else 2048
    first, second = torch.randn(size, size).to(_kind(precision)), torch.randn(size, size).to(_kind(precision))
    first @ second
    return [2 * size**3 / one / 1e9 for one in repeat(lambda: first @ second, 5 if quick else 15)]


def memory_rate(precision: str, times: int) -> list[float]:
    """GB/s that the simplest step of a network reads and writes, on as many values as its largest steps have."""
    values = torch.randn(_PASS).to(_kind(precision))
    torch.relu_(values)
    moved = 2 * values.numel() * values.element_size()
    return [moved / one / 1e9 for one in repeat(lambda: torch.relu_(values), times)]


def has_bfloat16() -> bool:
    """Whether the processor multiplies matrices of bfloat16."""
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def _kind(precision: str) -> torch.dtype:
    return torch.bfloat16 if precision == "bfloat16" else torch.float32
