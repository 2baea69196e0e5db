from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ml_backend.msml.network import Network
from ml_backend.msml.sketch import WIDTH, sketch
from ml_backend.store.quantised import quantise, restore


def maps(count: int, shape: tuple[int, int, int], seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


@pytest.mark.unit
@pytest.mark.parametrize("shape", [(192, 7, 7), (3, 30, 20), (3, 2, 2)])
def test_every_value_counts_once_with_a_sign_and_groups_are_of_one_size(shape: tuple[int, int, int]) -> None:
    width = int(np.prod(shape))
    size = -(-width // WIDTH)
    found = sketch(np.eye(width, dtype=np.float32).reshape(width, *shape)).astype(np.float64) * np.sqrt(size)
    assert (np.count_nonzero(found, axis=1) == 1).all()
    np.testing.assert_allclose(np.abs(found).sum(axis=1), 1, atol=1e-3)
    groups = np.count_nonzero(found, axis=0)
    assert groups.max() <= size
    assert groups.sum() == width
    assert abs(np.sign(found.sum(axis=1)).mean()) < 4 / np.sqrt(width)


@pytest.mark.unit
def test_neighbours_do_not_share_groups() -> None:
    (first, *_, last) = np.abs(sketch(np.eye(9408, dtype=np.float32).reshape(-1, 192, 7, 7)).astype(np.float32)).T
    assert len(np.unique(np.diff(np.flatnonzero(first)))) > 10
    assert not np.array_equal(np.diff(np.flatnonzero(first)), np.diff(np.flatnonzero(last)))


@pytest.mark.unit
@pytest.mark.parametrize(
    ("shape", "digest"),
    [
        ((192, 7, 7), "16bdd9de73c954ce"),
        ((2048, 7, 7), "4195ad461a938f75"),
    ],
)
def test_the_draw_is_the_same_on_every_machine(shape: tuple[int, int, int], digest: str) -> None:
    whole = np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape) % 64
    found = sketch(whole)
    assert found.nbytes == 1024
    assert hashlib.sha256(found.astype("<f2").tobytes()).hexdigest()[:16] == digest


@pytest.mark.unit
def test_how_they_lie_in_memory_and_beside_which_does_not_matter() -> None:
    values = maps(5, (192, 7, 7)).astype(np.float16)
    lying = np.moveaxis(np.moveaxis(values, 1, 3).astype(np.float32).copy(), 3, 1)
    np.testing.assert_array_equal(sketch(values), sketch(lying), strict=True)
    np.testing.assert_array_equal(sketch(values)[3:4], sketch(lying[3:4]), strict=True)
    assert sketch(values[:0]).shape == (0, WIDTH)


@pytest.mark.unit
def test_inner_products_are_kept_up_to_a_factor_and_places_tell_frames_apart() -> None:
    values = maps(40, (192, 7, 7))
    values[20:] = values[:20] + 0.5 * values[20:]
    flat, found = values.reshape(40, -1), sketch(values).astype(np.float32)
    exact, kept = flat @ flat.T, found @ found.T * 19  # the size of a group
    lengths = np.sqrt(exact.diagonal()[:, None] * exact.diagonal())
    assert np.abs((kept - exact) / lengths).max() < 5 / np.sqrt(WIDTH)
    mirrored = sketch(values[:1, :, :, ::-1])[0].astype(np.float32)
    assert mirrored @ found[0] < 0.5 * (found[0] @ found[0])


@pytest.mark.unit
def test_sums_beyond_float16_are_clipped() -> None:
    largest = np.finfo(np.float16).max
    found = sketch(np.full((1, 512, 1, 1), 1e6, np.float32))
    assert set(found[0].tolist()) == {-largest, largest}


@pytest.mark.unit
def test_the_input_stays_as_it_is_and_maps_of_another_form_are_refused() -> None:
    values: NDArray[Any] = maps(2, (4, 3, 3))
    before = values.copy()
    sketch(values)
    np.testing.assert_array_equal(values, before)
    with pytest.raises(ValueError, match="axis"):
        sketch(values.reshape(2, -1))


def test_what_the_cache_keeps_gives_nearly_what_the_trunk_gave(lite: Network, images: NDArray[np.uint8]) -> None:
    fresh = lite.activations(images)
    found, kept = (
        sketch(each).astype(np.float64) for each in (fresh, restore(list(quantise(fresh)), lite.activation_shape))
    )
    np.testing.assert_allclose(kept, found, atol=0.005 * float(np.ptp(fresh)))
    assert (
        np.einsum("ij,ij->i", kept, found) > 0.9999 * np.linalg.norm(kept, axis=1) * np.linalg.norm(found, axis=1)
    ).all()
