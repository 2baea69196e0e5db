from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from ml_backend.errors import NotEnoughLabels
from studies import dataset
from studies.plan import ABLATIONS, PRESETS, PROTOCOLS, RARE, STRATEGIES, Part, only, parts, split
from studies.pool import strategies
from studies.simulation import Way
from studies.team import CLIPS, Sizes
from tests.studies.clips import write_clips


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dataset.ClipSet:
    folder = tmp_path_factory.mktemp("plan")
    return dataset.load(write_clips(folder / "made", 40), Fraction(1), folder / "cache", None, lambda *_: None)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("seed", range(3))
def test_every_frame_is_on_one_side(clips: dataset.ClipSet, protocol: str, seed: int) -> None:
    pool, test = split(clips, protocol, seed)
    assert sorted([*pool, *test]) == list(range(40))
    again = split(clips, protocol, seed)
    np.testing.assert_array_equal(test, again[1])


def test_by_patient_no_patient_is_on_both_sides_and_by_frame_they_are(clips: dataset.ClipSet) -> None:
    def shared(protocol: str) -> int:
        pool, test = split(clips, protocol, 4)
        return len({clips.patients[row] for row in pool} & {clips.patients[row] for row in test})

    assert shared("patients") == 0
    assert shared("frames") == 4
    assert len(split(clips, "frames", 0)[1]) == 12  # 30% of 40


def test_splits_differ_by_seed(clips: dataset.ClipSet) -> None:
    assert not np.array_equal(split(clips, "frames", 0)[1], split(clips, "frames", 1)[1])


def test_few_patients_are_divided_all_the_same(tmp_path: Path) -> None:
    few = dataset.load(write_clips(tmp_path / "made", 2), Fraction(1), tmp_path / "cache", None, lambda *_: None)
    for seed in range(5):
        assert [len(side) for side in split(few, "patients", seed)] == [1, 1]
    one = dataset.load(write_clips(tmp_path / "one", 1), Fraction(1), tmp_path / "cache", None, lambda *_: None)
    with pytest.raises(NotEnoughLabels, match="are of one patient"):
        split(one, "patients", 0)


def test_a_batch_is_a_share_of_the_pool_or_a_number() -> None:
    assert PRESETS["default"].batch(1000) == 14
    assert PRESETS["default"].batch(10) == 2
    assert PRESETS["paper"].batch(10) == 100


def test_all_labels_get_as_many_updates_as_a_run() -> None:
    # 8 of 557 frames a batch: up to 160 frames in 5 steps a pass, 60 updates each round.
    assert PRESETS["default"].updates(557) == 20 * 60
    # 100 a batch: 4, 7, 10, 13, ... 63 steps a pass, and as many passes as 100 updates need: 25, 15, 10, 8, ... 2.
    updates = [100, 105, 100, 104, 112, 114, 110, 100, 116, 128, 105, 114, 123, 132, 141, 100, 108, 114, 120, 126]
    assert PRESETS["paper"].updates(4787) == sum(updates)
    # A pool of 150 frames is labelled after two rounds: 5 steps a pass from then on.
    assert PRESETS["paper"].updates(150) == 100 + 19 * 100


def test_all_is_planned_once() -> None:
    preset = PRESETS["default"]
    planned = list(parts(preset, "made", [("NNBD-style", None), ("VGG16", "random")]))
    kinds = {kind: sum(part.kind == kind for part in planned) for kind in {part.kind for part in planned}}
    assert kinds == {
        "run": 5 * 2 * len(STRATEGIES),
        "pool": 5 * sum(len(strategies(clips)) for clips in CLIPS),
        "full": 10,
        "ablation": 2 * sum(bool(options) for _, _, options in ABLATIONS),
        "rare": 2 * sum(bool(options) for _, options in RARE),
        "trained layers": 2 * 3,
        "calibration": 5,
        "compared": 20,
        "maps": 1,
        "new patients": 20,
    }
    assert len({part.key({}) for part in planned}) == len(planned)
    assert {part.options["weights"] for part in planned if part.what == "VGG16"} == {"random"}


def test_other_judges_are_other_parts() -> None:
    preset = PRESETS["default"]
    keys = [
        {part.key({}) for part in only(parts(one, "made", []), [], [], ["new patients"])}
        for one in (preset, preset, replace(preset, tail=Way(epochs=3)))
    ]
    assert len(keys[0]) == 20
    assert keys[0] == keys[1]
    assert keys[0].isdisjoint(keys[2])


def test_a_part_of_the_study_can_be_asked_for() -> None:
    planned = list(parts(PRESETS["default"], "made", []))
    some = only(planned, ["pool"], ["cover", "random"])
    assert {(part.kind, part.protocol, part.what) for part in some} == {
        ("pool", "pool", "cover"),
        ("pool", "pool", "random"),
    }
    assert {part.kind for part in only(planned, ["frames"], [])} == {"run", "full"}
    assert {part.kind for part in only(planned, [], ["random"])} == {"run", "pool"}
    assert only(planned, [], []) == planned


def test_the_memory_learns_four_times_a_batch() -> None:
    assert PRESETS["paper"].sizes(6839) == Sizes(100, 25, 0.15)
    assert PRESETS["default"].sizes(796) == Sizes(11, 3, 0.15)


def test_a_key_changes_with_everything_that_matters() -> None:
    part = Part("run", "made", "frames", 0, "mlm")
    others = [
        Part("run", "made", "frames", 1, "mlm"),
        Part("run", "made", "frames", 0, "lc"),
        Part("run", "made", "patients", 0, "mlm"),
        Part("run", "made", "frames", 0, "mlm", {"restart": True}),
    ]
    keys = {part.key({"backbone": "a"}), part.key({"backbone": "b"}), *(one.key({"backbone": "a"}) for one in others)}
    assert len(keys) == 6
    assert part.key({"backbone": "a"}) == Part("run", "made", "frames", 0, "mlm").key({"backbone": "a"})
