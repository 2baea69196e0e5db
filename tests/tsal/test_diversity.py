"""The first queue covers the pool before any model exists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from ml_backend.tsal import diversity
from ml_backend.tsal.diversity import clusters, spread


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def three_groups() -> tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.float64]]:
    """Five, three and two rows about three axes, mixed; with each row's group and how far from its axis it was put.

    In every group one row lies on the axis and the others in symmetric pairs about it (or, of two rows, one near).
    """
    rows = []
    for group, distances in enumerate([(0.0, 0.1, -0.1, 0.2, -0.2), (0.0, 0.1, -0.1), (0.0, 0.1)]):
        for offset in distances:
            row = np.zeros(6, dtype=np.float32)
            row[group], row[3 + group] = 1.0, offset
            rows.append((row, group, abs(offset)))
    mixed = [rows[index] for index in generator(9).permutation(len(rows))]
    features, groups, offsets = (np.array(column) for column in zip(*mixed, strict=True))
    return features, groups, offsets


@pytest.mark.parametrize("seed", range(5))
def test_representatives_first_then_the_clusters_in_turn(seed: int) -> None:
    features, groups, offsets = three_groups()
    order = spread(features, 3, generator(seed))
    assert order.dtype == np.intp
    # Clusters of 5, 3 and 2 rows: the largest opens each turn, and drops out of none before it is used up.
    assert groups[order].tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 0, 0]
    # The representatives of the two symmetric groups lie on their axes, and every cluster is emptied from the inside.
    assert offsets[order][:2].tolist() == [0.0, 0.0]
    for group in (0, 1):
        assert (np.diff(offsets[order][groups[order] == group]) >= 0).all()


def test_the_centres_of_a_part_serve_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diversity, "CLUSTERED_ROWS", 40)
    angles = np.repeat([0.0, 2.0, 4.0], 100) + generator().normal(0, 0.05, 300)
    features = np.column_stack([np.cos(angles), np.sin(angles)])
    order = spread(features, 3, generator())
    assert sorted(order.tolist()) == list(range(300))
    assert sorted((order[:3] // 100).tolist()) == [0, 1, 2]
    assert sorted((order[3:6] // 100).tolist()) == [0, 1, 2]


def test_more_representatives_than_clustered_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diversity, "CLUSTERED_ROWS", 5)
    features = generator().random((30, 4), dtype=np.float32)
    assert len(diversity._centres(features, 20, generator())) == 5
    assert sorted(spread(features, 20, generator()).tolist()) == list(range(30))


def test_only_the_direction_of_a_row_counts() -> None:
    features = generator().random((60, 8), dtype=np.float32)
    scaled = features * np.exp2(generator(1).integers(-20, 20, (60, 1))).astype(np.float32)
    np.testing.assert_array_equal(spread(features, 7, generator()), spread(scaled, 7, generator()))


def test_the_same_seed_gives_the_same_order() -> None:
    features = generator().random((200, 8))
    np.testing.assert_array_equal(spread(features, 9, generator(4)), spread(features, 9, generator(4)))
    assert spread(features, 9, generator(4)).tolist() != spread(features, 9, generator(5)).tolist()


@pytest.mark.parametrize(
    "features",
    [
        np.zeros((0, 8)),
        np.zeros((12, 8)),
        np.ones((12, 8)),
        np.repeat(np.eye(3), 4, axis=0),
        np.vstack([np.zeros((6, 3)), np.eye(3)]),
        np.eye(3),
        np.full((4, 8), np.finfo(np.float32).max),
        np.full((4, 8), 1e-45),
    ],
    ids=["empty", "zeros", "identical", "duplicates", "black frames", "fewer than asked", "huge", "tiny"],
)
def test_every_row_comes_once_without_a_warning(features: NDArray[np.floating]) -> None:
    order = spread(features.astype(np.float32), 5, generator())
    assert order.dtype == np.intp
    assert sorted(order.tolist()) == list(range(len(features)))


def test_duplicates_do_not_crowd_out_what_differs() -> None:
    # Three distinct directions, four times each: the first three rows show all of them.
    order = spread(np.repeat(np.eye(3), 4, axis=0), 3, generator())
    assert sorted((order[:3] // 4).tolist()) == [0, 1, 2]


@settings(max_examples=40)
@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(0, 12), st.integers(1, 3)),
        elements=st.one_of(
            st.sampled_from([0.0, 1.0, -1.0]), st.floats(width=32, allow_nan=False, allow_infinity=False)
        ),
    ),
    st.integers(1, 15),
)
def test_any_features_give_a_permutation(features: NDArray[np.floating], count: int) -> None:
    assert sorted(spread(features, count, generator()).tolist()) == list(range(len(features)))


def test_the_features_are_left_as_they_were() -> None:
    features = generator().random((20, 4), dtype=np.float32)
    before = features.copy()
    spread(features, 3, generator())
    np.testing.assert_array_equal(features, before)


@pytest.mark.parametrize("count", [0, -1])
def test_a_count_below_one_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"count must be at least 1; it is {count}"):
        spread(np.ones((3, 2)), count, generator())


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_features_that_are_not_finite_are_refused_by_row(value: float) -> None:
    features = np.ones((3, 2))
    features[2, 1] = value
    with pytest.raises(ValueError, match="row 2 is not"):
        spread(features, 2, generator())


@pytest.mark.parametrize("shape", [(3,), (3, 0), (2, 2, 2)])
def test_features_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must be a matrix"):
        spread(np.ones(shape), 2, generator())


class TestClusters:
    @pytest.mark.parametrize("seed", range(3))
    def test_nearby_rows_form_one_cluster(self, seed: int) -> None:
        features, groups, _ = three_groups()
        found = clusters(features, 3, generator(seed))
        assert found.shape == (10,)
        assert len({(one, group) for one, group in zip(found.tolist(), groups.tolist(), strict=True)}) == 3
        assert set(found.tolist()) == {0, 1, 2}

    def test_only_the_direction_counts_and_the_seed_decides(self) -> None:
        features = generator().random((80, 6), dtype=np.float32)
        found = clusters(features, 5, generator())
        np.testing.assert_array_equal(clusters(features * 8, 5, generator()), found)
        assert clusters(features, 5, generator(1)).tolist() != found.tolist()

    def test_fewer_rows_or_directions_than_asked_for(self) -> None:
        assert sorted(clusters(np.eye(3), 5, generator()).tolist()) == [0, 1, 2]
        assert len(set(clusters(np.ones((6, 2)), 4, generator()).tolist())) == 1
        assert clusters(np.zeros((0, 3)), 2, generator()).shape == (0,)

    @pytest.mark.parametrize("count", [0, -1])
    def test_unusable_arguments_are_refused(self, count: int) -> None:
        with pytest.raises(ValueError, match=f"count must be at least 1; it is {count}"):
            clusters(np.ones((3, 2)), count, generator())
        with pytest.raises(ValueError, match="row 0 is not"):
            clusters(np.array([[np.inf, 1.0]]), 2, generator())

    @pytest.mark.parametrize("seed", range(3))
    def test_spread_shows_one_frame_of_each_cluster_first(self, seed: int) -> None:
        features = generator(seed).random((50, 4), dtype=np.float32)
        of = clusters(features, 6, generator(seed))
        first = spread(features, 6, generator(seed))[:6]
        assert sorted(of[first].tolist()) == sorted(set(of.tolist()))
