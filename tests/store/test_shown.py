from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_backend.store.evidence_addresses import name_of
from ml_backend.store.shown import Frames, Shown

TEXTS = st.text(st.characters(), max_size=12)  # with surrogates, which Label Studio's JSON can have
FRAMES = st.lists(st.builds(Shown, st.integers(1, 2**40), TEXTS, TEXTS, st.none() | st.floats(0, 1e6)), max_size=20)


@given(FRAMES)
def test_columns_hold_what_frames_say(frames: list[Shown]) -> None:
    made = Frames.read(Frames.of(frames).columns())
    assert len(made) == len(frames)
    assert list(made) == [made[row] for row in range(len(made))] == frames
    assert list(made[1:3]) == frames[1:3]


@given(FRAMES)
def test_a_name_finds_the_first_frame_at_its_address(frames: list[Shown]) -> None:
    made, urls = Frames.of(frames), [one.url for one in frames]
    assert [made.find(name_of(url)) for url in urls] == [
        next(row for row, one in enumerate(urls) if name_of(one) == name_of(url)) for url in urls
    ]


def test_a_name_that_only_begins_like_that_of_a_frame_is_not_found() -> None:
    name = name_of("a")
    assert Frames.of([Shown(1, "a", "", None)]).find(name[:-1] + ("0" if name[-1] != "0" else "1")) is None


def test_a_row_that_is_not_there_is_refused() -> None:
    made = Frames.of([Shown(1, "a", "", None)])
    assert made[-1].task == 1
    with pytest.raises(IndexError):
        made[1]


def test_rows_of_tasks_are_ascending_and_those_that_are_there() -> None:
    made = Frames.of([Shown(task, "", "", None) for task in (5, 3, 5, 8)])
    np.testing.assert_array_equal(made.rows_of({8, 5, 99}), [0, 2, 3])
    assert made.rows_of(()).tolist() == []
