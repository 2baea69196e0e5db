"""Suspects: hand-worked evidence, what is no evidence, and wrong labels put in on purpose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ml_backend.tsal.likeness import NO_TRUST, Places, Scale, Trust
from ml_backend.tsal.memory import Remembered
from ml_backend.tsal.suspects import NEIGHBOURS, STRONG, Suspects, nearest_others, suspects

A, B = [1, 0], [0, 1]
PLAIN = Scale(np.zeros(2, np.float32), np.ones(2, np.float32))
BELIEVED = Trust(0.5, 0.5)


def unit(angle: float) -> list[float]:
    return [float(np.cos(np.radians(angle))), float(np.sin(np.radians(angle)))]


def remembered(
    looks: Sequence[Sequence[float]],
    labels: Sequence[Sequence[int]],
    clips: Sequence[int] | None = None,
    known: NDArray[np.bool_] | None = None,
) -> Remembered:
    values = np.array(labels, np.uint8).reshape(len(looks), 2)
    numbers = np.arange(len(looks)) if clips is None else np.array(clips)
    places = Places(np.array(looks, np.float32).reshape(-1, 2), numbers.astype(np.intp), np.zeros(len(looks)))
    return Remembered(places, values, np.ones(values.shape, bool) if known is None else known)


def found(memory: Remembered, probabilities: object = None, trust: Trust = NO_TRUST) -> Suspects:
    given = None if probabilities is None else np.array(probabilities, np.float64)
    return suspects(memory, given, PLAIN, trust)


def test_three_copies_worked_by_hand() -> None:
    # Copies weigh 1 each, and 0.1 for either side is always there. At first sight frame 2 has 2.1 of 2.2 against it,
    # frames 0 and 1 have 1.1 of 2.2. So frame 2 is believed by 1/22, the others by 1/2. At second sight frame 2 has
    # 1/2 + 1/2 + 0.1 of 1.2 against it; frames 0 and 1 have (1/22 + 0.1) of (1/2 + 1/22 + 0.2).
    seen = found(remembered([unit(0)] * 3, [A, A, B]))
    assert seen.rows.tolist() == [2]
    assert seen.strength.tolist() == pytest.approx([1.1 / 1.2])
    assert seen.memory.tolist() == [pytest.approx([1.1 / 1.2, 1.1 / 1.2])]
    assert seen.contradicted.tolist() == [[True, True]]
    assert [rows.tolist() for rows in seen.witnesses] == [[0, 1]]
    assert np.isnan(seen.network).all()


def test_less_alike_frames_are_weaker_evidence() -> None:
    near = found(remembered([unit(0), unit(1), unit(2)], [A, A, B]))
    far = found(remembered([unit(0), unit(1), unit(20)], [A, A, B]))
    assert near.rows.tolist() == far.rows.tolist() == [2]
    assert near.strength[0] > far.strength[0]


def test_the_neighbours_of_a_wrong_label_are_no_suspects() -> None:
    looks = [unit(step) for step in range(8)]
    assert found(remembered(looks, [A, A, A, B, A, A, A, A])).rows.tolist() == [3]


def test_a_frames_own_clip_is_heard_before_others_that_look_like_it() -> None:
    # Frame 0 looks like three frames of other clips, which say B; two less similar frames of its own clip say A.
    looks = [unit(angle) for angle in (0, 30, 30, 0, 0, 0)]
    memory = remembered(looks, [A, A, A, B, B, B], [0, 0, 0, 1, 2, 3])
    assert found(memory).rows.tolist() == [0]
    assert found(memory, trust=BELIEVED).rows.tolist() == []


def test_only_the_symptom_that_differs_is_contradicted() -> None:
    seen = found(remembered([unit(0)] * 4, [[1, 1], [1, 1], [1, 0], [1, 1]]))
    assert seen.rows.tolist() == [2]
    assert seen.contradicted.tolist() == [[False, True]]


def test_what_nobody_was_asked_is_neither_contradicted_nor_evidence() -> None:
    labels, known = [[1, 0], [1, 1], [1, 1]], np.array([[True, False], [True, True], [True, True]])
    memory = remembered([unit(0)] * 3, labels, known=known)
    assert found(memory).rows.tolist() == []
    assert found(memory, [[0.9, 0.9]] * 3).rows.tolist() == []
    mute = np.array([[True, True], [True, False], [True, False]])
    assert found(remembered([unit(0)] * 3, labels, known=mute)).rows.tolist() == []


def test_the_network_decides_who_comes_first() -> None:
    # Two places far from each other, three copies in each; the third of each is contradicted.
    memory = remembered([unit(0)] * 3 + [unit(180)] * 3, [A, A, B, A, A, B])
    assert found(memory).rows.tolist() == [2, 5]
    says = np.array([[0.9, 0.1]] * 6)
    says[2] = [0.1, 0.9]
    seen = found(memory, says)
    assert seen.rows.tolist() == [5, 2]
    assert seen.network.tolist() == [pytest.approx([0.9, 0.9]), pytest.approx([0.1, 0.1])]
    assert seen.strength[0] > seen.strength[1] > 0
    says[5] = np.nan
    assert np.isclose(found(memory, says).strength[0], found(memory).strength[0])


def test_a_network_alone_makes_no_suspects() -> None:
    assert len(found(remembered([unit(0)] * 3, [A, A, A]), [[0.0, 1.0]] * 3)) == 0


@pytest.mark.parametrize("labels", [[], [A], [A, A], [A, B]])
def test_few_frames_or_one_combination_give_no_suspects(labels: list[list[int]]) -> None:
    """Of two frames that contradict each other neither is more suspect than the other."""
    assert len(found(remembered([unit(0) for _ in range(len(labels))], labels))) == 0


def test_the_nearest_others_are_sorted_and_without_the_frame_itself() -> None:
    memory = remembered([unit(4 * place) for place in range(15)], [A] * 15)
    rows, alike = nearest_others(memory.places, PLAIN, NO_TRUST)
    assert rows.shape == (15, NEIGHBOURS)
    assert rows[0].tolist() == list(range(1, NEIGHBOURS + 1))
    assert (rows != np.arange(15)[:, None]).all()
    assert (np.diff(alike, axis=1) <= 0).all()


@given(st.integers(0, 2**32 - 1))
def test_the_order_of_the_frames_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    places = Places(rng.standard_normal((20, 2)).astype(np.float32), rng.integers(0, 4, 20), rng.random(20))
    memory = Remembered(places, rng.integers(0, 2, (20, 2)).astype(np.uint8), rng.random((20, 2)) < 0.9)
    says, turned = rng.random((20, 2)), rng.permutation(20)
    plain, other = suspects(memory, says, PLAIN, BELIEVED), suspects(memory[turned], says[turned], PLAIN, BELIEVED)
    strengths = dict(zip(plain.rows.tolist(), plain.strength.tolist(), strict=True))
    assert dict(zip(turned[other.rows].tolist(), other.strength.tolist(), strict=True)) == pytest.approx(strengths)
    assert (np.diff(plain.strength) <= 0).all()
    assert ((plain.memory > STRONG) == plain.contradicted).all()
    for row, witnesses, contradicted in zip(plain.rows, plain.witnesses, plain.contradicted, strict=True):
        assert ((memory.labels[witnesses] != memory.labels[row]) & contradicted).any(axis=1).all()


@pytest.mark.parametrize("seed", range(3))
def test_labels_flipped_on_purpose_come_first(seed: int) -> None:
    rng = np.random.default_rng(seed)
    clips = np.repeat(np.arange(20), 12)
    looks = rng.standard_normal((20, 16))[clips] + 0.3 * rng.standard_normal((240, 16))
    labels = rng.integers(0, 2, (20, 3))[clips].astype(np.uint8)
    wrong = rng.permutation(240)[:7]
    labels[wrong, rng.integers(0, 3, 7)] ^= 1
    memory = Remembered(Places(looks, clips, np.full(240, np.nan)), labels, np.ones(labels.shape, bool))
    seen = suspects(memory, None, Scale.of(looks), BELIEVED)
    assert set(seen.rows[:7].tolist()) == set(wrong.tolist())


def test_probabilities_must_fit_the_labels() -> None:
    with pytest.raises(ValueError, match="shape"):
        found(remembered([unit(0)] * 2, [A, B]), [[0.5, 0.5]])
