"""Records of one byte a value, against numbers worked out by hand and the law of the half step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from ml_backend.store.quantised import quantise, restore

SHAPE = (2, 1, 3)
FLOATS = st.floats(width=16, allow_nan=False, allow_infinity=False)


def test_numbers_worked_out_by_hand() -> None:
    # From -1 to 4.1 there are 255 steps of 0.02. The record goes from place to place, both channels of each.
    first = [[[-1.0, 0.0, 1.0]], [[4.1, 0.019, -0.991]]]
    (record,) = quantise(np.array([first], np.float64))
    assert record[:8].view(np.float32) == pytest.approx([-1.0, 0.02])
    assert record[8:].tolist() == [0, 255, 50, 51, 100, 0]
    restored = restore([record], SHAPE)
    assert restored[0] == pytest.approx(np.array([[[-1.0, 0.0, 1.0]], [[4.1, 0.02, -1.0]]]), abs=1e-6)
    assert restored.dtype == np.float32


def test_each_frame_has_its_own_range() -> None:
    frames = np.zeros((2, *SHAPE), np.float16)
    frames[0, 0, 0, 0], frames[1, 1, 0, 2] = -1000, 0.001
    first, second = restore(list(quantise(frames)), SHAPE)
    assert first[0, 0, 0] == -1000
    assert second[1, 0, 2] == np.float32(np.float16(0.001))
    assert np.count_nonzero(np.abs(first) > 1e-3) == np.count_nonzero(second) == 1


@pytest.mark.parametrize("value", [0.0, -3.5, 65504.0])
def test_a_constant_frame_stays_as_it_is(value: float) -> None:
    frame = np.full((1, *SHAPE), value, np.float16)
    np.testing.assert_array_equal(restore(list(quantise(frame)), SHAPE), frame)


@given(
    arrays(
        np.float16,
        st.tuples(st.integers(0, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
        elements=FLOATS,
    )
)
def test_no_value_is_off_by_more_than_half_a_step(frames: NDArray[np.float16]) -> None:
    channels, height, width = frames.shape[1:]
    restored = restore(list(quantise(frames)), (channels, height, width))
    assert restored.shape == frames.shape
    exact = frames.astype(np.float64)
    for frame, again in zip(exact, restored, strict=True):
        step = (frame.max() - frame.min()) / 255
        assert np.abs(frame - again).max() <= step / 2 + 1e-6 * np.abs(frame).max()
        # What is restored is quantised to the same bytes: nothing drifts, however often.
        np.testing.assert_array_equal(quantise(again[None])[0, 8:], quantise(frame[None])[0, 8:])


@given(st.integers(1, 60_000))
def test_a_range_too_small_to_be_divided_is_none(multiple: int) -> None:
    frame = np.zeros((1, *SHAPE), np.float32)
    frame[0, 1, 0, 1] = multiple * np.float32(1e-45)
    np.testing.assert_array_equal(restore(list(quantise(frame)), SHAPE), 0)


def test_a_record_of_resnet50_has_98_kib() -> None:
    frames = np.random.default_rng(0).standard_normal((2, 2048, 7, 7)).astype(np.float16)
    records = quantise(frames)
    assert records.dtype == np.uint8
    assert [record.nbytes for record in records] == [100_360, 100_360]
    np.testing.assert_allclose(restore(list(records), (2048, 7, 7)), frames, atol=0.02)


def test_restored_values_lie_as_the_network_wants_them() -> None:
    frames = np.random.default_rng(0).random((4, 5, 3, 2)).astype(np.float16)
    assert np.moveaxis(restore(list(quantise(frames)), (5, 3, 2)), 1, 3).flags["C_CONTIGUOUS"]


def test_nothing_gives_nothing() -> None:
    assert restore([], SHAPE).shape == (0, *SHAPE)
    assert quantise(np.zeros((0, *SHAPE), np.float16)).shape == (0, 14)


def test_records_that_lie_anywhere_in_memory_are_read() -> None:
    frames = np.random.default_rng(0).random((1, *SHAPE)).astype(np.float16)
    (record,) = quantise(frames)
    moved = np.frombuffer(b"\0" + record.tobytes(), np.uint8)[1:]
    np.testing.assert_array_equal(restore([moved], SHAPE), restore([record], SHAPE))
