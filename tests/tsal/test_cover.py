from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ml_backend.tsal import cover as tsal_cover
from ml_backend.tsal.belief import Audited, believe
from ml_backend.tsal.cover import cover, cover_batch
from ml_backend.tsal.likeness import NO_TRUST, Scale, likeness
from ml_backend.tsal.memory import TRUSTS, Remembered
from tests.tsal.test_likeness import PLAIN, places
from tests.tsal.test_memory import A, B, _random, remembered, unit


def nothing_known(count: int) -> NDArray[np.float32]:
    return np.full(count, -np.inf, np.float32)


def test_each_frame_is_the_one_that_gains_most() -> None:
    pool = places([unit(0), unit(20), unit(100), unit(130), unit(150)])
    similarity = likeness(pool, places([unit(0)]), PLAIN, NO_TRUST)[:, 0]
    # Squares of what is added: 100 degrees 1 + 0.75 + 0.41, 130 degrees 0.75 + 1 + 0.88, 150 degrees 0.41 + 0.88 + 1.
    # Then 100 degrees lacks 0.13 to likeness 1, 20 and 150 degrees 0.06.
    chosen = cover(pool, similarity, np.arange(5), 2, PLAIN, NO_TRUST, np.random.default_rng(0))
    assert chosen.tolist() == [3, 2]


def test_a_large_group_comes_before_a_single_frame_that_is_farther() -> None:
    pool = places([unit(180), unit(90), unit(91), unit(92)])
    similarity = likeness(pool, places([unit(0)]), PLAIN, NO_TRUST)[:, 0]
    assert cover(pool, similarity, np.arange(4), 2, PLAIN, NO_TRUST, np.random.default_rng(0)).tolist() == [2, 0]


def test_only_open_frames_are_chosen_and_each_once() -> None:
    pool = places([unit(0), unit(20), unit(100), unit(140)])
    chosen = cover(pool, nothing_known(4), np.array([0, 1]), 9, PLAIN, NO_TRUST, np.random.default_rng(0))
    assert sorted(chosen.tolist()) == [0, 1]


def test_a_pool_of_copies_is_covered_in_the_order_of_its_rows() -> None:
    pool = places([unit(0)] * 5)
    chosen = cover(pool, np.ones(5, np.float32), np.arange(5), 3, PLAIN, NO_TRUST, np.random.default_rng(0))
    assert chosen.tolist() == [0, 1, 2]


@given(st.integers(0, 2**32 - 1), st.booleans(), st.integers(1, 40))
def test_the_lazy_search_chooses_what_the_plain_one_chooses(seed: int, begun: bool, count: int) -> None:
    rng = np.random.default_rng(seed)
    pool = _random(rng, 40)
    scale, trust = Scale.of(pool.embeddings), TRUSTS[seed % len(TRUSTS)]
    start = likeness(pool, _random(rng, 3), scale, trust).max(axis=1) if begun else nothing_known(40)
    found = cover(pool, start, np.arange(40), count, scale, trust, np.random.default_rng(seed))
    assert len(set(found.tolist())) == count
    known = np.maximum(start, 0.0)
    for row in found:
        alike = likeness(pool, pool, scale, trust)
        gains = (np.maximum(alike - known, 0.0) ** 2).sum(axis=1)
        gains[found[: found.tolist().index(row)]] = -1.0
        assert gains[row] >= gains.max() - 1e-4
        known = np.maximum(known, alike[row])


def test_a_pool_too_large_to_judge_whole_is_covered_by_a_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tsal_cover, "_JUDGES", 4)
    monkeypatch.setattr(tsal_cover, "_CANDIDATES", 8)
    pool = places([unit(0)] * 30 + [unit(90)])
    similarity = likeness(pool, places([unit(0)]), PLAIN, NO_TRUST)[:, 0]
    for seed in range(5):  # whoever judges: the one that is like nothing known is a candidate, and counts itself
        chosen = cover(pool, similarity, np.arange(31), 3, PLAIN, NO_TRUST, np.random.default_rng(seed))
        assert chosen[0] == 30
        assert len(set(chosen.tolist())) == 3

    varied = _random(np.random.default_rng(0), 60)

    def drawn(seed: int) -> list[int]:
        rng = np.random.default_rng(seed)
        found = cover(varied, nothing_known(60), np.arange(60), 3, Scale.of(varied.embeddings), NO_TRUST, rng)
        return [int(row) for row in found]

    assert drawn(1) == drawn(1)
    assert len({tuple(drawn(seed)) for seed in range(10)}) > 1


def test_a_batch_covers_resolves_doubt_and_feeds_the_rarest_symptom() -> None:
    rng = np.random.default_rng(0)
    pool = _random(rng, 200)
    labels = np.array([A] * 10 + [B] * 2, np.uint8)
    memory = Remembered(_random(rng, 12), labels, np.ones((12, 2), bool))
    belief = believe(pool, memory, Audited(np.empty(0, np.intp), np.empty((0, 2))), None, None)
    audit = np.array([3, 4])
    batch = cover_batch(pool, belief, labels.sum(axis=0), audit, 20, rng)
    assert len(set(batch.rows.tolist())) == 20
    assert not np.isin(audit, batch.rows).any()
    assert (len(batch.unsure), len(batch.rare)) == (5, 2)
    assert np.isin(batch.unsure, np.lexsort((belief.recall.margin, belief.confidence))[:52]).all()
    assert (belief.labels[batch.rare, 1] == 1).all()


def test_what_the_audit_asks_anyway_is_not_covered_again() -> None:
    pool = places([unit(0), unit(120), unit(121), unit(60)])
    belief = believe(pool, remembered([unit(0)], [A]), Audited(np.empty(0, np.intp), np.empty((0, 2))), None, None)
    belief = replace(belief, scale=PLAIN, recall=replace(belief.recall, similarity=np.array([1, -0.5, -0.52, 0.5])))
    assert cover_batch(pool, belief, None, np.array([1]), 1, np.random.default_rng(0)).rows.tolist() == [3]


def test_the_first_batch_of_a_pool_covers_it() -> None:
    pool = places([unit(0), unit(1), unit(180), unit(181)])
    empty = remembered(np.zeros((0, 2)), np.zeros((0, 2)))
    belief = believe(pool, empty, Audited(np.empty(0, np.intp), np.empty((0, 2))), None, None)
    rows = cover_batch(pool, belief, None, np.empty(0, np.intp), 2, np.random.default_rng(0)).rows
    assert len({row // 2 for row in rows.tolist()}) == 2
