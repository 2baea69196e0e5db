"""The label set and its combinations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_backend.errors import ConfigurationUnusable, UnknownLabel
from ml_backend.tsal.labels import LabelSet, columns_of, shared_of

LUNG = LabelSet(("A-line", "B-line", "Pleural lesion", "Pleural effusion"))

label_sets = st.lists(st.text(min_size=1).filter(str.strip), min_size=2, max_size=7, unique=True).map(
    lambda names: LabelSet(tuple(names))
)


def test_encode_by_hand() -> None:
    vector = LUNG.encode(["Pleural effusion", "B-line"])
    assert vector.dtype == np.uint8
    assert vector.tolist() == [0, 1, 0, 1]
    assert LUNG.encode([]).tolist() == [0, 0, 0, 0]


def test_decode_by_hand() -> None:
    assert LUNG.decode([0, 1, 0, 1]) == ["B-line", "Pleural effusion"]
    assert LUNG.decode(np.zeros(4)) == []


@given(label_sets, st.data())
def test_decode_undoes_encode(labels: LabelSet, data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(labels.names), unique=True))
    assert labels.decode(labels.encode(chosen)) == sorted(chosen, key=labels.names.index)


@given(label_sets, st.data())
def test_encode_undoes_decode(labels: LabelSet, data: st.DataObject) -> None:
    vector = data.draw(st.lists(st.integers(0, 1), min_size=len(labels), max_size=len(labels)))
    assert labels.encode(labels.decode(vector)).tolist() == vector


def test_an_unknown_label_is_named_with_the_allowed_ones() -> None:
    with pytest.raises(UnknownLabel, match=r"'C-line'.*A-line, B-line, Pleural lesion, Pleural effusion"):
        LUNG.encode(["A-line", "C-line"])


@pytest.mark.parametrize("vector", [[0, 1, 0], [0, 1, 0, 1, 0], [0, 2, 0, 0], [[0, 1, 0, 1]], 1])
def test_a_vector_of_another_form_is_refused(vector: Any) -> None:
    with pytest.raises(ValueError, match=r"combination"):
        LUNG.decode(vector)


def test_columns_are_found_by_name() -> None:
    assert columns_of(("B", "new", "A"), ("A", "B", "gone")) == [1, None, 0]
    assert shared_of([1, None, 0]) == [0, 2]


def test_length_and_healthy_label() -> None:
    assert len(LUNG) == 4
    assert LUNG.healthy == "A-line"


def test_two_sets_of_the_same_names_are_equal() -> None:
    listed: Any = ["A", "B"]
    assert LabelSet(listed) == LabelSet(("A", "B"))
    assert hash(LabelSet(listed)) == hash(LabelSet(("A", "B")))
    assert LabelSet(("A", "B")) != LabelSet(("B", "A"))


@pytest.mark.parametrize(
    ("names", "message"),
    [((), "at least 2 choices.*has 0"), (("A",), "has 1"), (("A", " "), "without a name"), (("A", "B", "A"), ": A$")],
)
def test_an_unusable_configuration_says_what_to_change(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigurationUnusable, match=message):
        LabelSet(names)
