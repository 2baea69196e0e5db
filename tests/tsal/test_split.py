"""A patient's side of the split never changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ml_backend.tsal.split import HELD_OUT, NEWEST_AUDIT, NOBODY, VALIDATION, held_out, parts, set_aside

patient_lists = st.lists(st.text(max_size=5), max_size=20)
shares = st.floats(0.0, 1.0)
seeds = st.integers(-5, 2**32)


@pytest.mark.parametrize(
    ("patient", "position"), [("anna", 0x90806ABC7BE997DB), ("boris", 0xF0C6FFE2CC7DDFDD), ("chen", 0xF06BEE6AE208B94C)]
)
def test_the_position_is_the_hash_of_seed_and_patient(patient: str, position: int) -> None:
    # The first 53 bits of `printf '7:anna' | sha256sum`; any change would move patients between model versions.
    position >>= 11
    assert held_out([patient], position / 2**53, seed=7).tolist() == [False]
    assert held_out([patient], (position + 1) / 2**53, seed=7).tolist() == [True]


@given(patient_lists, shares, seeds)
def test_all_frames_of_a_patient_are_on_one_side(patients: list[str], share: float, seed: int) -> None:
    sides = held_out(patients * 2, share, seed)
    assert sides.dtype == np.bool_
    assert sides.shape == (2 * len(patients),)
    assert len(set(zip(patients * 2, sides.tolist(), strict=True))) == len(set(patients))


@given(patient_lists, patient_lists, shares, seeds)
def test_more_patients_change_no_side(patients: list[str], more: list[str], share: float, seed: int) -> None:
    alone = held_out(patients, share, seed)
    np.testing.assert_array_equal(held_out(more + patients, share, seed)[len(more) :], alone)


@given(patient_lists, shares, shares, seeds)
def test_a_larger_share_only_adds_patients(patients: list[str], one: float, other: float, seed: int) -> None:
    smaller, larger = (held_out(patients, share, seed) for share in sorted((one, other)))
    assert (smaller <= larger).all()


@given(patient_lists, seeds)
def test_a_share_of_zero_and_of_one(patients: list[str], seed: int) -> None:
    assert not held_out(patients, 0.0, seed).any()
    assert held_out(patients, 1.0, seed).all()


def test_the_share_is_met_on_average() -> None:
    patients = [f"patient-{number}" for number in range(4000)]
    assert held_out(patients, 0.2, seed=0).mean() == pytest.approx(0.2, abs=0.03)


def test_another_seed_gives_another_split() -> None:
    patients = [f"patient-{number}" for number in range(100)]
    assert held_out(patients, 0.5, seed=0).tolist() != held_out(patients, 0.5, seed=1).tolist()


def test_a_name_that_is_not_valid_unicode_has_a_side() -> None:
    assert held_out(["\ud800"], 1.0, seed=0).tolist() == [True]


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_the_range_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"share must be within \[0, 1\]; it is"):
        held_out(["anna"], share, seed=0)


LABELS = np.array([[1, 0], [0, 1], [1, 0], [0, 1]], np.uint8)


def rows(*wanted: int) -> NDArray[np.bool_]:
    return np.isin(np.arange(len(LABELS)), wanted)


@pytest.mark.parametrize(
    ("held", "audited", "new", "training", "judged", "judged_on", "uniform"),
    [
        ((2, 3), (0, 3), (0, 3), (0, 1), (3,), HELD_OUT, True),
        ((2, 3), (0,), (0,), (0, 1), (2, 3), HELD_OUT, False),
        ((), (0, 3), (3,), (0, 1, 2), (3,), NEWEST_AUDIT, True),
        ((), (0, 3), (), (0, 1, 2, 3), (), NOBODY, False),
        ((1, 3), (0,), (0,), (1, 2, 3), (0,), NEWEST_AUDIT, True),  # frames 0 and 2 alone have one combination
        ((1, 3), (1, 3), (1, 3), (0, 1, 2, 3), (), NOBODY, False),  # and so would they without the audit frames
    ],
)
def test_frames_are_set_aside_to_judge_by(
    held: tuple[int, ...],
    audited: tuple[int, ...],
    new: tuple[int, ...],
    training: tuple[int, ...],
    judged: tuple[int, ...],
    judged_on: str,
    uniform: bool,
) -> None:
    parts = set_aside(LABELS, rows(*held), rows(*audited), rows(*new))
    assert parts.training.tolist() == rows(*training).tolist()
    assert parts.judged.tolist() == rows(*judged).tolist()
    assert (parts.judged_on, parts.uniform) == (judged_on, uniform)


def test_without_frames_nobody_judges() -> None:
    nothing = np.zeros(0, bool)
    assert set_aside(np.zeros((0, 2), np.uint8), nothing, nothing, nothing).judged_on == NOBODY


@given(patient_lists, shares, seeds)
def test_the_test_part_of_an_export_is_who_is_held_out(patients: list[str], share: float, seed: int) -> None:
    assert [part == "test" for part in parts(patients, share, seed)] == held_out(patients, share, seed).tolist()


@given(patient_lists, patient_lists, shares, seeds)
def test_more_patients_change_no_part(patients: list[str], more: list[str], share: float, seed: int) -> None:
    assert parts(more + patients, share, seed)[len(more) :] == parts(patients, share, seed)


@given(patient_lists, shares, shares, seeds)
def test_another_share_moves_nobody_between_train_and_validation(
    patients: list[str], one: float, other: float, seed: int
) -> None:
    moved = set(zip(parts(patients, one, seed), parts(patients, other, seed), strict=True))
    assert not moved & {("train", "validation"), ("validation", "train")}


def test_the_share_for_validation_is_met_on_average_whoever_is_held_out() -> None:
    found = parts([f"patient-{number}" for number in range(8000)], 0.2, seed=0)
    assert found.count("validation") / (8000 - found.count("test")) == pytest.approx(VALIDATION, abs=0.01)
