"""What a study consists of: its presets, and the parts that a preset asks for, each computed and kept by itself."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import NotEnoughLabels
from ml_backend.msml.finetune import BATCH_SIZE, passes
from ml_backend.settings import Settings
from ml_backend.tsal.split import held_out
from studies import pool
from studies.dataset import ClipSet
from studies.judges import judges
from studies.simulation import Way
from studies.team import CLIPS, Sizes

PROTOCOLS = ("frames", "patients")
POOL = "pool"
STRATEGIES = ("random", "mle", "lc", "mlm", "mlm-diverse", "adaptive", "cover", pool.MEMORY_ALONE)
COVERS = ("cover", pool.MEMORY_ALONE)
TEST_SHARE = 0.3
SMALLEST_BATCH = 2
ANEW = 10_000  # added to the seed of a split that left one side empty
COMPARED = ("VGG16", "ResNet34", "ResNet50", "ResNet101", "POCOVID-Net", "NNBD-style")
REFRESH = 4  # refreshes of the memory in every batch
AUDIT: float = Settings.model_fields["audit"].default
HOLD_OUT: float = Settings.model_fields["hold_out"].default
ABLATIONS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("augmentation", "on", {}),
    ("augmentation", "off", {"augmented": False}),
    ("starting point", "last version", {}),
    ("starting point", "pre-trained weights", {"restart": True}),
    ("training set", "all confirmed", {}),
    ("training set", "last batch", {"last_batch_only": True}),
)
RARE: tuple[tuple[str, dict[str, Any]], ...] = (("plain loss", {}), ("positive weights", {"weighted": True}))
NEW_PATIENTS = "new patients"
ANSWERS, ANSWERS_A_BATCH = 1000, 100  # of the parts about new patients
KINDS = (
    "run",
    "pool",
    "full",
    "compared",
    "ablation",
    "rare",
    "trained layers",
    "calibration",
    "maps",
    NEW_PATIENTS,
)
MAPS = 3  # most, and as many least, informative frames that are drawn


@dataclass(frozen=True)
class Preset:
    """The size of a study.

    ``every``: seconds between frames; ``k_max``: frames a batch, or ``k_share`` of the pool where it is None; ``seeds``
    of the main runs, and ``side_seeds`` of the ablations; ``clips``: so many clips only; ``compared_epochs``: passes of
    the comparison networks; ``budget``: share of the pool that may be answered in the protocol `pool`; ``split_seeds``:
    splits by patient on which judges of new patients are compared; ``tail``: how a tail is fine-tuned there.
    """

    name: str
    every: Fraction
    k_max: int | None
    k_share: float
    rounds: int
    seeds: tuple[int, ...]
    side_seeds: tuple[int, ...]
    side_protocols: tuple[str, ...]
    clips: int | None
    way: Way = field(default_factory=Way)
    compared_epochs: int = 10
    views: int = 4
    budget: float = 0.3
    split_seeds: tuple[int, ...] = tuple(range(8, 28))
    tail: Way = field(default_factory=Way)

    def updates(self, pool: int) -> int:
        """Updates that a run takes over its rounds; a network trained on all labels at once gets as many, or more."""
        way = self.way
        labelled = (min(number * self.batch(pool), pool) for number in range(1, self.rounds + 1))
        return sum(
            passes(frames, way.epochs, way.minimum_steps) * math.ceil(frames / BATCH_SIZE) for frames in labelled
        )

    def batch(self, pool: int) -> int:
        """Frames a batch for a pool of so many frames.

        At least two: one of every batch is an audit frame, and a batch of one would ask nothing of the strategy.
        """
        return self.k_max or max(SMALLEST_BATCH, round(self.k_share * pool))

    def sizes(self, pool: int) -> Sizes:
        """Answers between fine-tunes and between refreshes."""
        batch = self.batch(pool)
        return Sizes(batch, math.ceil(batch / REFRESH), AUDIT)


PRESETS = {
    "default": Preset(
        "default", Fraction(1, 4), None, 0.014, 20, (0, 1, 2, 3, 4), (0, 1), ("patients",), None, Way(minimum_steps=60)
    ),
    "paper": Preset("paper", Fraction(1, 7), 100, 0, 20, (0, 1, 2), (0,), ("patients",), None, budget=0.2),
    "quick": Preset(
        "quick",
        Fraction(2),
        None,
        0.1,
        3,
        (0,),
        (0,),
        ("patients",),
        10,
        Way(1, 2),
        compared_epochs=1,
        split_seeds=(8,),
        tail=Way(1, 2),
    ),
}


@dataclass(frozen=True)
class Part:
    """One piece of work whose result is kept under its key.

    ``kind``: one of `KINDS`; ``what``: strategy, method or variant.
    """

    kind: str
    data: str
    protocol: str
    seed: int
    what: str
    options: dict[str, Any] = field(default_factory=dict)

    def key(self, settings: dict[str, Any]) -> str:
        """A name that changes with everything that the result depends on."""
        text = json.dumps([asdict(self), settings], sort_keys=True, default=str)
        return f"{self.kind}-{self.data}-{hashlib.sha256(text.encode()).hexdigest()[:16]}".replace(" ", "-")


def parts(preset: Preset, data: str, compared: Sequence[tuple[str, str | None]]) -> Iterator[Part]:
    """List the parts of a study of one data set; those that people look at first come first.

    ``compared`` are the comparison networks with their weights as in `backbones.load`.
    """
    for seed in preset.seeds:
        for protocol in PROTOCOLS:
            yield Part("full", data, protocol, seed, "MSML")
            for strategy in STRATEGIES:
                yield Part("run", data, protocol, seed, strategy)
        for clips in CLIPS:
            for strategy in pool.strategies(clips):
                yield Part("pool", data, POOL, seed, strategy, {"clips": clips})
    for seed in preset.side_seeds:
        for protocol in preset.side_protocols:
            for part, variant, options in ABLATIONS:
                if options:  # the other variant is the main run
                    yield Part("ablation", data, protocol, seed, f"{part}: {variant}", options)
            for variant, options in RARE:
                if options:
                    yield Part("rare", data, protocol, seed, variant, options)
            for layers in ("last three", "head", "all"):
                yield Part("trained layers", data, protocol, seed, layers)
    for seed in preset.seeds:
        yield Part("calibration", data, "patients", seed, "MSML")
        for protocol in PROTOCOLS:
            for method, weights in compared:
                yield Part("compared", data, protocol, seed, method, {"weights": weights})
    yield Part("maps", data, "patients", preset.seeds[0], "MSML")
    for seed in preset.split_seeds:
        options = {"batch": ANSWERS_A_BATCH, "answers": ANSWERS, "judges": judges(preset.tail)}
        yield Part(NEW_PATIENTS, data, "patients", seed, "every way", options)


def only(
    parts: Iterable[Part], protocols: Sequence[str], strategies: Sequence[str], kinds: Sequence[str] = ()
) -> list[Part]:
    """The parts of these protocols, strategies and kinds; all where none is named."""
    return [
        part
        for part in parts
        if (not protocols or part.protocol in protocols)
        and (not kinds or part.kind in kinds)
        and (not strategies or (part.kind in ("run", "pool") and part.what in strategies))
    ]


def split(clips: ClipSet, protocol: str, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Divide the frames into pool and test rows.

    ``frames``: at random, as the paper did: near-copies of test frames lie in the pool. ``patients``: by patient;
    of few patients all may fall on one side, then they are divided anew. `pool`: everything is pool. Raises
    NotEnoughLabels for a single patient.
    """
    if protocol == POOL:
        return np.arange(len(clips)), np.empty(0, np.intp)
    if protocol == "frames":
        test: NDArray[np.bool_] = np.zeros(len(clips), bool)
        test[np.random.default_rng([seed, 0]).permutation(len(clips))[: round(TEST_SHARE * len(clips))]] = True
    else:
        if len(set(clips.patients)) < 2:
            raise NotEnoughLabels(f"the clips of {clips.name} are of one patient: they cannot be divided by patient")
        test = held_out(clips.patients, TEST_SHARE, seed)
        while test.all() or not test.any():
            seed += ANEW
            test = held_out(clips.patients, TEST_SHARE, seed)
    return np.flatnonzero(~test), np.flatnonzero(test)
