"""Choosing strategy and validator by how each would have done on the batches that were confirmed.

Every confirmed batch is a fair test: its frames were scored before anybody had labelled them (prequential).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ml_backend.tsal import metrics
from ml_backend.tsal.acquisition import STRATEGIES, score
from ml_backend.tsal.audit import AuditSample
from ml_backend.tsal.correlation import plain_labels
from ml_backend.tsal.ticks import VALIDATORS, Tables

FADING = 0.7
"""What a batch counts for, compared with the one after it: the network that it tested is gone."""

FIRST_STRATEGY, FIRST_VALIDATOR = "mlm", "strengths"
"""What serves until a confirmed batch says otherwise, and wins ties: the paper's strategy, and the validator that left
least to correct in most simulated runs on both public sets of clips (README, "The study")."""


@dataclass(frozen=True)
class Trial:
    """How each strategy and validator would have done on one confirmed batch, before it was trained on.

    ``annotations``: the batch's frames; ``found`` by strategy: share of the frames that the strategy ranks in the
    batch's first half whose plain label was wrong, in [0, 1], more is better; ``manual`` by validator: share of frames
    whose pseudo-label would have been corrected, in [0, 1], less is better.
    """

    annotations: int
    found: Mapping[str, float]
    manual: Mapping[str, float]


@dataclass(frozen=True)
class Choice:
    """What the next batch is chosen and labelled by, and why, in words."""

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
    return Trial(len(sample), found, manual)


def choose(trials: Sequence[Trial]) -> Choice:
    """Choose by the trials so far, oldest first: later batches and larger ones count for more."""
    if not trials:
        return Choice(FIRST_STRATEGY, FIRST_VALIDATOR, ("no batch has been tried yet",))
    found = _average(trials, [one.found for one in trials])
    manual = _average(trials, [one.manual for one in trials])
    strategy = max(found, key=lambda name: (round(found[name], 9), name == FIRST_STRATEGY))
    preferred = [FIRST_VALIDATOR, *VALIDATORS]
    validator = min(manual, key=lambda name: (round(manual[name], 9), preferred.index(name)))
    return Choice(
        strategy,
        validator,
        (
            f"{strategy} found most errors: " + _listed(found),
            f"{validator} left least to correct: " + _listed(manual),
        ),
    )


def _average(trials: Sequence[Trial], figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    weights = [one.annotations * FADING**age for age, one in enumerate(reversed(trials))][::-1]
    names = [name for name in figures[-1] if all(name in one for one in figures)]
    return {
        name: sum(weight * one[name] for weight, one in zip(weights, figures, strict=True)) / sum(weights)
        for name in names
    }


def _listed(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in figures.items())
