"""Phantoms that breathe: what is labelled is drawn, what is not labelled is not, and all of it moves smoothly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ml_backend.phantom.breathing import BreathingClip
from ml_backend.phantom.clips import plan
from ml_backend.phantom.motion import Labels, View
from ml_backend.phantom.patients import patient

ALL: Labels = (1, 1, 1, 1)
TIMES = [index / 5 for index in range(25)]
VISIBLE_GREY = 8 / 255
# A view without one of the findings, all else as it is.
WITHOUT: tuple[Callable[[View], View], ...] = (
    lambda view: replace(view, a_line=0.0),
    lambda view: replace(view, tails=()),
    lambda view: replace(view, lesion=0.0),
    lambda view: replace(view, effusion=0.0),
)


@cache
def clip(seed: int, labels: Labels = ALL) -> BreathingClip:
    return BreathingClip(patient(seed, linear=seed % 6 == 4), labels, seed)


def smooth(echoes: NDArray[np.float32]) -> NDArray[np.float32]:
    """The echoes without most of the speckle."""
    smooth: NDArray[np.float32] = gaussian_filter(echoes, (3, 2))
    return smooth


@pytest.mark.parametrize("seed", range(12))
def test_a_frame_labelled_with_a_finding_visibly_differs_from_the_same_frame_without_it(seed: int) -> None:
    for time in TIMES[::6]:
        view = clip(seed).view(time)
        shown = clip(seed).echoes(time)
        for symptom in np.flatnonzero(clip(seed).labels_at(time)):
            less = WITHOUT[symptom](view)
            assert not less.labels[symptom]
            difference = np.abs(smooth(shown) - smooth(clip(seed).echoes(time, less)))
            assert (difference > VISIBLE_GREY).mean() > 0.01, (time, symptom)


@pytest.mark.parametrize("seed", range(12))
def test_a_frame_not_labelled_with_a_finding_is_that_of_the_same_place_without_it(seed: int) -> None:
    for symptom in range(4):
        time = next((time for time in TIMES if not clip(seed).labels_at(time)[symptom]), None)
        if time is not None:
            other = clip(seed, tuple(int(place != symptom) for place in range(4)))
            assert clip(seed).labels_at(time) == other.labels_at(time)
            np.testing.assert_array_equal(clip(seed).echoes(time), other.echoes(time))


@hypothesis_settings(max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from([(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), ALL]))
def test_a_clip_shows_no_finding_that_its_place_has_not(seed: int, labels: Labels) -> None:
    place = BreathingClip(patient(seed), labels, seed)
    for time in TIMES[::5]:
        assert all(shown <= there for shown, there in zip(place.labels_at(time), labels, strict=True))


def test_most_clips_show_several_combinations_of_labels_and_some_never_change() -> None:
    combinations = []
    for item in plan(patients=24, clips_per_patient=3, seed=1, breathing=True):
        shown = BreathingClip(item.person, item.labels, item.seed)
        combinations.append(len({shown.labels_at(time) for time in TIMES}))
    assert 0.1 < np.mean(np.array(combinations) == 1) < 0.4
    assert np.mean(np.array(combinations) >= 3) > 0.25


def test_the_number_of_b_lines_changes_and_they_vanish_at_times() -> None:
    counts = [[sum(tail > 0 for tail in clip(seed).view(time).tails) for time in TIMES] for seed in range(12)]
    assert sum(min(numbers) == 0 < max(numbers) for numbers in counts) >= 4
    assert sum(len(set(numbers)) >= 3 for numbers in counts) >= 3


def test_where_neither_breath_nor_probe_moves_nothing_changes() -> None:
    still = 0
    for seed in range(60):
        views = {replace(view, breath=0.0, moved=0.0) for view in map(clip(seed).view, TIMES[::4])}
        if {view.breath for view in map(clip(seed).view, TIMES[::4])} == {0.0}:
            still += 1
            assert len(views) == 1
    assert 1 <= still <= 15


@pytest.mark.parametrize("seed", range(6))
def test_neighbouring_frames_look_alike_and_distant_ones_less(seed: int) -> None:
    alike = np.corrcoef([smooth(clip(seed).echoes(time)).ravel() for time in TIMES[:12]])
    neighbours = np.diagonal(alike, 1)
    assert neighbours.min() > 0.6
    assert neighbours.mean() > 0.9
    assert neighbours.mean() > alike.mean()


def test_a_patient_breathes_the_same_way_in_every_clip() -> None:
    def depth(person: int, seed: int) -> float:
        shown = BreathingClip(patient(person), ALL, seed)
        return max(abs(shown.view(time).breath) for time in np.arange(0, 5, 0.02).tolist())

    depths = [{round(depth(person, seed), 2) for seed in range(6)} - {0.0} for person in range(4)]
    assert [len(found) for found in depths] == [1, 1, 1, 1]
    assert len(set.union(*depths)) >= 3


def test_a_clip_depends_on_nothing_but_its_arguments() -> None:
    again = BreathingClip(patient(3), ALL, 3)
    np.testing.assert_array_equal(clip(3).echoes(0.4), again.echoes(0.4))
    assert not np.array_equal(clip(3).echoes(0.4), BreathingClip(patient(3), ALL, 4).echoes(0.4))
    with pytest.raises(ValueError, match="4 values of 0 or 1"):
        BreathingClip(patient(3), (1, 0), 3)
