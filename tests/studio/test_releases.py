"""Of which releases of Label Studio something is said."""

from __future__ import annotations

from itertools import pairwise

import pytest

from ml_backend.studio.releases import TESTED, doubt


@pytest.mark.parametrize("release", [*TESTED, "1.20.1", "1.23.0", "1.22.0.post0"])
def test_nothing_is_said_from_the_oldest_to_the_newest(release: str) -> None:
    assert doubt(release) is None


@pytest.mark.parametrize(("release", "end"), [("1.19.9", 0), ("0.8", 0), ("1.23.3", -1), ("1.100.0", -1), ("2.0", -1)])
def test_an_older_and_a_newer_release_are_told_with_the_nearest_tested_one(release: str, end: int) -> None:
    said = doubt(release)
    assert said is not None
    assert TESTED[end] in said
    assert ("older" if end == 0 else "newer") in said


@pytest.mark.parametrize("release", ["", "None", "latest", "v"])
def test_what_is_no_release_is_doubted_too(release: str) -> None:
    said = doubt(release)
    assert said is not None
    assert TESTED[0] in said
    assert TESTED[-1] in said


def test_they_stand_oldest_first_and_there_are_three_older_ones() -> None:
    numbers = [tuple(map(int, release.split("."))) for release in TESTED]
    assert all(older < newer for older, newer in pairwise(numbers))
    assert len({number[:2] for number in numbers}) >= 4
