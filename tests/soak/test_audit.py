"""The laws of the audit, on small ledgers where the answer is plain."""

from __future__ import annotations

from typing import Any

from ml_backend.store.versions import Manifest, TrainedOn
from soak import audit
from soak.team import Deed, Ledger, Serving
from tests.installation import manifest_of


def serving(annotator: str, task: int, asked: float, order: str = "order.1") -> Serving:
    """A serving whose answer takes a second."""
    return Serving(annotator, task, order, asked, asked + 1)


def confirmed(annotator: str, task: int, sent: float, annotation: int = 0, deleted: float | None = None) -> Deed:
    return Deed(annotator, task, False, sent, sent + 1, annotation, deleted)


def version(number: int, annotations: list[int], **fields: Any) -> Manifest:
    trained_on = tuple(TrainedOn(annotation=one, task=100 + one, updated_at="then") for one in annotations)
    given = {"job": f"job-{number}", "trigger": "webhook"} | fields
    return manifest_of(version=f"msml-{number:04d}-00000000", trained_on=trained_on, **given)


ORDERS = {"order.1": [3, 1, 2, 4]}
DEEDS = [confirmed("a", 1, 0, annotation=11), confirmed("a", 2, 2, annotation=12)]


class TestDoubleServed:
    def test_a_frame_that_somebody_else_holds(self) -> None:
        ledger = Ledger([serving("a", 1, 0), serving("b", 1, 5)], [confirmed("a", 1, 10)])
        assert [one.annotator for one in audit.double_served(ledger)] == ["b"]

    def test_a_frame_that_somebody_else_has_confirmed(self) -> None:
        ledger = Ledger([serving("a", 1, 0), serving("b", 1, 20)], [confirmed("a", 1, 10)])
        assert len(audit.double_served(ledger)) == 1

    def test_a_frame_that_was_skipped_may_come_to_another(self) -> None:
        skipped = Deed("a", 1, True, 10, 12)
        assert audit.double_served(Ledger([serving("a", 1, 0), serving("b", 1, 10.5)], [skipped])) == []
        assert len(audit.double_served(Ledger([serving("a", 1, 0), serving("b", 1, 8)], [skipped]))) == 1

    def test_a_frame_whose_annotation_was_deleted_may_come_to_another(self) -> None:
        deeds = [confirmed("a", 1, 10, deleted=30)]
        assert audit.double_served(Ledger([serving("a", 1, 0), serving("b", 1, 30)], deeds)) == []
        assert len(audit.double_served(Ledger([serving("a", 1, 0), serving("b", 1, 20)], deeds))) == 1

    def test_a_deed_that_never_arrived_is_followed_by_the_one_that_did(self) -> None:
        failed = Deed("a", 1, False, 5)
        servings = [serving("a", 1, 0), serving("a", 1, 10), serving("b", 1, 40)]
        for later in (Deed("a", 1, True, 20, 21), confirmed("a", 1, 20, deleted=30)):
            assert audit.double_served(Ledger(servings, [failed, later])) == []
        assert len(audit.double_served(Ledger(servings, [failed, confirmed("a", 1, 20)]))) == 1
        assert len(audit.double_served(Ledger(servings, [failed]))) == 1

    def test_one_s_own_frame_comes_back_after_a_fault(self) -> None:
        assert audit.double_served(Ledger([serving("a", 1, 0), serving("a", 1, 5)])) == []

    def test_different_frames(self) -> None:
        assert audit.double_served(Ledger([serving("a", 1, 0), serving("b", 2, 0)])) == []


class TestOutOfOrder:
    def test_in_turn(self) -> None:
        ledger = Ledger([serving("a", 3, 0), serving("b", 1, 2), serving("a", 2, 4)], orders=ORDERS)
        assert audit.out_of_order(ledger) == []

    def test_a_free_frame_was_passed_over(self) -> None:
        ledger = Ledger([serving("a", 3, 0), serving("b", 2, 2), serving("a", 1, 4)], orders=ORDERS)
        assert [(one.task, free) for one, free in audit.out_of_order(ledger)] == [(2, [1])]

    def test_what_was_asked_for_at_the_same_time_may_change_places(self) -> None:
        ledger = Ledger([serving("c", 3, 0), serving("a", 2, 2), serving("b", 1, 2.5)], orders=ORDERS)
        assert audit.out_of_order(ledger) == []

    def test_a_request_that_was_under_way_when_the_order_came_into_force(self) -> None:
        ledger = Ledger([serving("a", 2, 0), serving("b", 3, 2), serving("a", 1, 4)], orders=ORDERS)
        assert audit.out_of_order(ledger) == []

    def test_a_frame_that_is_held_already_is_served_first(self) -> None:
        servings = [serving("a", 2, 0, order="order.0"), serving("b", 3, 2), serving("a", 2, 4), serving("b", 1, 6)]
        assert audit.out_of_order(Ledger(servings, orders=ORDERS)) == []

    def test_skipped_frames_are_not_judged(self) -> None:
        skips = [Deed("a", 1, True, 2, 3)]
        servings = [serving("b", 3, 0), serving("a", 2, 2), serving("b", 1, 6)]
        assert audit.out_of_order(Ledger(servings, skips, ORDERS)) == []


class TestLost:
    def test_what_is_in_label_studio_and_in_the_newest_version_is_not(self) -> None:
        assert audit.lost(Ledger(deeds=DEEDS), {11, 12}, version(1, [11, 12])) == []

    def test_what_either_does_not_have_is(self) -> None:
        ledger = Ledger(deeds=DEEDS)
        assert audit.lost(ledger, {11}, version(1, [11, 12])) == [12]
        assert audit.lost(ledger, {11, 12}, version(1, [12])) == [11]
        assert audit.lost(ledger, {11, 12}, None) == [11, 12]

    def test_what_was_deleted_or_never_acknowledged_is_not(self) -> None:
        deeds = [confirmed("a", 1, 0, annotation=11, deleted=5), Deed("a", 2, False, 2), Deed("a", 3, True, 4, 5)]
        assert audit.lost(Ledger(deeds=deeds), set(), None) == []


def test_an_annotation_must_stay_in_the_training_set() -> None:
    versions = [version(1, [1, 2]), version(2, [1, 2, 3]), version(3, [1, 3, 4])]
    assert audit.dropped(versions, [1, 2, 3, 4]) == [2]
    assert audit.dropped(versions, [1, 3, 4]) == []


class TestBatches:
    def test_every_version_has_a_batch_of_its_own(self) -> None:
        versions = [version(1, [1, 2]), version(2, [1, 2, 3, 4, 5])]
        assert audit.wrong_batches(versions, k_max=2) == []

    def test_a_version_without_a_batch(self) -> None:
        versions = [version(1, [1, 2]), version(2, [1, 2, 3])]
        assert audit.wrong_batches(versions, k_max=2) == ["msml-0002-00000000 has 1 new annotations"]
        asked_for = [version(1, [1, 2]), version(2, [1, 2, 3], trigger="request")]
        assert audit.wrong_batches(asked_for, k_max=2) == []

    def test_two_versions_of_one_job(self) -> None:
        versions = [version(1, [1, 2], job="one"), version(2, [1, 2, 3, 4], job="one")]
        wrong = "msml-0001-00000000 and msml-0002-00000000 are both of one"
        assert audit.wrong_batches(versions, k_max=2) == [wrong]


def test_a_secret_that_is_written_somewhere_is_named() -> None:
    secrets = {"token": b"abc", "password": b"xyz"}
    assert audit.leaks(secrets, {"the log": b"..abc..", "a file": b"ab xy"}) == ["token is written in the log"]
