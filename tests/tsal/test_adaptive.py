from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ml_backend.tsal.acquisition import STRATEGIES, score
from ml_backend.tsal.adaptive import FADING, FADING_FRAMES, Choice, Trial, choose, trial
from ml_backend.tsal.audit import AuditSample, draw
from ml_backend.tsal.intervals import wilson
from ml_backend.tsal.ticks import VALIDATORS, Tables

TRUTH = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], np.uint8)
KNOWN = np.array([[0.9, 0.1], [0.1, 0.9], [0.8, 0.8], [0.1, 0.1]])
TABLES = Tables.empty(2).learn(TRUTH, KNOWN)


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def made(
    annotations: int = 60, mlm: float = 0.5, binmin: float = 0.5, plain: float = 0.5, strengths: float = 0.5
) -> Trial:
    return Trial(annotations, {"mlm": mlm, "binmin": binmin}, {"plain": plain, "strengths": strengths}, uniform=True)


def test_a_trial_counts_the_errors_that_each_strategy_ranks_first() -> None:
    # A-line and B-line together, surely, twice (right); unsure about a label, twice (wrong).
    probabilities = np.array([[0.9, 0.9], [0.95, 0.9], [0.55, 0.05], [0.9, 0.45]])
    labels = np.array([[1, 1], [1, 1], [0, 0], [1, 1]], np.uint8)
    found = trial(AuditSample(probabilities, labels), TABLES, generator())
    assert found is not None
    assert found.annotations == 4
    # margins 0, 0.05, 0.5, 0.45: the first half is right; distances to a half 0.4, 0.4, 0.05, 0.05: it is wrong
    assert found.found["mlm"] == 0.0
    assert found.found["binmin"] == 1.0
    assert found.found["random"] == 0.5  # what any half would have
    assert found.found.keys() == STRATEGIES.keys()
    assert found.manual["plain"] == 0.5


def test_a_trial_counts_what_each_validator_leaves_to_correct() -> None:
    weak = np.array([[0.2, 0.2], [0.7, 0.7]])
    labels = np.array([[0, 0], [1, 1]], np.uint8)
    found = trial(AuditSample(weak, labels), TABLES, generator())
    assert found is not None
    # Both have the proportions of the first equal row, no symptom: strengths tell them apart, as the threshold does.
    assert found.manual == {"table": 0.5, "plain": 0.0, "strengths": 0.0}
    assert found.manual.keys() == VALIDATORS.keys()


def test_nothing_is_tried_without_audit_frames_or_a_table() -> None:
    sample = AuditSample(KNOWN, TRUTH)
    assert trial(AuditSample.of([], [1, 2, 3, 4], KNOWN, TRUTH), TABLES, generator()) is None
    assert trial(sample, Tables.empty(2), generator()) is None
    assert trial(sample, Tables(TABLES.correlation, Tables.empty(2).strengths), generator()) is None


def names(choice: Choice) -> tuple[str, str]:
    return choice.strategy, choice.validator


DEFAULTS = ("mlm", "strengths")


def test_before_any_trial_the_defaults_are_chosen() -> None:
    assert names(choose([])) == DEFAULTS
    assert choose([]).reasons == ("0 of 30 audit frames: too few to leave the defaults",)


def test_the_best_is_chosen_once_there_is_evidence() -> None:
    # Half of 60 frames: Wilson's interval of 24 of 30 is 0.63 to 0.90, of 54 right of 60 it is 0.80 to 0.95.
    clear: Any = {"mlm": 0.4, "binmin": 0.8, "plain": 0.1, "strengths": 0.5}
    choice = choose([made(**clear)])
    assert names(choice) == ("binmin", "plain")
    assert "binmin 0.80 (0.63 to 0.90), 30 frames" in choice.reasons[0]
    assert "plain 0.10 (0.05 to 0.20)" in choice.reasons[1]
    assert names(choose([made(29, **clear)])) == DEFAULTS
    assert names(choose([made(30, **clear)])) == ("binmin", "plain")


def test_a_difference_within_chance_changes_nothing() -> None:
    # 18 of 30 is 0.42 to 0.75: not wholly above 0.5. 36 right of 60 is 0.47 to 0.71.
    assert names(choose([made(mlm=0.5, binmin=0.6, plain=0.4, strengths=0.5)])) == DEFAULTS
    assert names(choose([made()])) == DEFAULTS


def test_trials_on_batches_that_a_strategy_chose_are_ignored() -> None:
    """Release 0.1.0 tried on whole batches; its manifests have no word on how the frames were drawn."""
    old = Trial(annotations=1000, found={"mlm": 0.1, "mle": 0.9}, manual={"strengths": 0.9, "plain": 0.0})
    assert names(choose([old])) == DEFAULTS
    assert choose([old]).reasons[0].startswith("0 of 30")


def test_older_trials_fade_by_the_audit_frames_that_came_after() -> None:
    assert (FADING, FADING_FRAMES) == (0.7, 15)
    # 15 + 15 * 0.7 = 25.5 are too few; 15 + 10.5 + 7.35 = 32.85 are enough.
    clear = made(15, mlm=0.0, binmin=1.0)
    assert names(choose([clear] * 2)) == DEFAULTS
    assert choose([clear] * 3).strategy == "binmin"
    # Batches of 3 audit frames gather as much in time: 3 * (1 - r^n) / (1 - r) with r = 0.7 ** 0.2.
    small = made(3, mlm=0.0, binmin=1.0)
    assert names(choose([small] * 16)) == DEFAULTS
    assert choose([small] * 18).strategy == "binmin"
    # After 60 later frames an old trial counts for a quarter.
    old, new = made(mlm=0.0, binmin=1.0), made(mlm=0.6, binmin=0.2)
    assert choose([old, new]).strategy == "mlm"
    assert choose([new, old]).strategy == "binmin"


def test_a_half_chosen_by_another_strategy_misleads_and_audit_frames_do_not() -> None:
    """Which half-batch of which strategy holds most errors, told from a batch that MLM chose and from audit frames.

    In the pool MLE finds more errors than MLM. Inside a batch of MLM all margins are small, so that what is left to
    rank by is something else: the share found there is not the strategy's own.
    """
    rng = np.random.default_rng(0)
    pool = rng.random((4000, 4)) ** 0.5 * (rng.random((4000, 1)) < 0.5) + rng.random((4000, 4)) ** 3 * 0.5
    pool = np.clip(pool, 0.0, 1.0)
    truth = (rng.random(pool.shape) < pool).astype(np.uint8)
    wrong = ((pool > 0.5) != truth).any(axis=1)
    truths = {name: wrong[halves(pool, name)].mean() for name in ("mlm", "lc", "mle", "binmin")}
    mlm_batch = np.argsort(score(pool, "mlm", rng), kind="stable")[:200]
    chosen = trial(AuditSample(pool[mlm_batch], truth[mlm_batch]), FOUR, rng)
    assert chosen is not None
    bent = max(abs(chosen.found[name] - truths[name]) for name in truths)
    audits = []
    for _ in range(200):
        rows = draw(len(pool), 100, rng)
        drawn = trial(AuditSample(pool[rows], truth[rows]), FOUR, rng)
        assert drawn is not None
        audits.append(drawn.found)
    for name, true in truths.items():
        estimates = np.array([one[name] for one in audits])
        error = estimates.std(ddof=1) / np.sqrt(len(estimates))
        assert abs(estimates.mean() - true) < 4 * error + 0.01, name
        covered = [wilson(round(one * 50), 50) for one in estimates]
        assert np.mean([low <= true <= high for low, high in covered]) > 0.9, name
    assert bent > 0.1


FOUR = Tables.empty(4).learn(np.eye(4, dtype=np.uint8), np.eye(4) * 0.8 + 0.1)


def halves(pool: NDArray[np.float64], strategy: str) -> NDArray[np.intp]:
    return np.argsort(score(pool, strategy, generator()), kind="stable")[: len(pool) // 2]


def test_an_odd_batch_counts_its_larger_half() -> None:
    # Distances to a half 0.1, 0.2, 0.3: the first two of three, of which one is wrong.
    probabilities = np.array([[0.9, 0.2], [0.9, 0.4], [0.9, 0.3]])
    labels = np.array([[1, 0], [1, 0], [1, 1]], np.uint8)
    found = trial(AuditSample(probabilities, labels), TABLES, generator())
    assert found is not None
    assert found.found["binmin"] == 0.5
    assert found.found["random"] == pytest.approx(1 / 3)
    assert found.manual["plain"] == pytest.approx(1 / 3)


def test_strategies_unknown_to_older_trials_are_left_out() -> None:
    older = Trial(60, {"mlm": 0.1}, {"strengths": 0.1}, uniform=True)
    assert names(choose([older, made(binmin=0.9, plain=0.0)])) == DEFAULTS
