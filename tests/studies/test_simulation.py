from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from ml_backend.msml.build import build
from ml_backend.tsal.acquisition import score
from ml_backend.tsal.audit import draw
from ml_backend.tsal.diversity import spread
from ml_backend.tsal.likeness import Places
from ml_backend.tsal.round import Rows, generator
from studies import dataset, simulation
from studies.simulation import Learner, Material, Outcome, Way, simulate
from tests.studies.clips import write_clips

QUICK = Way(epochs=1, minimum_steps=2, audit=0.0)
TRAINED = replace(QUICK, minimum_steps=10)  # enough for scores that rounding does not change places of


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """Thirty frames of three patterns that EfficientNet-Lite0 tells apart after a few steps."""
    folder = tmp_path_factory.mktemp("simulation")
    clips = dataset.load(write_clips(folder / "made", 30), Fraction(1), folder / "cache", None, lambda *_: None)
    network = build("efficientnet_lite0", 3)
    records = dataset.activations(clips, network, 2, folder / "cache", lambda *_: None)
    embeddings = network.embed(dataset.restored(records[:, 0], network))
    places = Places(embeddings, clips.clip_numbers, np.array(clips.times))
    return Material(
        clips, records, places, network, lambda seed: build("efficientnet_lite0", 3, seed=seed).trainable_state()
    )


POOL, TEST = np.arange(21), np.arange(21, 30)


def exact(rounds: list[dict[str, object]]) -> list[object]:
    return [row["exact"] for row in rounds]


def test_it_learns_from_what_is_confirmed(material: Material) -> None:
    rounds = simulate(material, POOL, TEST, "mlm", 6, 3, 0, Way(epochs=1, minimum_steps=20))
    assert [row["labelled"] for row in rounds] == [6, 12, 18]
    assert rounds[-1]["share"] == pytest.approx(18 / 21)
    assert rounds[-1]["exact"] == 1.0
    assert rounds[-1]["auc"] == 1.0
    assert rounds[-1]["symptoms"]["B-line"] == {"accuracy": 1.0, "sensitivity": 1.0, "specificity": 1.0}
    assert rounds[0]["manual"] is None
    assert rounds[-1]["manual"]["plain"] == 0.0
    assert set(rounds[1]["manual"]) == {"plain", "table", "strengths", "memory", "table without rule (9)", "chosen"}


def test_the_same_seed_gives_the_same_run_and_another_another(material: Material) -> None:
    first, again, other = (simulate(material, POOL, TEST, "random", 4, 2, seed, QUICK) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_it_ends_when_the_pool_is_empty(material: Material) -> None:
    rounds = simulate(material, POOL[:8], TEST, "mlm", 5, 9, 0, QUICK)
    assert [row["labelled"] for row in rounds] == [5, 8]


def asked(
    material: Material, strategy: str, monkeypatch: pytest.MonkeyPatch, rounds: int = 2, way: Way = QUICK
) -> list[NDArray[np.intp]]:
    """The rows of each batch."""
    batches: list[NDArray[np.intp]] = []
    learn = Learner.learn

    def spy(self: Learner, labelled: Rows, batch: Rows, audited: Rows) -> Outcome:
        batches.append(batch)
        return learn(self, labelled, batch, audited)

    monkeypatch.setattr(Learner, "learn", spy)
    simulate(material, POOL, TEST, strategy, 6, rounds, 0, way)
    return batches


@pytest.mark.parametrize("strategy", ["random", "mlm", "mlm-diverse", "adaptive"])
def test_nothing_is_asked_twice_and_nothing_of_the_test(
    material: Material, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.concatenate(asked(material, strategy, monkeypatch, rounds=4))
    assert sorted(rows) == list(range(21))


def test_the_first_batch_is_random_or_by_cluster_centres(material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = asked(material, "mlm", monkeypatch, 1)[0]
    own = asked(material, "mlm-diverse", monkeypatch, 1)[0]
    np.testing.assert_array_equal(plain, generator(0, 0).permutation(21)[:6])
    np.testing.assert_array_equal(own, spread(material.places.embeddings[POOL], 6, generator(0, 0))[:6])


def after_the_first_batch(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> tuple[Learner, NDArray[np.intp], NDArray[np.intp]]:
    """A learner that knows MLM's first batch, that batch and the next."""
    first, second = asked(material, "mlm", monkeypatch, way=TRAINED)
    learner = Learner(material, TRAINED, 0)
    learner.learn(first, first, first[:0])
    return learner, first, second


def test_the_next_batch_is_the_strategy_s_of_the_trained_network(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, first, second = after_the_first_batch(material, monkeypatch)
    rest = np.setdiff1d(POOL, first)
    by_margin = rest[np.argsort(score(learner.probabilities(rest), "mlm", generator(0, 1)), kind="stable")]
    assert second.tolist() == by_margin[:6].tolist()


def test_manual_shares_are_of_the_network_before_it_was_trained_on_the_batch(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, _, second = after_the_first_batch(material, monkeypatch)
    truth = material.clips.labels[second]
    before = learner.probabilities(second)
    rounds = simulate(material, POOL, TEST, "mlm", 6, 2, 0, TRAINED)
    assert rounds[1]["manual"]["plain"] == ((before > 0.5) != truth).any(axis=1).mean()
    assert rounds[1]["manual"]["table"] == (learner.tables.correlation.validate(before)[0] != truth).any(axis=1).mean()
    assert rounds[1]["manual"]["chosen"] == rounds[1]["manual"]["table"]


def test_a_share_of_each_batch_is_drawn_from_the_whole_pool(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = replace(QUICK, audit=0.34)
    batches = list(asked(material, "mlm-diverse", monkeypatch, way=way))
    rounds = simulate(material, POOL, TEST, "mlm-diverse", 6, 2, 0, way)
    assert rounds[0]["manual_audit"] is None
    for number, batch in enumerate(batches):
        rest = np.setdiff1d(POOL, batches[0]) if number else POOL
        audited = np.setdiff1d(POOL, [] if not number else batches[0])[draw(len(rest), 2, generator(0, number, 1))]
        assert set(audited) <= set(batch)
    # The audit's share comes from two frames, the batch's from six.
    assert {round(2 * share) / 2 for share in rounds[1]["manual_audit"].values()} == set(
        rounds[1]["manual_audit"].values()
    )
    assert set(rounds[1]["manual_audit"]) == set(rounds[1]["manual"])


def test_without_audit_frames_there_is_no_unbiased_share(material: Material) -> None:
    assert [row["manual_audit"] for row in simulate(material, POOL, TEST, "mlm", 6, 2, 0, QUICK)] == [None, None]


def test_adaptive_says_what_it_chose_and_why(material: Material) -> None:
    rounds = simulate(material, POOL, TEST, "adaptive", 6, 3, 0, replace(QUICK, audit=0.5))
    for row in rounds[1:]:
        assert (row["strategy"], row["validator"]) == ("mlm-diverse", "strengths")  # nothing, or little, has been tried
        assert row["reason"]
        assert row["manual"]["chosen"] == row["manual"]["strengths"]


def test_each_switch_changes_what_is_learnt(material: Material) -> None:
    def weights(way: Way) -> list[NDArray[np.float32]]:
        learner = Learner(material, way, 0)
        learner.learn(POOL[:6], POOL[:6], POOL[:0])
        learner.learn(POOL[:12], POOL[6:12], POOL[:0])
        return [value.copy() for value in material.network.trainable_state().values()]

    plain = weights(QUICK)
    for change in ({"augmented": False}, {"restart": True}, {"last_batch_only": True}, {"weighted": True}):
        other = weights(replace(QUICK, **change))
        assert any(not np.array_equal(a, b) for a, b in zip(plain, other, strict=True)), change
    assert all(np.array_equal(a, b) for a, b in zip(plain, weights(QUICK), strict=True))


def test_one_combination_is_too_little_to_learn_from(material: Material) -> None:
    learner = Learner(material, QUICK, 0)
    same = np.array([0, 3, 6])
    assert learner.learn(same, same, same[:0]) == "nothing to learn"
    assert learner.version == 0


def test_a_symptom_that_nobody_or_everybody_has_has_no_area(material: Material) -> None:
    rows = np.array([1, 4])  # both show the second pattern
    found = simulation.figures(material.clips, rows, np.zeros((2, 3), np.float32))
    assert found["auc"] is None
    assert found["exact"] == 0.0
    assert found["symptoms"]["A-line"]["sensitivity"] is None
