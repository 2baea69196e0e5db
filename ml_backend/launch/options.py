"""What a demo can be told."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """What a demo can be told; the command's help says what each means."""

    clips: Path | None
    labels: Path | None
    unattended: bool
    rounds: int
    batch: int | None
    report: Path
    every: Fraction
    port: int | None
    seed: int
    folder: Path | None
