"""The comparison of what judges new patients: what it learns, its figures, and its differences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ml_backend.tsal.heads import Heads
from ml_backend.tsal.round import Rows
from studies import new_patients as measuring
from studies.judges import Judge
from studies.new_patients import Levels, _Learnt, calibration_floor, judge, new_patients, sensitivity, summary
from studies.plan import split
from studies.simulation import Learner, Material, Outcome, Way
from tests.studies.test_simulation import material

__all__ = ["material"]

LONG, SHORT = Way(epochs=1, minimum_steps=10), Way(epochs=1, minimum_steps=1)


@pytest.mark.parametrize(
    ("others", "expected"),
    [(np.linspace(0.5, 0.05, 10), 1.0), (np.append([0.95, 0.7], np.full(8, 0.1)), 0.5), (np.full(10, 0.99), 0.0)],
)
def test_the_sensitivity_is_that_of_a_threshold_that_lets_a_tenth_of_the_others_through(
    others: np.ndarray[tuple[int], np.dtype[np.float64]], expected: float
) -> None:
    shown = np.array([0.9, 0.6])
    assert sensitivity(np.append(shown, others), np.append([1, 1], np.zeros(10, int))) == expected


def test_a_clip_has_the_mean_of_its_frames_and_shows_what_any_of_them_shows(material: Material) -> None:
    clips = replace(
        material.clips,
        labels=np.array([[1, 0], [0, 0], [0, 0], [0, 0], [1, 0], [1, 0]], np.uint8),
        clips=("d", "d", "b", "b", "g", "g"),
        symptoms=("b_line", "effusion"),
    )
    probabilities = np.column_stack([np.array([0.2, 0.8, 0.7, 0.1, 0.1, 0.1]), np.zeros(6)]).astype(np.float32)
    found = judge(clips, np.arange(6), probabilities)
    # The clips with 0.5 and 0.1 show the B-line, the one with 0.4 does not. Of nine pairs of frames one is in order,
    # and two tie.
    assert found["auc_clips"] == 0.5
    assert found["auc"] == pytest.approx((1 + 2 * 0.5) / 9)
    assert found["exact"] == 1 / 6
    # Half of clip b's frames are right, and none of the others'.
    assert found["corrections"] == pytest.approx(1 - 0.5 / 3)
    # No threshold below 0.8 keeps nine tenths of the three others right.
    assert found["sensitivity"] == found["sensitivity b_line"] == 0.0


def test_even_a_judge_who_is_calibrated_has_an_error_with_few_clips() -> None:
    said = np.full((400, 1), 0.3, np.float32)
    one_clip, apart = np.zeros(400, np.intp), np.arange(400)
    # The only clip shows the symptom with a probability of 0.3: 0.3 x 0.7 + 0.7 x 0.3.
    assert calibration_floor(said, one_clip, draws=2000) == pytest.approx(0.42, abs=0.02)
    # The mean distance of a share from 0.3 is sqrt(2 / pi) of its deviation.
    assert calibration_floor(said, apart, draws=500) == pytest.approx(np.sqrt(2 / np.pi * 0.21 / 400), rel=0.1)
    assert calibration_floor(said, apart, draws=9) == calibration_floor(said, apart, draws=9)


def levels_of(material: Material) -> Levels:
    """Two levels: noise, and one that shows the first symptom."""
    rng = np.random.default_rng(0)
    told = material.clips.labels[:, :1] + rng.normal(0, 0.1, (len(material.clips), 2))
    return Levels(np.concatenate([rng.normal(size=(len(told), 3)), told], axis=1).astype(np.float32), (3, 2))


def test_every_way_learns_the_same_frames_of_the_pool_and_no_other(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt: list[tuple[Way, list[int]]] = []
    plain = Learner.learn
    fitted: list[NDArray[np.floating]] = []
    fit = Heads.fit

    def learn(self: Learner, labelled: Rows, batch: Rows, audited: Rows) -> Outcome:
        learnt.append((self.way, labelled.tolist()))
        return plain(self, labelled, batch, audited)

    def fit_heads(values: NDArray[np.floating], *others: Any) -> Heads:
        fitted.append(values)
        return fit(values, *others)

    monkeypatch.setattr(Learner, "learn", learn)
    monkeypatch.setattr(Heads, "fit", fit_heads)
    ways = {"long": Judge(LONG), "short": Judge(SHORT), "heads": Judge(levels=1), "both": Judge(SHORT, 2)}
    levels = levels_of(material)
    rows = new_patients(material, levels, 3, 4, 10, ways)
    pool, _ = split(material.clips, "patients", 3)
    first, second = ([known for way, known in learnt if way == one] for one in (LONG, SHORT))
    assert first == second, "a tail is trained once for all ways that have it"
    assert [len(known) for known in first] == [4, 8, 10]
    assert set(first[0]) < set(first[1]) < set(first[2]) < set(pool.tolist())
    np.testing.assert_array_equal(fitted[0], levels.values[first[2], 3:])
    np.testing.assert_array_equal(fitted[1], levels.values[first[2]])
    assert [(row["way"], row["answers"]) for row in rows] == [(name, 10) for name in ways]
    assert len({row["auc"] for row in rows}) == 4


def test_logits_are_averaged_over_what_judges_and_then_over_the_clip(material: Material) -> None:
    pool, test = split(material.clips, "patients", 3)
    learnt = _Learnt(material, levels_of(material), 3, pool[:12], 12, test)
    tail, heads = learnt.logits(Judge(SHORT)), learnt.logits(Judge(levels=2))
    both, by_clip = learnt.logits(Judge(SHORT, 2)), learnt.logits(Judge(SHORT, 2, by_clip=True))
    np.testing.assert_allclose(both, (tail + heads) / 2, rtol=1e-5)
    clips = material.clips.clip_numbers[test]
    for clip in np.unique(clips):
        frames = clips == clip
        np.testing.assert_allclose(by_clip[frames], np.tile(both[frames].mean(axis=0), (frames.sum(), 1)), rtol=1e-4)


@pytest.mark.parametrize(("count", "first", "widths"), [(1, 3, (3,)), (2, 1, (2, 3)), (4, 0, (1, 2, 3))])
def test_the_last_levels_are_chosen(count: int, first: int, widths: tuple[int, ...]) -> None:
    levels = Levels(np.arange(12, dtype=np.float32).reshape(2, 6), (1, 2, 3)).last(count)
    assert levels.values.tolist() == [[*range(first, 6)], [*range(6 + first, 12)]]
    assert levels.widths == widths


def test_differences_are_paired_by_split() -> None:
    values = {"first": (0.5, 0.7, None), "second": (0.6, 0.9, 0.4)}
    rows = [
        {"data": "made", "way": way, "seed": seed} | dict.fromkeys(measuring.MEASURES, value)
        for way, found in values.items()
        for seed, value in enumerate(found)
    ]
    first, second = summary(rows)
    assert first["auc"] == pytest.approx(0.6)
    assert first["against"]["auc"] == (0.0, 0.0, 0.0)
    # Differences of 0.1 and 0.2: mean 0.15, half width t(0.975, 1) x 0.0707 / sqrt(2) = 12.706 x 0.05.
    assert second["against"]["auc"] == pytest.approx((0.15, 0.15 - 0.6353, 0.15 + 0.6353), abs=1e-4)
    assert second["seeds"] == 3
