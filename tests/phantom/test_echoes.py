"""Phantom frames: their labels can be read off the pixels, and the same seed gives the same bytes."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from ml_backend.phantom import echoes as phantom

SEEDS = range(10)
A_LINE, B_LINE, LESION, EFFUSION, NOTHING = (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (0, 0, 0, 0)
MIDDLE = slice(phantom.BEAMS // 3, 2 * phantom.BEAMS // 3)


@cache
def clip(labels: tuple[int, ...], seed: int) -> phantom.Clip:
    return phantom.Clip(phantom.patient(seed, linear=seed % 6 == 4), labels, seed)


@cache
def echoes(shown: phantom.Clip) -> NDArray[np.float32]:
    return shown.echoes(0.0)


def grey_at(shown: phantom.Clip, depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Grey level of every beam at its own depth in mm."""
    rows = np.round(depth / shown.person.probe.depth * (phantom.DEPTH_SAMPLES - 1)).astype(int)
    (found,) = np.take_along_axis(echoes(shown), np.clip(rows, 0, phantom.DEPTH_SAMPLES - 1), axis=0)
    return np.asarray(found, np.float32)


def line_contrast(shown: phantom.Clip, beams: slice = MIDDLE) -> float:
    """How much brighter it is at 2 and 3 times the depth of the pleural line than beside these depths."""
    pleura = shown.pleura(0.0)
    on = [grey_at(shown, order * pleura + shift)[beams].mean() for order in (2, 3) for shift in (-0.4, 0, 0.4)]
    beside = [grey_at(shown, (order + shift) * pleura)[beams].mean() for order in (2, 3) for shift in (-0.3, 0.3)]
    return float(np.mean(on) - np.mean(beside))


def brightest_bottom(shown: phantom.Clip) -> float:
    """The brightest group of beams in the deepest quarter."""
    bottom = echoes(shown)[3 * phantom.DEPTH_SAMPLES // 4 :].mean(axis=0)
    return float(np.convolve(bottom, np.ones(5) / 5, "valid").max())


def unevenness(shown: phantom.Clip) -> float:
    """How much the brightness of the pleural line varies along it."""
    line = np.max([grey_at(shown, shown.pleura(0.0) + shift) for shift in np.arange(-3, 3, 0.2)], axis=0)
    return float(line[MIDDLE].std())


def grey_below_pleura(shown: phantom.Clip) -> float:
    return float(np.mean([grey_at(shown, shown.pleura(0.0) + below)[MIDDLE].mean() for below in (2, 2.5, 3, 3.5)]))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_lines_repeat_the_pleural_line_at_multiples_of_its_depth(seed: int) -> None:
    assert line_contrast(clip(A_LINE, seed)) > 0.15
    for other in (B_LINE, LESION, NOTHING):
        assert line_contrast(clip(other, seed)) < 0.08


@pytest.mark.parametrize("seed", SEEDS)
def test_b_lines_reach_the_bottom(seed: int) -> None:
    with_tails, without = clip(B_LINE, seed), clip(NOTHING, seed)
    assert brightest_bottom(with_tails) > brightest_bottom(without) + 0.1


def test_b_lines_erase_the_a_lines_that_they_cross() -> None:
    alone, crossed = [], []
    for seed in SEEDS:
        tail = int(echoes(clip((1, 1, 0, 0), seed))[300:].mean(axis=0).argmax())
        beams = slice(max(tail - 2, 0), tail + 3)
        alone.append(line_contrast(clip(A_LINE, seed), beams))
        crossed.append(line_contrast(clip((1, 1, 0, 0), seed), beams))
    assert np.mean(crossed) < 0.15 * np.mean(alone)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_lesion_makes_the_pleural_line_uneven(seed: int) -> None:
    assert unevenness(clip(LESION, seed)) > 1.15 * unevenness(clip(NOTHING, seed))


@pytest.mark.parametrize("seed", SEEDS)
def test_effusion_is_dark_below_the_pleural_line(seed: int) -> None:
    dry = grey_below_pleura(clip(NOTHING, seed))
    for labels in (EFFUSION, (0, 1, 0, 1), (0, 0, 1, 1)):
        assert grey_below_pleura(clip(labels, seed)) < 0.75 * dry


def test_speckle_is_there_and_fluid_has_little_of_it() -> None:
    lung, fluid = clip(NOTHING, 3).echoes(0.0), clip(EFFUSION, 3).echoes(0.0)
    row = round(clip(NOTHING, 3).person.pleura * 1.5 / clip(NOTHING, 3).person.probe.depth * phantom.DEPTH_SAMPLES)
    assert lung[row, MIDDLE].std() > 0.03
    assert lung[row, MIDDLE].std() > 2 * fluid[row, MIDDLE].std()


def test_a_convex_field_is_a_sector_and_a_linear_one_a_rectangle() -> None:
    convex = phantom.Clip(phantom.patient(3), A_LINE, 3).frame(0.0)
    linear = phantom.Clip(phantom.patient(3, linear=True), A_LINE, 3).frame(0.0)
    assert not convex[:40, :40].any()
    assert convex[:200].any(axis=0).sum() > convex[:40].any(axis=0).sum()
    assert linear[:40].any(axis=0).sum() == linear[:200].any(axis=0).sum()


def test_frames_move_slowly_and_never_stand_still() -> None:
    shown = clip(B_LINE, 5)
    first, soon = shown.frame(0.0), shown.frame(0.1)
    elsewhere = phantom.Clip(shown.person, B_LINE, 6).frame(0.0)
    assert np.corrcoef(first.ravel(), soon.ravel())[0, 1] > 0.8
    assert np.corrcoef(first.ravel(), elsewhere.ravel())[0, 1] < 0.8
    assert not np.array_equal(first, soon)
    assert np.array_equal(soon, shown.frame(0.1))


def test_the_lung_slides_under_the_chest_wall() -> None:
    shown = clip(B_LINE, 5)
    bottoms = np.stack(
        [shown.echoes(float(time))[300:].mean(axis=0) for time in np.arange(0, shown.person.breath, 0.25)]
    )
    places = bottoms.argmax(axis=1) * 2 * shown.person.probe.half_width_at(shown.person.pleura) / phantom.BEAMS
    assert shown.person.slide < np.ptp(places) < 4 * shown.person.slide
    skins = [shown.echoes(time)[:20] for time in (0.0, 1.0)]
    assert np.corrcoef(skins[0].ravel(), skins[1].ravel())[0, 1] > 0.8


def test_a_frame_is_a_picture_of_the_size_asked_for_and_depends_on_nothing_but_its_arguments() -> None:
    one = phantom.frame(B_LINE, seed=3, size=(224, 300))
    assert one.shape == (224, 300)
    assert one.dtype == np.uint8
    assert np.array_equal(one, phantom.frame(B_LINE, seed=3, size=(224, 300)))
    assert not np.array_equal(one, phantom.frame(B_LINE, seed=4, size=(224, 300)))
    assert not np.array_equal(one, phantom.frame(A_LINE, seed=3, size=(224, 300)))


@pytest.mark.parametrize("labels", [(1, 0, 0), (1, 0, 0, 0, 0), (2, 0, 0, 0)])
def test_labels_that_are_no_labels_are_refused(labels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="4 values of 0 or 1"):
        phantom.frame(labels, seed=1)


def test_a_frame_too_small_to_show_anything_is_refused() -> None:
    with pytest.raises(ValueError, match="32×32"):
        phantom.frame(A_LINE, seed=1, size=(16, 400))
