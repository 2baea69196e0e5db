"""What moves in a phantom, and when a finding shows on the way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_backend.phantom.motion import ANYWHERE, SOFTNESS, VISIBLE, Course, Swing, View, drawn

ways = st.floats(-1, 1)
shares = st.floats(0, 1)
windows = st.tuples(ways, st.floats(0.3, 2)).map(lambda window: (window[0], window[0] + window[1]))
courses = st.builds(Course, windows | st.just(ANYWHERE), windows | st.just(ANYWHERE), st.floats(0.4, 1))
STEEPEST = 1.5 / SOFTNESS  # of the soft edge of a window


@given(shares, st.floats(2, 12), st.floats(0, 6), st.floats(0, 60))
def test_a_swing_stays_on_its_way_and_comes_back(reach: float, period: float, phase: float, time: float) -> None:
    swing = Swing(reach, period, phase)
    assert abs(swing.at(time)) <= reach
    assert swing.at(time + period) == pytest.approx(swing.at(time), abs=1e-6)


@given(courses, ways, ways, ways, ways)
def test_a_finding_fades_in_and_out(course: Course, breath: float, place: float, later: float, beside: float) -> None:
    here, there = course.strength(breath, place), course.strength(later, beside)
    assert 0 <= here <= course.most
    assert abs(here - there) <= STEEPEST * (abs(breath - later) + abs(place - beside)) + 1e-9


@given(ways, ways)
def test_a_finding_shows_within_its_windows_and_not_beyond(breath: float, place: float) -> None:
    assert Course().strength(breath, place) == 1
    assert Course(breath=(breath - 1, breath + 1)).strength(breath, place) == 1
    assert Course(breath=(breath + SOFTNESS, breath + 2)).strength(breath, place) == 0
    assert Course(place=(place - 2, place - SOFTNESS)).strength(breath, place) == 0
    assert Course(breath=(breath, breath + 2)).strength(breath, place) == pytest.approx(0.5)


@given(shares, shares)
def test_what_would_be_too_faint_is_not_drawn_at_all(strength: float, passing: float) -> None:
    assert drawn(strength, passing) == (strength if strength * passing >= VISIBLE else 0)


def test_the_labels_are_what_is_drawn() -> None:
    assert View(0.0, 0.0, 0.0, (), 0.0, 0.0).labels == (0, 0, 0, 0)
    assert View(0.0, 0.0, 0.3, (0.0, 0.4), 0.0, 0.0).labels == (1, 1, 0, 0)
    assert View(1.0, 2.0, 0.0, (0.0, 0.0), 1.0, 0.25).labels == (0, 0, 1, 1)
