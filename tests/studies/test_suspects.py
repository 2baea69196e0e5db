"""The search for flipped labels: what it flips, what it counts, and its command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from studies import suspects as measuring
from studies.simulation import Material, Way
from studies.suspects import main, one_symptom, summary, suspects, whole_combination
from tests.studies.clips import write_clips
from tests.studies.test_simulation import material

__all__ = ["material"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that hardly learns: the memory has to find the labels."""
    monkeypatch.setattr(measuring, "WAY", Way(epochs=1, minimum_steps=2, augmented=False))


def test_one_symptom_of_each_wrong_frame_is_inverted_and_nothing_else() -> None:
    labels = np.random.default_rng(0).integers(0, 2, (50, 3)).astype(np.uint8)
    wrong = np.array([3, 7, 20])
    changed = one_symptom(labels, wrong, np.random.default_rng(1))
    assert (changed != labels).sum(axis=1).tolist() == [int(row in wrong) for row in range(50)]


def test_a_replaced_combination_is_another_one_of_the_pool_each_as_often() -> None:
    labels = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 1]] * 1000, np.uint8)
    wrong = np.arange(0, 3000, 3)
    changed = whole_combination(labels, wrong, np.random.default_rng(1))
    assert {tuple(row) for row in changed[wrong].tolist()} == {(0, 1, 0), (0, 1, 1)}
    assert (changed[wrong, 2] == 1).mean() == pytest.approx(0.5, abs=0.05)
    assert (np.delete(changed, wrong, axis=0) == np.delete(labels, wrong, axis=0)).all()


def test_flipped_labels_of_three_patterns_are_found(material: Material) -> None:
    before = material.clips.labels.copy()
    rows = suspects(material, [0, 1])
    assert [(row["seed"], row["flip"], row["confirmed"]) for row in rows] == [
        (seed, flip, share) for seed in (0, 1) for flip in ("one symptom", "whole combination") for share in (1.0, 0.5)
    ]
    assert [row["frames"] for row in rows] == [30, 15] * 4
    assert all(row["flipped"] == 1 == len(row["patients"]) for row in rows)
    assert all(row["precision"] == np.mean(row["found"]) for row in rows)
    # Each clip is a still, so nothing but looks can tell; all frames of a pattern look alike.
    assert np.mean([row["precision_hidden"] for row in rows]) == 1.0
    assert (material.clips.labels == before).all()


def test_the_summary_pools_seeds_and_has_intervals_by_patient() -> None:
    row = {"data": "made", "flip": "one symptom", "confirmed": 1.0, "precision_memory": 1.0, "precision_hidden": 0.5}
    row |= {"listed": 4, "patients": ["a", "b"]}
    rows = [
        row | {"seed": 0, "precision": 1.0, "found": [True, True], "listed_right": 0.5},
        row | {"seed": 1, "precision": 0.5, "found": [True, False], "listed_right": None},
        row | {"seed": 1, "confirmed": 0.5, "precision": 0.0, "found": [False, False], "listed_right": 0.0},
    ]
    first, second = summary(rows)
    assert (first["precision"], first["seeds"], first["flipped"], first["listed_right"]) == (0.75, 2, 4, 0.5)
    assert first["interval"][0] < 0.75 < first["interval"][1]
    assert (second["confirmed"], second["precision"]) == (0.5, 0.0)


def test_the_door_writes_every_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = write_clips(tmp_path / "made")
    assert main([str(made), "--every", "1", "--seeds", "0", "--output", str(tmp_path / "out")]) == 0
    content = json.loads((tmp_path / "out" / "suspects-made.json").read_text())
    assert len(content["rows"]) == len(content["summary"]) == len(capsys.readouterr().out.splitlines()) == 4
