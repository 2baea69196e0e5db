"""Choosing strategy and validator by how each would have done on the batches that were confirmed.

Every confirmed batch is a fair test: its frames were scored before anybody had labelled them (prequential).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ml_backend.tsal import metrics
from ml_backend.tsal.acquisition import STRATEGIES, score
from ml_backend.tsal.arrays import Labels, Probabilities
from ml_backend.tsal.correlation import CorrelationTable, plain_labels
from ml_backend.tsal.strengths import StrengthTable

FADING = 0.7
"""What a batch counts for, compared with the one after it: the network that it tested is gone."""

FIRST_STRATEGY, FIRST_VALIDATOR = "mlm", "strengths"
"""What serves until a confirmed batch says otherwise, and wins ties: the paper's strategy, and the validator that left
least to correct in most simulated runs on both public sets of clips (README, "The study")."""


Validator = Callable[[Probabilities, CorrelationTable, StrengthTable], Labels]

VALIDATORS: Mapping[str, Validator] = {
    "table": lambda probabilities, table, strengths: table.validate(probabilities)[0],
    "plain": lambda probabilities, table, strengths: plain_labels(probabilities),
    "strengths": lambda probabilities, table, strengths: strengths.validate(probabilities)[0],
}
"""Every way to a pseudo-label, by the name that settings use."""


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


def trial(
    probabilities: Probabilities,
    labels: Labels,
    table: CorrelationTable,
    strengths: StrengthTable,
    rng: np.random.Generator,
) -> Trial | None:
    """Try every strategy and validator on a confirmed batch; None where it is empty or there is no table yet.

    Takes the batch's probabilities (n, l) and both tables as they were when it was asked for, and the confirmed labels
    (n, l).
    """
    if len(labels) == 0 or len(table) == 0 or len(strengths.combinations) == 0:
        return None
    wrong = (plain_labels(probabilities) != labels).any(axis=1)
    half = (len(labels) + 1) // 2
    found = {
        name: float(wrong[np.argsort(score(probabilities, name, rng), kind="stable")[:half]].mean())
        for name in STRATEGIES
        if name != "random"
    } | {"random": float(wrong.mean())}
    offered = np.ones(len(labels), bool)
    manual = {
        name: metrics.manual_share(labels, validate(probabilities, table, strengths), offered) or 0.0
        for name, validate in VALIDATORS.items()
    }
    return Trial(len(labels), found, manual)


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
