from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ml_backend.errors import NotEnoughLabels
from ml_backend.tsal.arrays import Labels, Probabilities
from ml_backend.tsal.correlation import build
from ml_backend.tsal.strengths import StrengthTable

LABELS = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 1], [0, 0, 0]], np.uint8)
PROBABILITIES = np.array([[0.9, 0.1, 0.0], [0.7, 0.1, 0.2], [0.1, 0.8, 0.6], [0.1, 0.2, 0.0]])


def test_averages_of_eq_6_are_kept_as_they_are() -> None:
    table = StrengthTable.build(LABELS, PROBABILITIES)
    assert table.combinations.tolist() == [[0, 0, 0], [0, 1, 1], [1, 0, 0]]
    np.testing.assert_allclose(table.averages, [[0.1, 0.2, 0.0], [0.1, 0.8, 0.6], [0.8, 0.1, 0.1]])


def test_the_nearest_average_by_manhattan_distance() -> None:
    table = StrengthTable.build(LABELS, PROBABILITIES)
    labels, distances = table.validate(np.array([[0.2, 0.3, 0.1], [0.2, 0.7, 0.5]]))
    # |0.2-0.1| + |0.3-0.2| + |0.1-0.0| = 0.3; |0.2-0.1| + |0.7-0.8| + |0.5-0.6| = 0.3
    assert labels.tolist() == [[0, 0, 0], [0, 1, 1]]
    np.testing.assert_allclose(distances, [0.3, 0.3])


def test_strength_tells_apart_what_proportions_do_not() -> None:
    # No symptom at (0.1, 0.1), both at (0.9, 0.9): the same proportions.
    labels = np.array([[0, 0], [1, 1]], np.uint8)
    probabilities = np.array([[0.1, 0.1], [0.9, 0.9]])
    unsure = np.array([[0.2, 0.2], [0.8, 0.8]])
    assert StrengthTable.build(labels, probabilities).validate(unsure)[0].tolist() == [[0, 0], [1, 1]]
    assert build(labels, probabilities).validate(unsure)[0].tolist() == [[0, 0], [0, 0]]


def test_it_is_read_back_exactly() -> None:
    table = StrengthTable.build(LABELS, PROBABILITIES)
    again = StrengthTable.from_json(json.loads(json.dumps(table.to_json())))
    np.testing.assert_array_equal(again.averages, table.averages)
    np.testing.assert_array_equal(again.combinations, table.combinations)


@pytest.mark.parametrize(
    "content",
    [
        {},
        None,
        [],
        {"combinations": [], "averages": []},
        {"combinations": [[0, 1]], "averages": [[0.5, 2.0]]},
        {"combinations": [[0, 1]], "averages": [[0.5]]},
        {"combinations": [[0, 2]], "averages": [[0.5, 0.5]]},
        {"combinations": [[0, 1]], "averages": [[0.5, float("nan")]]},
        {"combinations": [[0, 1]], "averages": [[0.5, 10**400]]},
        {"combinations": [[0, 1], [1]], "averages": [[0.5, 0.5]]},
    ],
)
def test_invalid_tables_of_strengths_are_refused(content: Any) -> None:
    with pytest.raises(ValueError, match="not a table of strengths"):
        StrengthTable.from_json(content)


def test_an_empty_table_and_other_labels_are_refused() -> None:
    empty = StrengthTable(np.zeros((0, 2), np.uint8), np.zeros((0, 2)))
    with pytest.raises(NotEnoughLabels):
        empty.validate(np.zeros((1, 2)))
    with pytest.raises(ValueError, match="2 labels, the table has 3"):
        StrengthTable.build(LABELS, PROBABILITIES).validate(np.zeros((1, 2)))


@given(
    st.integers(1, 12).flatmap(
        lambda count: st.tuples(
            hnp.arrays(np.uint8, (count, 3), elements=st.integers(0, 1)),
            hnp.arrays(np.float64, (count, 3), elements=st.floats(0, 1)),
            hnp.arrays(np.float64, (count, 3), elements=st.floats(0, 1)),
        )
    )
)
def test_agrees_with_every_distance_written_out(
    data: tuple[Labels, Probabilities, Probabilities],
) -> None:
    labels, probabilities, frames = data
    table = StrengthTable.build(labels, probabilities)
    means = {z: probabilities[(labels == z).all(axis=1)].mean(axis=0) for z in map(tuple, labels.tolist())}
    assert sorted(means) == [tuple(z) for z in table.combinations.tolist()]
    found, distances = table.validate(frames)
    for frame, z, distance in zip(frames, found.tolist(), distances, strict=True):
        every = {known: np.abs(frame - mean).sum() for known, mean in means.items()}
        assert distance == pytest.approx(min(every.values()), abs=1e-12)
        assert every[tuple(z)] == pytest.approx(distance, abs=1e-12)
