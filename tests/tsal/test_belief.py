from __future__ import annotations

import numpy as np

from ml_backend.tsal.belief import SOURCES, Audited, Calibration, Candidates, believe, candidates
from ml_backend.tsal.likeness import NO_TRUST
from ml_backend.tsal.memory import recall
from ml_backend.tsal.ticks import Tables
from tests.tsal.test_likeness import PLAIN, places
from tests.tsal.test_memory import A, B, remembered, unit

NOBODY = Audited(np.empty(0, np.intp), np.empty((0, 2)))
EMPTY = remembered(np.zeros((0, 2)), np.zeros((0, 2)))


def tables() -> Tables:
    return Tables.empty(2).learn(np.array([A, B], np.uint8), np.array([[0.9, 0.1], [0.1, 0.9]]))


def test_the_memory_alone_ticks_where_there_is_no_network() -> None:
    belief = believe(places([unit(5), unit(85)]), remembered([unit(0), unit(90)], [A, B]), NOBODY, None, None)
    assert belief.labels.tolist() == [A, B]
    assert [SOURCES[source] for source in belief.source] == ["memory", "memory"]


def test_before_any_answer_the_network_ticks() -> None:
    belief = believe(places([unit(5)]), EMPTY, NOBODY, np.array([[0.2, 0.9]]), tables())
    assert belief.labels.tolist() == [B]
    assert SOURCES[belief.source[0]] != "memory"


def test_a_frame_near_the_border_is_less_sure() -> None:
    memory = remembered([unit(0), unit(90)], [A, B])
    confidence = believe(places([unit(angle) for angle in range(-30, 121)]), memory, NOBODY, None, None).confidence
    assert confidence[35] > 0.9 > confidence[75]  # at 5 degrees, and half way


def test_the_network_stands_in_for_a_symptom_that_the_memory_does_not_know() -> None:
    known = np.array([[True, False]])
    memory = remembered([unit(0)], [A], known=known)
    recalled = recall(places([unit(0)]), memory, PLAIN, NO_TRUST)
    assert candidates(recalled, np.array([[0.6, 0.8]]), tables()).labels[0].tolist() == [[1, 1]]


def test_the_evidence_speaks_against_a_candidate_that_the_memory_contradicts() -> None:
    memory = remembered([unit(0), unit(90)], [A, B])
    recalled = recall(places([unit(10)]), memory, PLAIN, NO_TRUST)
    offered = candidates(recalled, np.array([[0.2, 0.8]]), tables())
    margin = np.cos(np.radians(10)) - np.cos(np.radians(80))
    assert offered.labels[:, 0].tolist() == [A, B, B]
    assert np.allclose(offered.evidence[:, 0, 0], [margin, -margin, -margin])
    assert np.allclose(offered.evidence[:, 0, 2], [np.log(0.2), np.log(0.8), np.log(0.8)])
    assert offered.evidence[:, 0, 3].tolist() == [0, 1, 1]


def test_confidence_follows_what_the_audit_found() -> None:
    rng = np.random.default_rng(0)
    margins = rng.random(4000)
    right = rng.random(4000) < 0.5 + 0.5 * margins
    offered = Candidates(np.zeros((1, 4000, 2), np.uint8), np.stack([margins, np.zeros(4000)], axis=1)[None])
    sure = Calibration.fit(offered, right[None]).sure(offered)[0]
    for low in (0.0, 0.25, 0.5, 0.75):
        inside = (margins >= low) & (margins < low + 0.25)
        assert abs(sure[inside].mean() - (0.5 + 0.5 * margins[inside]).mean()) < 0.04


def test_the_audit_decides_whom_to_believe() -> None:
    # Forty confirmed frames in which what a frame looks like means nothing, and the network was right each time.
    rng = np.random.default_rng(1)
    labels = np.array([A, B] * 20, np.uint8)
    memory = remembered([unit(angle) for angle in rng.uniform(0, 90, 40)], labels)
    said = np.where(labels == 1, 0.95, 0.05)
    belief = believe(places([unit(1)]), memory, Audited(np.arange(40), said), np.array([[0.05, 0.95]]), tables())
    assert belief.labels.tolist() == [B]
    belief = believe(places([unit(1)]), memory, Audited(np.arange(40), said), np.array([[0.95, 0.05]]), tables())
    assert belief.labels.tolist() == [A]


def test_audit_frames_without_the_network_s_word_do_not_judge_it() -> None:
    said = np.array([[np.nan, np.nan], [0.9, 0.1]])
    assert Audited(np.array([0, 1]), said).judged.tolist() == [False, True]


def test_an_empty_pool_is_believed_to_be_empty() -> None:
    belief = believe(places(np.zeros((0, 2))), remembered([unit(0)], [A]), NOBODY, np.zeros((0, 2)), tables())
    assert (len(belief.labels), len(belief.confidence)) == (0, 0)
