from __future__ import annotations

import numpy as np
import pytest

from ml_backend.tsal.acquisition import STRATEGIES
from ml_backend.tsal.adaptive import FADING, Trial, choose, trial
from ml_backend.tsal.audit import AuditSample
from ml_backend.tsal.ticks import VALIDATORS, Tables

TRUTH = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], np.uint8)
KNOWN = np.array([[0.9, 0.1], [0.1, 0.9], [0.8, 0.8], [0.1, 0.1]])
TABLES = Tables.empty(2).learn(TRUTH, KNOWN)


def generator():
    return np.random.default_rng(0)


def made(annotations=10, mlm=0.5, binmin=0.5, plain=0.5, table=0.5):
    return Trial(annotations, {"mlm": mlm, "binmin": binmin}, {"plain": plain, "table": table})


def test_a_trial_counts_the_errors_that_each_strategy_ranks_first():
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


def test_a_trial_counts_what_each_validator_leaves_to_correct():
    weak = np.array([[0.2, 0.2], [0.7, 0.7]])
    labels = np.array([[0, 0], [1, 1]], np.uint8)
    found = trial(AuditSample(weak, labels), TABLES, generator())
    assert found is not None
    # Both have the proportions of the first equal row, no symptom: strengths tell them apart, as the threshold does.
    assert found.manual == {"table": 0.5, "plain": 0.0, "strengths": 0.0}
    assert found.manual.keys() == VALIDATORS.keys()


def test_nothing_is_tried_without_audit_frames_or_a_table():
    sample = AuditSample(KNOWN, TRUTH)
    assert trial(AuditSample.of([], [1, 2, 3, 4], KNOWN, TRUTH), TABLES, generator()) is None
    assert trial(sample, Tables.empty(2), generator()) is None
    assert trial(sample, Tables(TABLES.correlation, Tables.empty(2).strengths), generator()) is None


def test_before_any_trial_what_did_best_in_simulated_runs():
    choice = choose([])
    assert (choice.strategy, choice.validator) == ("mlm", "strengths")
    assert "no batch" in choice.reasons[0]


def test_the_best_is_chosen_and_the_reason_told():
    choice = choose([made(mlm=0.2, binmin=0.4, plain=0.1, table=0.3)])
    assert (choice.strategy, choice.validator) == ("binmin", "plain")
    assert choice.reasons == (
        "binmin found most errors: mlm 0.20, binmin 0.40",
        "plain left least to correct: plain 0.10, table 0.30",
    )


def test_ties_stay_with_the_first_and_then_with_the_papers_own():
    choice = choose([made()])
    assert (choice.strategy, choice.validator) == ("mlm", "table")
    mlm_last = Trial(10, {"binmin": 0.5, "mlm": 0.5}, {"plain": 0.5, "table": 0.5, "strengths": 0.5})
    choice = choose([mlm_last])
    assert (choice.strategy, choice.validator) == ("mlm", "strengths")
    # 0.1 * 3 is not 0.3: what differs by rounding only is a tie.
    rounded = Trial(10, {"binmin": 0.1 * 3, "mlm": 0.3}, {"plain": 0.3, "table": 0.1 * 3})
    assert (choose([rounded]).strategy, choose([rounded]).validator) == ("mlm", "table")


def test_older_batches_fade_and_larger_ones_count_more():
    # mlm was better by 0.3 once, binmin by 0.25 the other time: weights 0.7 and 1 make it 0.21 against 0.25, or 0.3
    # against 0.175.
    old, new = made(mlm=0.4, binmin=0.1), made(mlm=0.2, binmin=0.45)
    assert FADING == 0.7
    assert choose([old, new]).strategy == "binmin"
    assert choose([new, old]).strategy == "mlm"
    # Twice as many frames: 20 * 0.7 * 0.25 = 3.5 against 10 * 0.3 = 3.
    assert choose([made(20, mlm=0.2, binmin=0.45), old]).strategy == "binmin"
    # (20 * 0.7 * 0.2 + 10 * 0.4) / 24 = 0.283; (20 * 0.7 * 0.45 + 10 * 0.1) / 24 = 0.304
    (reason, _) = choose([made(20, mlm=0.2, binmin=0.45), old]).reasons
    assert reason == "binmin found most errors: mlm 0.28, binmin 0.30"


def test_validators_fade_in_the_same_way():
    old, new = made(table=0.1, plain=0.4), made(table=0.45, plain=0.2)
    assert choose([old, new]).validator == "plain"
    assert choose([new, old]).validator == "table"


def test_of_an_odd_batch_the_larger_half_is_looked_at():
    # Distances to a half 0.1, 0.2, 0.3: the first two of three, of which one is wrong.
    probabilities = np.array([[0.9, 0.2], [0.9, 0.4], [0.9, 0.3]])
    labels = np.array([[1, 0], [1, 0], [1, 1]], np.uint8)
    found = trial(AuditSample(probabilities, labels), TABLES, generator())
    assert found is not None
    assert found.found["binmin"] == 0.5
    assert found.found["random"] == pytest.approx(1 / 3)
    assert found.manual["plain"] == pytest.approx(1 / 3)


def test_what_older_trials_do_not_know_is_left_out():
    older = Trial(10, {"mlm": 0.1}, {"table": 0.1})
    choice = choose([older, made(binmin=0.9, plain=0.0)])
    assert (choice.strategy, choice.validator) == ("mlm", "table")
