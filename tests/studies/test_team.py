from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from studies.peers import PEERS, peer
from studies.team import PeerTeam, RandomTeam, Sizes, Team, seen_as
from tests.studies.pools import LABELS, LENGTH, material

SIZES = Sizes(k_max=8, refresh=4, audit=0.25)
MADE = material(LABELS)
FRAMES = np.arange(len(MADE.clips))
NOBODY = FRAMES[:0]


def team(test: NDArray[np.intp] = NOBODY) -> Team:
    return Team(MADE, MADE.places, np.setdiff1d(FRAMES, test), test, SIZES, 0, None)


def test_clips_are_seen_as_they_are_or_hidden() -> None:
    assert seen_as(MADE.clips, MADE.places, "known") is MADE.places
    hidden = seen_as(MADE.clips, MADE.places, "hidden")
    assert len(set(hidden.clips.tolist())) == len(FRAMES)
    assert np.isnan(hidden.times).all()


def test_a_sweep_is_all_clips_of_a_patient_one_after_the_other() -> None:
    sweeps = seen_as(MADE.clips, MADE.places, "sweeps")
    # Clips 0 and 1 are of one patient: five frames, half a second apart, then the next five.
    assert sweeps.clips[: 2 * LENGTH].tolist() == [0] * 10
    assert sweeps.times[: 2 * LENGTH].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5]
    assert sweeps.clips[2 * LENGTH] == 1
    assert sweeps.times[2 * LENGTH] == 0


def test_one_frame_of_every_clip_makes_the_pool_right() -> None:
    asked = team()
    for _ in range(4):
        told = asked.tell()
        asked.answer(asked.ask(told), told)
    assert len(asked.answered) == 16
    assert len(set(MADE.places.clips[asked.answered].tolist())) == len(LABELS)
    told = asked.tell()
    assert (told.labels == asked.truth[asked.rest]).all()
    assert told.confidence.min() > 0.5


def test_audit_frames_are_drawn_once_a_batch_and_kept_through_its_refreshes() -> None:
    asked = team()
    told = asked.tell()
    asked.answer(asked.ask(told), told)
    drawn = asked.drawn
    assert drawn is not None
    assert len(drawn) == 2  # a quarter of eight
    told = asked.tell()
    rows = asked.ask(told)
    assert np.array_equal(np.asarray(asked.drawn), drawn)
    asked.answer(rows, told)
    assert asked.audited == 2
    assert set(drawn.tolist()) <= set(asked.answered.tolist())
    assert asked.drawn is None
    assert asked.batches == 1


def test_frames_that_were_shown_wrong_labels_count_as_corrected() -> None:
    asked = team()
    told = asked.tell()
    asked.answer(np.array([0]), told)  # nothing was known
    assert asked.corrected == 1
    told = asked.tell()
    asked.answer(np.array([1]), told)  # of the same clip
    assert asked.corrected == 1
    told = asked.tell()
    asked.answer(np.array([LENGTH]), told)  # another clip with other labels
    assert asked.corrected == 2


def test_test_rows_are_told_of_and_never_asked() -> None:
    test = np.arange(0, len(FRAMES), LENGTH)
    asked = team(test)
    for _ in range(4):
        told = asked.tell()
        asked.answer(asked.ask(told), told)
    assert not set(test.tolist()) & set(asked.answered.tolist())
    told = asked.tell()
    assert len(told.labels) == len(asked.rest) + len(test)
    assert (told.labels[len(asked.rest) :] == LABELS).all()


def test_of_a_random_choice_every_answer_is_an_audit_answer() -> None:
    asked = RandomTeam(MADE, MADE.places, FRAMES, NOBODY, SIZES, 0, None)
    told = asked.tell()
    asked.answer(asked.ask(told), told)
    assert asked.audited == len(asked.answered) == 4


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_is_asked_for_whole_batches_of_frames_nobody_answered(name: str) -> None:
    asked = PeerTeam(peer(name, 0), MADE, MADE.places, FRAMES, NOBODY, SIZES, 0)
    for _ in range(4):
        told = asked.tell()
        rows = asked.ask(told)
        assert len(rows) == 4
        assert set(rows.tolist()) <= set(asked.rest.tolist())
        asked.answer(rows, told)
    assert len(set(asked.answered.tolist())) == 16
    assert asked.batches == 2
    assert asked.audited == 0


def test_core_set_asks_for_the_frame_farthest_from_what_is_answered() -> None:
    units = np.array([[1, 0], [0.99, 0.14], [0, 1], [-1, 0]], np.float32)
    rows = peer("core-set", 0)(units, np.array([0, -1, -1, -1]), 2)
    assert rows.tolist() == [3, 2]
