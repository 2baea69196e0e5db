"""The comparison of ways to learn on new patients: its figures, its differences, and its command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ml_backend.tsal.round import Rows
from studies import new_patients as measuring
from studies.new_patients import judge, main, new_patients, sensitivity, summary
from studies.plan import split
from studies.simulation import Learner, Material, Outcome, Way
from tests.studies.clips import write_clips
from tests.studies.test_simulation import material

__all__ = ["material"]

WAYS = {"long": Way(epochs=1, minimum_steps=10), "short": Way(epochs=1, minimum_steps=1)}


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
    # No threshold below 0.8 keeps nine tenths of the three others right.
    assert found["sensitivity"] == found["sensitivity b_line"] == 0.0


def test_every_way_learns_the_same_frames_of_the_pool_and_no_other(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt: list[tuple[Way, list[int]]] = []
    plain = Learner.learn

    def learn(self: Learner, labelled: Rows, batch: Rows, audited: Rows) -> Outcome:
        learnt.append((self.way, labelled.tolist()))
        return plain(self, labelled, batch, audited)

    monkeypatch.setattr(Learner, "learn", learn)
    rows = new_patients(material, [3], 4, 10, WAYS)
    pool, _ = split(material.clips, "patients", 3)
    first, second = ([known for way, known in learnt if way == one] for one in WAYS.values())
    assert first == second
    assert [len(known) for known in first] == [4, 8, 10]
    assert set(first[0]) < set(first[1]) < set(first[2]) < set(pool.tolist())
    assert [(row["way"], row["answers"]) for row in rows] == [("long", 10), ("short", 10)]
    assert rows[0]["auc"] != rows[1]["auc"]


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


def test_the_command_writes_every_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "WAYS", WAYS)
    made = write_clips(tmp_path / "made", 24)
    options = ["--every", "1", "--seeds", "0", "1", "--batch", "8", "--answers", "8", "--output", str(tmp_path / "out")]
    assert main([str(made), *options]) == 0
    content = json.loads((tmp_path / "out" / "new-patients-made.json").read_text())
    assert len(content["rows"]) == 4
    assert len(content["summary"]) == len(capsys.readouterr().out.splitlines()) == 2
