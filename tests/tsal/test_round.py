from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_backend.tsal.acquisition import DIVERSE, STRATEGIES, score
from ml_backend.tsal.audit import draw
from ml_backend.tsal.belief import Audited, believe
from ml_backend.tsal.diversity import spread
from ml_backend.tsal.likeness import Places
from ml_backend.tsal.memory import Remembered
from ml_backend.tsal.round import COVER, Batch, Known, Pool, Rows, Rules, choose, generator

NAMES = [*STRATEGIES, *(name + DIVERSE for name in STRATEGIES)]
FEATURES = np.random.default_rng(7).standard_normal((200, 6)).astype(np.float32)


def places(n: int) -> Places:
    return Places(FEATURES[:n], np.arange(n) % 10, np.full(n, np.nan))


def a_pool(n: int, held: object = (), trained: bool = True, seed: int = 0) -> Pool:
    """Frames of ten clips; ``held`` are the rows of held-out patients."""
    probabilities = np.random.default_rng(seed).random((n, 3)) if trained else None
    mask = np.zeros(n, bool)
    mask[np.asarray(held, np.intp)] = True
    return Pool(probabilities, places(n), mask)


def known(n: int, audit: Rows | None = None) -> Known:
    return Known(np.zeros(n, np.intp), [4, 1, 3], audit)


def rules(**changes: object) -> Rules:
    return replace(Rules("mlm-diverse", 20, 0.15, 0, 3), **changes)  # type: ignore[arg-type]


def reason_of(batch: Batch) -> dict[int, str]:
    return dict(zip(batch.order.tolist(), batch.reasons, strict=True))


@pytest.mark.parametrize("strategy", NAMES)
def test_the_whole_pool_is_ordered_and_audit_frames_lie_within_the_batch(strategy: str) -> None:
    batch = choose(a_pool(100, range(0, 100, 4)), known(100), rules(strategy=strategy))
    assert sorted(batch.order.tolist()) == list(range(100))
    assert len(batch.audit) == 3
    np.testing.assert_array_equal(batch.audit, draw(100, 3, generator(0, 3, 1)))
    places = np.flatnonzero(np.isin(batch.order, batch.audit))
    # One in each third of the batch: places 0 to 5, 6 to 12 and 13 to 19.
    assert np.searchsorted([6, 13, 20], places, side="right").tolist() == [0, 1, 2]
    assert [batch.reasons[place] for place in places] == ["audit"] * 3


@pytest.mark.parametrize("strategy", NAMES)
def test_held_out_patients_come_last_unless_audited(strategy: str) -> None:
    held = set(range(0, 100, 4))
    batch = choose(a_pool(100, sorted(held)), known(100), rules(strategy=strategy))
    audited = set(batch.audit.tolist())
    last = batch.order[-len(held - audited) :].tolist()
    assert set(last) == held - audited
    assert {reason_of(batch)[row] for row in last} == {"held out"}


def test_audit_frames_are_drawn_from_held_out_patients_at_their_share() -> None:
    pool = a_pool(100, range(25))
    drawn = [
        row
        for number in range(400)
        for row in choose(pool, known(100), rules(number=number, strategy="lc")).audit.tolist()
    ]
    share = np.mean(np.array(drawn) < 25)
    assert share == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / 1200))


def test_without_audit_and_held_out_patients_the_order_is_the_strategys() -> None:
    pool = a_pool(50)
    assert pool.probabilities is not None
    for strategy in STRATEGIES:
        batch = choose(pool, known(50), rules(strategy=strategy, audit=0.0))
        values = score(pool.probabilities, strategy, np.random.default_rng([0, 3]))
        assert batch.order.tolist() == np.argsort(values, kind="stable").tolist()
        np.testing.assert_array_equal(batch.scores, values)
        assert set(batch.reasons[:20]) == {"random" if strategy == "random" else "uncertain"}
        assert set(batch.reasons[20:]) == {"later"}
        assert len(batch.audit) == 0


def test_the_strategys_part_does_not_depend_on_which_frames_were_audited() -> None:
    pool, plain = a_pool(60), rules(strategy="lc")
    with_audit = choose(pool, known(60), plain)
    rest = [row for row in with_audit.order.tolist() if row not in set(with_audit.audit.tolist())]
    alone = choose(pool, known(60), replace(plain, audit=0.0)).order.tolist()
    assert rest == [row for row in alone if row in set(rest)]


def test_a_batch_goes_on_with_the_audit_frames_that_are_left() -> None:
    kept = np.array([41, 7])
    batch = choose(a_pool(100), known(100, kept), rules())
    assert batch.audit.tolist() == [41, 7]
    places = [batch.order.tolist().index(row) for row in (41, 7)]
    assert places[0] < 10 <= places[1] < 20  # spread over what is left of the batch
    none = choose(a_pool(100), known(100, np.empty(0, np.intp)), rules())
    assert "audit" not in none.reasons


@pytest.mark.parametrize("strategy", ["mlm", "mlm-diverse"])
def test_a_refresh_before_anybody_answered_gives_the_same_order(strategy: str) -> None:
    first = choose(a_pool(100), known(100), rules(strategy=strategy))
    again = choose(a_pool(100), known(100, first.audit), rules(strategy=strategy))
    assert again.order.tolist() == first.order.tolist()
    assert again.reasons == first.reasons


def test_before_the_first_version_frames_that_differ_come_first() -> None:
    pool = a_pool(40, held=[0, 1], trained=False)
    batch = choose(pool, known(40), rules(number=0))
    audited = batch.audit.tolist()
    rows = np.array([row for row in range(2, 40) if row not in audited])
    expected = rows[spread(FEATURES[rows], 17, np.random.default_rng([0, 0]))].tolist()
    assert [row for row in batch.order.tolist() if row in set(rows.tolist())] == expected
    held = [row for row in (0, 1) if row not in audited]
    assert sorted(batch.order[40 - len(held) :].tolist()) == held
    assert set(batch.reasons[:20]) == {"different", "audit"}


def test_a_study_may_begin_at_random() -> None:
    batch = choose(a_pool(40, trained=False), known(40), rules(number=0, first="random", audit=0.0))
    assert batch.order.tolist() == np.random.default_rng([0, 0]).permutation(40).tolist()
    assert set(batch.reasons[:20]) == {"random"}


def test_reasons_of_a_diverse_batch() -> None:
    #                     margin 0: asked first          rare symptom near 0.5
    probabilities = np.array([[0.5, 0.5, 0.1], [0.6, 0.5, 0.1], [0.9, 0.1, 0.5], [0.9, 0.1, 0.1]])
    pool = Pool(probabilities, replace(places(4), clips=np.array([0, 1, 2, 3])), np.zeros(4, bool))
    asked = np.array([0, 2, 0, 0])
    batch = choose(pool, Known(asked, [5, 5, 0]), rules(k_max=2, audit=0.0))
    assert reason_of(batch) == {0: "new clip", 2: "rare symptom", 1: "later", 3: "later"}
    plain = choose(pool, Known(np.ones(4, np.intp), None), rules(k_max=2, audit=0.0))
    assert plain.reasons == ("uncertain", "uncertain", "later", "later")


def believing(n: int, confirmed: int = 12) -> Known:
    """What is known where the first frames of FEATURES' end are confirmed: the last of them show the rare symptom."""
    rows = np.arange(200 - confirmed, 200)
    labels = np.array([[1, 0, 0]] * (confirmed - 2) + [[0, 1, 0], [0, 0, 1]], np.uint8)[:confirmed]
    memory = Remembered(
        Places(FEATURES[rows], np.full(confirmed, 99), np.full(confirmed, np.nan)),
        labels,
        np.ones((confirmed, 3), bool),
    )
    belief = believe(places(n), memory, Audited(np.empty(0, np.intp), np.empty((0, 3))), None, None)
    return Known(np.arange(n) % 10 % 2, labels.sum(axis=0), None, belief)


def test_cover_needs_no_network_and_gives_a_reason_for_every_frame() -> None:
    batch = choose(a_pool(150, range(50), trained=False), believing(150), rules(strategy=COVER, k_max=40))
    assert sorted(batch.order.tolist()) == list(range(150))
    assert set(batch.reasons[:40]) >= {"audit", "different", "new clip", "uncertain"}
    assert set(batch.reasons[40:]) == {"later"}
    assert "held out" not in batch.reasons  # the memory has to know them


def test_behind_a_batch_of_cover_the_least_sure_frames_come_first() -> None:
    known_ = believing(150)
    batch = choose(a_pool(150, trained=False), known_, rules(strategy=COVER, k_max=40))
    assert known_.belief is not None
    assert (np.diff(known_.belief.confidence[batch.order[40:]]) >= 0).all()


def test_cover_without_a_belief_is_refused() -> None:
    with pytest.raises(ValueError, match="belief"):
        choose(a_pool(10), known(10), rules(strategy=COVER))


@given(
    n=st.integers(0, 40),
    k_max=st.integers(1, 50),
    audit=st.floats(0, 1),
    strategy=st.sampled_from(NAMES),
    trained=st.booleans(),
    seed=st.integers(0, 100),
)
def test_no_frame_is_lost_whatever_the_sizes(
    n: int, k_max: int, audit: float, strategy: str, trained: bool, seed: int
) -> None:
    held = np.flatnonzero(np.random.default_rng(seed).random(n) < 0.5)
    batch = choose(a_pool(n, held, trained, seed), known(n), rules(strategy=strategy, k_max=k_max, audit=audit))
    assert sorted(batch.order.tolist()) == list(range(n))
    assert len(batch.reasons) == n
    first = set(batch.order[:k_max].tolist())
    assert set(batch.audit.tolist()) <= first
    assert len(batch.audit) >= (audit > 0 and n > 0)
    again = choose(a_pool(n, held, trained, seed), known(n), rules(strategy=strategy, k_max=k_max, audit=audit))
    assert again.order.tolist() == batch.order.tolist()
