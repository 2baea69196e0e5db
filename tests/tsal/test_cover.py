from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_backend.tsal.belief import Audited, believe
from ml_backend.tsal.cover import cover, cover_batch
from ml_backend.tsal.likeness import NO_TRUST, Scale, likeness
from ml_backend.tsal.memory import TRUSTS, Remembered
from tests.tsal.test_likeness import PLAIN, places
from tests.tsal.test_memory import A, B, _random, remembered, unit

pytestmark = pytest.mark.unit


def nothing_known(count):
    return np.full(count, -np.inf, np.float32)


def test_each_frame_is_the_one_least_like_those_known_or_chosen():
    pool = places([unit(0), unit(20), unit(100), unit(140)])
    similarity = likeness(pool, places([unit(0)]), PLAIN, NO_TRUST)[:, 0]
    # Least like 0 degrees is 140, then of 20 and 100 the one farther from both 0 and 140 is 100.
    chosen = cover(pool, similarity, np.arange(4), 2, PLAIN, NO_TRUST, np.random.default_rng(0))
    assert chosen.tolist() == [3, 2]


def test_only_open_frames_are_chosen_and_each_once():
    pool = places([unit(0), unit(20), unit(100), unit(140)])
    chosen = cover(pool, nothing_known(4), np.array([0, 1]), 9, PLAIN, NO_TRUST, np.random.default_rng(0))
    assert sorted(chosen.tolist()) == [0, 1]


def test_a_pool_of_copies_is_covered_in_the_order_of_its_rows():
    pool = places([unit(0)] * 5)
    chosen = cover(pool, np.ones(5, np.float32), np.arange(5), 3, PLAIN, NO_TRUST, np.random.default_rng(0))
    assert chosen.tolist() == [0, 1, 2]


@given(st.integers(0, 2**32 - 1), st.booleans(), st.integers(1, 40))
def test_the_lazy_search_chooses_what_the_plain_one_chooses(seed, known, count):
    rng = np.random.default_rng(seed)
    pool = _random(rng, 40)
    scale, trust = Scale.of(pool.embeddings), TRUSTS[seed % len(TRUSTS)]
    start = likeness(pool, _random(rng, 3), scale, trust).max(axis=1) if known else nothing_known(40)
    found = cover(pool, start, np.arange(40), count, scale, trust, np.random.default_rng(seed))
    bound = start.copy()
    for place, row in enumerate(found):
        if place or known:
            assert bound[row] <= bound.min() + 1e-5
        bound = np.maximum(bound, likeness(pool, pool[[row]], scale, trust)[:, 0])
        bound[row] = np.inf


def test_the_same_seed_begins_with_the_same_frame_and_others_with_others():
    pool = _random(np.random.default_rng(0), 30)
    scale = Scale.of(pool.embeddings)

    def first(seed):
        return int(cover(pool, nothing_known(30), np.arange(30), 1, scale, NO_TRUST, np.random.default_rng(seed))[0])

    assert first(1) == first(1)
    assert len({first(seed) for seed in range(20)}) > 3


def test_a_batch_covers_resolves_doubt_and_feeds_the_rarest_symptom():
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


def test_what_the_audit_asks_anyway_is_not_covered_again():
    pool = places([unit(0), unit(120), unit(121), unit(60)])
    belief = believe(pool, remembered([unit(0)], [A]), Audited(np.empty(0, np.intp), np.empty((0, 2))), None, None)
    belief = replace(belief, scale=PLAIN, recall=replace(belief.recall, similarity=np.array([1, -0.5, -0.52, 0.5])))
    assert cover_batch(pool, belief, None, np.array([1]), 1, np.random.default_rng(0)).rows.tolist() == [3]


def test_the_first_batch_of_a_pool_covers_it():
    pool = places([unit(0), unit(1), unit(180), unit(181)])
    empty = remembered(np.zeros((0, 2)), np.zeros((0, 2)))
    belief = believe(pool, empty, Audited(np.empty(0, np.intp), np.empty((0, 2))), None, None)
    rows = cover_batch(pool, belief, None, np.empty(0, np.intp), 2, np.random.default_rng(0)).rows
    assert len({row // 2 for row in rows.tolist()}) == 2
