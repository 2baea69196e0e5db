"""The correlation table, against METHOD.md and its laws."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from ml_backend.errors import NotEnoughLabels
from ml_backend.tsal import correlation
from ml_backend.tsal.correlation import CorrelationTable, build, countable, group_means, nearest_rows, plain_labels

Sample = tuple[NDArray[np.uint8], NDArray[np.float64]]


def table(rows: Mapping[tuple[int, ...], Sequence[float]]) -> CorrelationTable:
    """A table from {combination: vector}."""
    return CorrelationTable(np.array(list(rows), dtype=np.uint8), np.array(list(rows.values()), dtype=np.float64))


def assert_same(first: CorrelationTable, second: CorrelationTable) -> None:
    np.testing.assert_array_equal(first.combinations, second.combinations)
    np.testing.assert_array_equal(first.vectors, second.vectors)


@st.composite
def samples(draw: st.DrawFn, labels: int = 3, min_size: int = 0) -> Sample:
    """Labels (n, l) and probabilities (n, l) of some frames; all-zero rows and repeated values are likely."""
    count = draw(st.integers(min_size, 12))
    truth = draw(hnp.arrays(np.uint8, (count, labels), elements=st.integers(0, 1)))
    chance = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0.0, 1.0))
    return truth, draw(hnp.arrays(np.float64, (count, labels), elements=chance))


class TestByHand:
    def test_eq_5_to_7_build(self) -> None:
        labels = np.array([[0, 1, 1, 0], [1, 0, 0, 0], [0, 1, 1, 0]])
        probabilities = np.array([[0.1, 0.8, 0.6, 0.0], [0.6, 0.1, 0.1, 0.0], [0.1, 0.6, 1.0, 0.4]])
        # Eq. 5: B-line with lesion are rows 0 and 2, A-line is row 1.
        # Eq. 6: the mean of rows 0 and 2 is (0.1, 0.7, 0.8, 0.2); of row 1 alone (0.6, 0.1, 0.1, 0).
        # Eq. 7: the sums are 1.8 and 0.8, so v = (1, 7, 8, 2) / 18 and (6, 1, 1, 0) / 8.
        built = build(labels, probabilities)
        assert built.combinations.tolist() == [[0, 1, 1, 0], [1, 0, 0, 0]]
        np.testing.assert_allclose(built.vectors, [[1 / 18, 7 / 18, 8 / 18, 2 / 18], [6 / 8, 1 / 8, 1 / 8, 0]])

    def test_eq_8_nearest(self) -> None:
        known = table({(0, 1, 0, 0): (0.1, 0.7, 0.1, 0.1), (1, 0, 0, 0): (0.7, 0.1, 0.1, 0.1)})
        # Divided by their sums 0.5 and 1.6 the frames are (0.2, 0.6, 0.1, 0.1) and (0.5, 0.25, 0.125, 0.125).
        frames = np.array([[0.1, 0.3, 0.05, 0.05], [0.8, 0.4, 0.2, 0.2]])
        # First:  to B-line |0.1| + |0.1| + 0 + 0 = 0.2, to A-line 0.5 + 0.5 + 0 + 0 = 1.0.
        # Second: to B-line 0.4 + 0.45 + 0.025 + 0.025 = 0.9, to A-line 0.2 + 0.15 + 0.025 + 0.025 = 0.4.
        indices, distances = known.nearest(frames)
        assert indices.dtype == np.intp
        assert indices.tolist() == [0, 1]
        np.testing.assert_allclose(distances, [0.2, 0.4])

    def test_confidence_validation_gives_the_nearest_combination(self) -> None:
        known = table({(0, 1, 0, 0): (0.1, 0.7, 0.1, 0.1), (1, 0, 0, 0): (0.7, 0.1, 0.1, 0.1)})
        # No probability reaches 0.5, so the plain pseudo-label is empty where validation says B-line.
        frame = np.array([[0.1, 0.3, 0.05, 0.05]])
        labels, distances = known.validate(frame)
        assert labels.dtype == np.uint8
        assert labels.tolist() == [[0, 1, 0, 0]]
        np.testing.assert_allclose(distances, [0.2])
        assert plain_labels(frame).tolist() == [[0, 0, 0, 0]]

    @pytest.mark.parametrize(
        ("fresh", "replaces"),
        [
            ((0.1, 0.3, 0.5, 0.1), False),  # v_new . z = 0.3 + 0.5 = 0.8 < 0.85
            ((0.05, 0.45, 0.45, 0.05), True),  # 0.45 + 0.45 = 0.9 > 0.85
        ],
    )
    def test_eq_9_update(self, fresh: tuple[float, ...], replaces: bool) -> None:
        old = (0.1, 0.4, 0.45, 0.05)  # v_old . z = 0.4 + 0.45 = 0.85
        z = (0, 1, 1, 0)
        updated = table({z: old}).update(table({z: fresh}))
        assert updated.vectors.tolist() == [list(fresh if replaces else old)]

    def test_eq_9_an_equal_product_replaces(self) -> None:
        z = (0, 1, 1, 0)
        # Both products are 0.5.
        updated = table({z: (0.25, 0.25, 0.25, 0.25)}).update(table({z: (0.0, 0.5, 0.0, 0.5)}))
        assert updated.vectors.tolist() == [[0.0, 0.5, 0.0, 0.5]]

    def test_eq_9_the_empty_combination_always_takes_the_fresh_vector(self) -> None:
        z = (0, 0, 0, 0)  # v . z = 0 for every v
        updated = table({z: (0.1, 0.7, 0.1, 0.1)}).update(table({z: (0.7, 0.1, 0.1, 0.1)}))
        assert updated.vectors.tolist() == [[0.7, 0.1, 0.1, 0.1]]

    def test_update_keeps_what_is_in_one_table_only(self) -> None:
        old = table({(0, 1): (0.25, 0.75)})
        fresh = table({(0, 0): (0.5, 0.5), (1, 0): (0.75, 0.25)})
        updated = old.update(fresh)
        assert updated.combinations.tolist() == [[0, 0], [0, 1], [1, 0]]
        assert updated.vectors.tolist() == [[0.5, 0.5], [0.25, 0.75], [0.75, 0.25]]
        assert_same(fresh.update(old), updated)
        assert len(old) == 1
        assert len(fresh) == 2


class TestBuild:
    def test_a_combination_outside_the_expected_ones_is_a_row_like_any_other(self) -> None:
        assert build(np.array([[1, 1]]), np.array([[0.75, 0.25]])).combinations.tolist() == [[1, 1]]

    def test_a_group_without_any_probability_gets_no_row(self) -> None:
        labels = np.array([[0, 0], [1, 0], [0, 0]])
        probabilities = np.array([[0.0, 0.0], [0.5, 0.0], [0.0, 0.0]])
        assert build(labels, probabilities).combinations.tolist() == [[1, 0]]

    def test_no_frames_give_the_empty_table(self) -> None:
        assert_same(build(np.zeros((0, 4), np.uint8), np.zeros((0, 4))), CorrelationTable.empty(4))

    def test_float32_probabilities_are_averaged_in_double(self) -> None:
        probabilities = np.full((3, 2), 0.1, dtype=np.float32)
        probabilities[:, 1] = 0.3
        once = probabilities[0].astype(np.float64)
        built = build(np.ones((3, 2), np.uint8), probabilities)
        np.testing.assert_allclose(built.vectors[0], once / once.sum(), rtol=1e-15)

    def test_matrices_of_different_shapes_are_refused(self) -> None:
        with pytest.raises(ValueError, match="labels and probabilities must have the same shape"):
            build(np.zeros((2, 3), np.uint8), np.zeros((1, 3)))

    @pytest.mark.parametrize("value", [np.nan, 1.5])
    def test_unusable_probabilities_are_refused(self, value: float) -> None:
        with pytest.raises(ValueError, match="probabilities must be finite"):
            build(np.zeros((1, 2), np.uint8), np.array([[0.5, value]]))

    @given(samples())
    def test_every_vector_sums_to_one_and_lies_in_range(self, data: Sample) -> None:
        built = build(*data)
        np.testing.assert_allclose(built.vectors.sum(axis=1), 1.0, rtol=1e-12)
        assert ((built.vectors >= 0.0) & (built.vectors <= 1.0)).all()

    @given(samples())
    def test_the_rows_are_the_combinations_that_occur_with_some_probability(self, data: Sample) -> None:
        labels, probabilities = data
        groups = {tuple(z): probabilities[(labels == z).all(axis=1)] for z in labels}
        occurring = {z for z, rows in groups.items() if (rows.sum(axis=0) / len(rows)).any()}  # tiny ones may underflow
        assert [tuple(z) for z in build(*data).combinations.tolist()] == sorted(occurring)

    @given(samples())
    def test_building_again_and_updating_with_it_changes_nothing(self, data: Sample) -> None:
        built = build(*data)
        assert_same(build(*data), built)
        assert_same(built.update(build(*data)), built)

    @given(samples(), st.randoms(use_true_random=False))
    def test_the_order_of_the_frames_does_not_matter(self, data: Sample, random: Random) -> None:
        labels, probabilities = data
        order = list(range(len(labels)))
        random.shuffle(order)
        built, shuffled = build(labels, probabilities), build(labels[order], probabilities[order])
        np.testing.assert_array_equal(shuffled.combinations, built.combinations)
        np.testing.assert_allclose(shuffled.vectors, built.vectors, rtol=1e-12)


class TestUpdate:
    @given(samples(), samples())
    def test_no_product_with_the_combination_ever_falls(self, first: Sample, second: Sample) -> None:
        old, fresh = build(*first), build(*second)
        updated = old.update(fresh)
        products = {tuple(z): v @ z for z, v in zip(updated.combinations, updated.vectors, strict=True)}
        for source in (old, fresh):
            for z, v in zip(source.combinations, source.vectors, strict=True):
                assert products[tuple(z)] >= v @ z
        assert set(products) == {tuple(z) for source in (old, fresh) for z in source.combinations}

    @given(samples())
    def test_the_empty_table_is_neutral(self, data: Sample) -> None:
        built = build(*data)
        assert_same(CorrelationTable.empty(3).update(built), built)
        assert_same(built.update(CorrelationTable.empty(3)), built)

    def test_tables_of_other_label_sets_are_refused(self) -> None:
        with pytest.raises(ValueError, match="tables of 3 and 4 labels"):
            CorrelationTable.empty(3).update(CorrelationTable.empty(4))


class TestNearest:
    @given(samples(min_size=1))
    def test_a_rows_own_vector_is_nearest_to_that_row(self, data: Sample) -> None:
        built = build(*data)
        if not len(built):
            return
        indices, distances = built.nearest(built.vectors)
        np.testing.assert_allclose(distances, 0.0, atol=1e-12)
        np.testing.assert_allclose(built.vectors[indices], built.vectors, atol=1e-12)

    @given(samples(min_size=1), samples(min_size=1))
    def test_agrees_with_every_distance_written_out(self, data: Sample, others: Sample) -> None:
        built, frames = build(*data), others[1]
        if not len(built):
            return
        indices, distances = built.nearest(frames)
        for frame, index, distance in zip(frames, indices, distances, strict=True):
            shares = frame / frame.sum() if frame.sum() > 0 else np.full(3, 1 / 3)
            every = [sum(abs(a - b) for a, b in zip(shares, v, strict=True)) for v in built.vectors]
            assert distance == pytest.approx(min(every), abs=1e-12)
            assert every[index] == pytest.approx(min(every), abs=1e-12)
            assert 0.0 <= distance <= 2.0 + 1e-12

    def test_the_first_of_equally_near_rows_wins(self) -> None:
        known = table({(0, 0): (0.5, 0.5), (0, 1): (0.25, 0.75), (1, 0): (0.75, 0.25), (1, 1): (0.5, 0.5)})
        assert known.nearest(np.array([[0.5, 0.5], [0.0, 0.0], [0.375, 0.625]]))[0].tolist() == [0, 0, 0]

    def test_a_frame_without_any_probability_counts_as_uniform(self) -> None:
        known = table({(0, 1, 0, 0): (0.0, 1.0, 0.0, 0.0), (1, 0, 0, 0): (0.5, 0.5, 0.0, 0.0)})
        # |1/4| + |3/4| + 1/4 + 1/4 = 1.5 against 4 * 1/4 = 1
        indices, distances = known.nearest(np.zeros((1, 4)))
        assert indices.tolist() == [1]
        assert distances.tolist() == [1.0]

    @pytest.mark.parametrize("cells", [1, 6, 7, 1000])
    def test_chunks_do_not_show(self, monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
        rng = np.random.default_rng(0)
        known = build(rng.integers(0, 2, (60, 3), np.uint8), rng.random((60, 3)))
        frames = rng.random((23, 3), dtype=np.float32)
        whole = known.nearest(frames)
        monkeypatch.setattr(correlation, "_CELLS_AT_ONCE", cells)
        for expected, given_back in zip(whole, known.nearest(frames), strict=True):
            np.testing.assert_array_equal(given_back, expected)

    def test_no_frames_give_an_empty_answer(self) -> None:
        labels, distances = table({(0, 1): (0.5, 0.5)}).validate(np.zeros((0, 2)))
        assert labels.shape == (0, 2)
        assert distances.shape == (0,)

    def test_the_frames_are_left_as_they_were(self) -> None:
        frames = np.array([[0.5, 0.25], [0.0, 0.0]])
        frames.setflags(write=False)
        table({(0, 1): (0.5, 0.5)}).nearest(frames)

    def test_an_empty_table_says_what_is_missing(self) -> None:
        for ask in (CorrelationTable.empty(2).nearest, CorrelationTable.empty(2).validate):
            with pytest.raises(NotEnoughLabels, match="confirm annotations and fine-tune first"):
                ask(np.array([[0.5, 0.5]]))

    def test_unusable_probabilities_are_refused(self) -> None:
        known = table({(0, 1): (0.5, 0.5)})
        with pytest.raises(ValueError, match="probabilities must be finite"):
            known.nearest(np.array([[0.5, np.nan]]))
        with pytest.raises(ValueError, match="probabilities have 3 labels, the table has 2"):
            known.nearest(np.zeros((1, 3)))


class TestGroupMeans:
    def test_eq_5_and_6_by_hand(self) -> None:
        labels = np.array([[0, 1], [1, 0], [0, 1]])
        combinations, means = group_means(labels, np.array([[0.1, 0.8], [0.6, 0.2], [0.3, 0.4]]))
        assert combinations.tolist() == [[0, 1], [1, 0]]
        np.testing.assert_allclose(means, [[0.2, 0.6], [0.6, 0.2]])

    def test_a_group_without_any_probability_is_kept(self) -> None:
        combinations, means = group_means(np.array([[0, 0]]), np.zeros((1, 2)))
        assert (combinations.tolist(), means.tolist()) == ([[0, 0]], [[0.0, 0.0]])

    def test_no_frames_have_no_groups(self) -> None:
        combinations, means = group_means(np.zeros((0, 3), np.uint8), np.zeros((0, 3)))
        assert combinations.shape == means.shape == (0, 3)

    @given(samples(min_size=1))
    def test_the_groups_average_to_the_average_of_all(self, data: Sample) -> None:
        labels, probabilities = data
        combinations, means = group_means(labels, probabilities)
        sizes = [(labels == z).all(axis=1).sum() for z in combinations]
        np.testing.assert_allclose(np.average(means, axis=0, weights=sizes), probabilities.mean(axis=0), atol=1e-12)


class TestNearestRows:
    def test_values_are_compared_as_they_are(self) -> None:
        # 0.1 + 0.2 = 0.3 to the first and 0.8 + 0.7 = 1.5 to the second; 0.7 + 0.7 = 1.4 and 0.2 + 0.2 = 0.4.
        rows = np.array([[0.0, 0.1], [0.9, 1.0]])
        indices, distances = nearest_rows(np.array([[0.1, 0.3], [0.7, 0.8]]), rows)
        assert indices.tolist() == [0, 1]
        np.testing.assert_allclose(distances, [0.3, 0.4])

    def test_each_piece_is_prepared_once_and_the_frames_stay(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(correlation, "_CELLS_AT_ONCE", 4)
        frames, pieces = np.linspace(0, 1, 10).reshape(5, 2), []

        def halve(by_label: NDArray[np.float64]) -> None:
            pieces.append(by_label.shape)
            by_label /= 2

        before = frames.copy()
        distances = nearest_rows(frames, np.zeros((2, 2)), halve)[1]
        assert pieces == [(2, 2), (2, 2), (2, 1)]
        np.testing.assert_allclose(distances, before.sum(axis=1) / 2)
        np.testing.assert_array_equal(frames, before)

    def test_without_rows_it_raises_not_enough_labels(self) -> None:
        with pytest.raises(NotEnoughLabels, match="confirm annotations"):
            nearest_rows(np.zeros((1, 2)), np.zeros((0, 2)))


class TestConstruction:
    @pytest.mark.parametrize(
        ("combinations", "vectors", "message"),
        [
            ([[0, 1]], [[0.5, 0.5], [0.5, 0.5]], "same shape"),
            ([[0, 2]], [[0.5, 0.5]], "combinations must hold 0 and 1 only"),
            ([[0, 1]], [[0.5, np.nan]], "vectors must be finite"),
            ([[0, 1]], [[1.5, -0.5]], "vectors must be finite"),
            ([[0, 1]], [[0.5, 0.4]], "sum to 1"),
            ([[0, 1], [0, 1]], [[0.5, 0.5], [0.5, 0.5]], "distinct and in ascending order"),
            ([[1, 0], [0, 1]], [[0.5, 0.5], [0.5, 0.5]], "distinct and in ascending order"),
        ],
    )
    def test_invalid_tables_are_refused(
        self, combinations: list[list[int]], vectors: list[list[float]], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            CorrelationTable(np.array(combinations), np.array(vectors))

    def test_a_table_cannot_be_changed_from_outside(self) -> None:
        combinations, vectors = np.array([[0, 1]], dtype=np.uint8), np.array([[0.5, 0.5]])
        known = CorrelationTable(combinations, vectors)
        combinations[0, 0], vectors[0, 0] = 1, 0.0
        assert known.combinations.tolist() == [[0, 1]]
        assert known.vectors.tolist() == [[0.5, 0.5]]
        for array in (known.combinations, known.vectors):
            with pytest.raises(ValueError, match="read-only"):
                array[0, 0] = 0

    def test_dtypes_are_fixed(self) -> None:
        known = CorrelationTable(np.array([[0.0, 1.0]]), np.array([[0.5, 0.5]], dtype=np.float32))
        assert known.combinations.dtype == np.uint8
        assert known.vectors.dtype == np.float64


class TestJson:
    @given(samples())
    def test_comes_back_exactly(self, data: Sample) -> None:
        built = build(*data)
        assert_same(CorrelationTable.from_json(json.loads(json.dumps(built.to_json()))), built)

    def test_is_plain(self) -> None:
        assert table({(0, 1): (0.25, 0.75)}).to_json() == {
            "label_count": 2,
            "combinations": [[0, 1]],
            "vectors": [[0.25, 0.75]],
        }

    @pytest.mark.parametrize(
        "damage",
        [
            {"label_count": 3},
            {"label_count": 1, "combinations": [], "vectors": []},
            {"label_count": None},
            {"combinations": [[0, 1, 0]]},
            {"combinations": [[0, 0.5]]},
            {"combinations": [[0, 256]]},
            {"combinations": [[0, 1], [1]]},
            {"combinations": []},
            {"combinations": None, "vectors": None},
            {"combinations": {}, "vectors": {}},
            {"vectors": [[0.25, 0.7]]},
            {"vectors": [[0.25, float("nan")]]},
            {"vectors": [[0.25, 10**400]]},
            {"vectors": [0.25, 0.75]},
            {"vectors": "0.25"},
        ],
    )
    def test_damage_is_refused(self, damage: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="not a correlation table"):
            CorrelationTable.from_json({**table({(0, 1): (0.25, 0.75)}).to_json(), **damage})

    @pytest.mark.parametrize("content", [None, [], {}, "table", 7])
    def test_other_content_is_refused(self, content: object) -> None:
        with pytest.raises(ValueError, match="not a correlation table"):
            CorrelationTable.from_json(content)


class TestPlainLabels:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_strictly_above_the_threshold(self, dtype: type[np.floating]) -> None:
        labels = plain_labels(np.array([[0.5, 0.51, 0.49, 1.0]], dtype=dtype))
        assert labels.dtype == np.uint8
        assert labels.tolist() == [[0, 1, 0, 1]]

    def test_another_threshold(self) -> None:
        assert plain_labels(np.array([[0.25, 0.3]]), threshold=0.25).tolist() == [[0, 1]]

    def test_unusable_probabilities_are_refused(self) -> None:
        with pytest.raises(ValueError, match="probabilities must be finite"):
            plain_labels(np.array([[0.5, np.nan]]))


class TestLabelSetChanges:
    TABLE = CorrelationTable(
        np.array([[0, 1, 0], [0, 1, 1], [1, 0, 0]], np.uint8),
        np.array([[0.1, 0.7, 0.2], [0.0, 0.5, 0.5], [0.8, 0.2, 0.0]]),
    )

    def test_combinations_that_nobody_holds_leave_the_table(self) -> None:
        kept = self.TABLE.only(np.array([[1, 0, 0], [0, 1, 1], [1, 1, 1]]))
        assert kept.combinations.tolist() == [[0, 1, 1], [1, 0, 0]]
        np.testing.assert_array_equal(kept.vectors, self.TABLE.vectors[1:])

    def test_a_new_label_is_zero_and_the_others_move_by_name(self) -> None:
        moved = self.TABLE.relabel([2, None, 0, 1])
        assert moved.combinations.tolist() == [[0, 0, 0, 1], [0, 0, 1, 0], [1, 0, 0, 1]]
        np.testing.assert_allclose(moved.vectors, [[0.2, 0, 0.1, 0.7], [0, 0, 0.8, 0.2], [0.5, 0, 0, 0.5]])

    def test_where_a_label_is_gone_the_better_of_equal_rows_stays(self) -> None:
        left = self.TABLE.relabel([0, 1])
        assert left.combinations.tolist() == [[0, 1], [1, 0]]
        np.testing.assert_allclose(left.vectors, [[0.0, 1.0], [0.8, 0.2]])

    def test_a_frame_that_is_not_known_in_full_counts_until_one_is(self) -> None:
        labels = np.array([[1, 0, 0], [1, 0, 1], [0, 1, 0], [0, 1, 0]], np.uint8)
        known = np.array([[1, 1, 0], [1, 1, 1], [1, 1, 0], [1, 1, 0]], bool)
        # The second says what 1, 0, ? is; of 0, 1, ? nobody has said it yet.
        assert countable(labels, known).tolist() == [False, True, True, True]
        assert countable(labels, np.ones_like(known)).all()
