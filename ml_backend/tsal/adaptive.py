"""Choosing strategy and validator by how each would have done on the audit frames that were answered.

Audit frames are a uniform sample of the pool, scored before anybody had labelled them (prequential).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ml_backend.tsal import metrics
from ml_backend.tsal.acquisition import STRATEGIES, score
from ml_backend.tsal.audit import AuditSample
from ml_backend.tsal.correlation import plain_labels
from ml_backend.tsal.intervals import Interval, wilson
from ml_backend.tsal.ticks import VALIDATORS, Tables

FADING, FADING_FRAMES = 0.7, 15
"""A trial keeps this share of its weight for every so many later audit frames: the network that it tested is gone. The
count is of frames, not batches, so that small batches gather as much evidence as large ones, about 43 audit frames."""

ENOUGH = 30
"""Weighted audit frames that are needed before anything but the defaults is chosen."""

FIRST_STRATEGY, FIRST_VALIDATOR = "mlm", "strengths"
"""What is used until audit frames say otherwise: the paper's strategy, and the validator that left least to correct in
most simulated runs on both public sets of clips."""


@dataclass(frozen=True)
class Trial:
    """How each strategy and validator would have done on the audit frames of one batch, before it was trained on.

    ``annotations``: number of audit frames; ``found`` by strategy: share of the frames that the strategy ranks in the
    first half whose plain label was wrong, in [0, 1], more is better; ``manual`` by validator: share of frames whose
    pseudo-label would have been corrected, in [0, 1], less is better; ``uniform``: whether the frames were drawn
    uniformly. Release 0.1.0 tried on whole batches, which a strategy had chosen; `choose` ignores such trials.
    """

    annotations: int
    found: Mapping[str, float]
    manual: Mapping[str, float]
    uniform: bool = False


@dataclass(frozen=True)
class Choice:
    """The strategy and the validator of the next batch, and the reason in words."""

    strategy: str
    validator: str
    reasons: tuple[str, ...]


def trial(sample: AuditSample, tables: Tables, rng: np.random.Generator) -> Trial | None:
    """Try every strategy and validator on the answered audit frames of a batch; None where there are none, or no table.

    The frames were drawn uniformly, so each strategy ranks the same fair sample of the pool. A batch that one strategy
    chose would be no fair test of another: what is left in it is what the first one wanted. ``tables`` are those of the
    version that the batch was asked with.
    """
    if len(sample) == 0 or len(tables.correlation) == 0 or len(tables.strengths.combinations) == 0:
        return None
    probabilities, labels = sample.probabilities, sample.labels
    wrong = (plain_labels(probabilities) != labels).any(axis=1)
    half = (len(sample) + 1) // 2
    found = {
        name: float(wrong[np.argsort(score(probabilities, name, rng), kind="stable")[:half]].mean())
        for name in STRATEGIES
        if name != "random"
    } | {"random": float(wrong.mean())}
    offered = np.ones(len(sample), bool)
    manual = {
        name: metrics.manual_share(labels, validate(probabilities, tables), offered) or 0.0
        for name, validate in VALIDATORS.items()
    }
    return Trial(len(sample), found, manual, uniform=True)


def choose(trials: Sequence[Trial]) -> Choice:
    """Choose by the trials so far, oldest first: later ones and larger ones count for more.

    The defaults stay until `ENOUGH` audit frames count, and until another's Wilson interval lies wholly on the better
    side of the default's share: the best of several noisy shares looks better than it is.
    """
    fair = [one for one in trials if one.uniform]
    weights = _weights(fair)
    evidence = sum(weights)
    if evidence < ENOUGH:
        reason = f"{evidence:.0f} of {ENOUGH} audit frames: too few to leave the defaults"
        return Choice(FIRST_STRATEGY, FIRST_VALIDATOR, (reason,))
    found = _average(weights, [one.found for one in fair])
    manual = _average(weights, [one.manual for one in fair])
    right = {name: 1.0 - share for name, share in manual.items()}
    strategy = _better(found, FIRST_STRATEGY, evidence / 2)
    validator = _better(right, FIRST_VALIDATOR, evidence)
    return Choice(
        strategy,
        validator,
        (
            f"{strategy} serves; errors found in the first half: {_listed(found, evidence / 2)}",
            f"{validator} serves; left to correct: {_listed(manual, evidence)}",
        ),
    )


def _better(shares: Mapping[str, float], default: str, frames: float) -> str:
    """The largest share whose interval lies above the default's share, by name; the default where there is none."""
    if default not in shares:
        return default
    above = {name: share for name, share in shares.items() if _interval(share, frames).low > shares[default]}
    return max(above, key=lambda name: round(above[name], 9)) if above else default


def _interval(share: float, frames: float) -> Interval:
    count = round(frames)
    return wilson(round(share * count), count)


def _weights(trials: Sequence[Trial]) -> list[float]:
    """How many audit frames each trial still counts for."""
    weights: list[float] = []
    later = 0
    for one in reversed(trials):
        weights.append(one.annotations * FADING ** (later / FADING_FRAMES))
        later += one.annotations
    return weights[::-1]


def _average(weights: Sequence[float], figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = [name for name in figures[-1] if all(name in one for one in figures)]
    return {
        name: sum(weight * one[name] for weight, one in zip(weights, figures, strict=True)) / sum(weights)
        for name in names
    }


def _listed(figures: Mapping[str, float], frames: float) -> str:
    shown = []
    for name, value in figures.items():
        low, high = _interval(value, frames)
        shown.append(f"{name} {value:.2f} ({low:.2f} to {high:.2f})")
    return ", ".join(shown) + f", {round(frames)} frames"
