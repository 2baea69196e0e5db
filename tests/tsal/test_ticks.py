from __future__ import annotations

import numpy as np
import pytest

from ml_backend.errors import NotEnoughLabels
from ml_backend.tsal.correlation import build
from ml_backend.tsal.strengths import StrengthTable
from ml_backend.tsal.ticks import VALIDATORS, Tables, ticks

LABELS = np.array([[1, 0], [0, 1], [1, 1]], np.uint8)
PROBABILITIES = np.array([[0.9, 0.1], [0.1, 0.9], [0.8, 0.8]])
TABLES = Tables.empty(2).learn(LABELS, PROBABILITIES)


def test_learning_applies_rule_9_to_the_table_and_builds_strengths_anew() -> None:
    # Of the healthy frame v . z is 0.9, and 0.6 the second time: the old row stays. Of both it is 1 whatever v is.
    weaker = np.array([[0.6, 0.4], [0.2, 0.8], [0.3, 0.9]])
    later = TABLES.learn(LABELS, weaker)
    assert later.correlation.vectors.tolist() == [[0.1, 0.9], [0.9, 0.1], pytest.approx([0.25, 0.75])]
    np.testing.assert_array_equal(later.strengths.averages, weaker[[1, 0, 2]])
    np.testing.assert_array_equal(TABLES.correlation.vectors, build(LABELS, PROBABILITIES).vectors)


def test_tables_survive_json_with_and_without_strengths() -> None:
    table, strengths = TABLES.correlation.to_json(), TABLES.strengths.to_json()
    read = Tables.from_json(table, strengths)
    np.testing.assert_array_equal(read.correlation.vectors, TABLES.correlation.vectors)
    np.testing.assert_array_equal(read.strengths.averages, TABLES.strengths.averages)
    assert Tables.from_json(table, {}).strengths.averages.shape == (0, 2)


def test_tables_move_to_another_label_set() -> None:
    moved = TABLES.relabel([1, None, 0])
    assert moved.strengths.combinations.tolist() == [[1, 0, 0], [0, 0, 1], [1, 0, 1]]
    assert moved.strengths.averages.tolist() == [[0.9, 0.0, 0.1], [0.1, 0.0, 0.9], [0.8, 0.0, 0.8]]
    assert moved.correlation.combinations.tolist() == [[0, 0, 1], [1, 0, 0], [1, 0, 1]]


@pytest.mark.parametrize(
    ("validator", "expected"),
    [("table", [[1, 1], [0, 1]]), ("plain", [[0, 0], [0, 1]]), ("strengths", [[1, 0], [0, 1]])],
)
def test_ticks_by_hand(validator: str, expected: list[list[int]]) -> None:
    # Proportions of the first frame are (0.6, 0.4): nearest to (0.5, 0.5), 0.2 away. By strengths (0.9, 0.1) is 0.8
    # away, (0.8, 0.8) is 1.1, and (0.1, 0.9) is 0.9.
    found = ticks(np.array([[0.3, 0.2], [0.0, 0.8]]), TABLES, validator)
    assert found.labels.tolist() == expected
    assert found.plain.tolist() == [[0, 0], [0, 1]]
    assert found.distances.tolist() == pytest.approx([0.2, 0.2])
    assert found.margins.tolist() == pytest.approx([0.1, -0.8])


def test_an_empty_table_gives_no_ticks() -> None:
    with pytest.raises(NotEnoughLabels):
        ticks(PROBABILITIES, Tables.empty(2), "plain")


@pytest.mark.parametrize("name", list(VALIDATORS))
def test_every_validator_labels_every_frame(name: str) -> None:
    labels = VALIDATORS[name](PROBABILITIES, TABLES)
    assert (labels.shape, labels.dtype) == (LABELS.shape, np.dtype(np.uint8))


def test_strengths_are_those_of_the_paper_before_division() -> None:
    assert StrengthTable.build(LABELS, PROBABILITIES).averages[2].tolist() == [0.8, 0.8]
