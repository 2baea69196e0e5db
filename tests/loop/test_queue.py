"""Audit frames and held-out patients in the queue: drawn once a batch, recorded first, spread, and asked in time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ml_backend.errors import StudioRefused
from ml_backend.loop import order as ordering
from ml_backend.loop import score as scoring
from ml_backend.store.audits import AuditStore, Draw
from ml_backend.store.orders import Order
from ml_backend.studio.payloads import default_of
from ml_backend.tsal.audit import draw
from ml_backend.tsal.round import generator
from ml_backend.tsal.split import held_out
from tests.installation import CONFIGURATION, PROJECT
from tests.loop.test_order import (
    TASKS,
    UNREADABLE,
    Installation,
    assert_served_in,
    folder,
    installed,
    lose,
    predictor,
    refreshed,
    silent,
    studio,
)
from tests.studio_stand_in import one_thread

__all__ = ["folder", "installed", "one_thread", "predictor", "studio"]

SHARE = 0.5  # of a batch of four: two audit frames


def audited(order: Order) -> list[int]:
    """Tasks that an order asks for as audit frames, first to last."""
    return [task for task, reason in zip(order.tasks.tolist(), order.reasons, strict=True) if reason == "audit"]


def draws(installed: Installation) -> list[Draw]:
    return installed.services().audits(PROJECT).draws()


@pytest.mark.parametrize("trained", [False, True])
def test_a_share_of_the_batch_is_drawn_from_the_whole_pool_and_recorded(installed: Installation, trained: bool) -> None:
    lose(installed.studio, *UNREADABLE)
    manifest = installed.version() if trained else None
    order = refreshed(installed.services(audit=SHARE, hold_out=0.5))
    readable = [task for task in TASKS if task not in UNREADABLE]
    expected = [readable[row] for row in draw(len(readable), 2, generator(0, 1 if trained else 0, 1))]
    (recorded,) = draws(installed)
    assert recorded.tasks == tuple(expected)
    assert (recorded.order, recorded.version) == (order.about.name, manifest.version if manifest else None)
    assert (recorded.pool, recorded.seed, recorded.released) == (12, 0, ())
    assert audited(order) == expected
    places = [order.tasks.tolist().index(task) for task in expected]
    assert [place // 2 for place in places] == [0, 1]  # one in each half of the batch
    assert_served_in(order, installed.studio)


@pytest.mark.parametrize("trained", [False, True])
def test_held_out_patients_come_last_by_the_rule_of_training(installed: Installation, trained: bool) -> None:
    patients = {task: f"p{task // 3}" for task in TASKS}
    for task in (*TASKS,)[:-1]:
        installed.studio.add(installed.folder, task, patient=patients[task])
    patients[14] = "task 14"  # without a patient: one of its own
    if trained:
        installed.version()
    order = refreshed(installed.services(audit=SHARE, hold_out=0.4))
    held = {
        task for task, kept in zip(TASKS, held_out([patients[task] for task in TASKS], 0.4, 0), strict=True) if kept
    }
    assert 0 < len(held) < len(TASKS)
    last = held - set(audited(order))
    assert set(order.tasks[-len(last) :].tolist()) == last
    assert set(order.reasons[-len(last) :]) == {"held out"}


def test_a_refresh_in_the_middle_of_a_batch_keeps_the_draw(installed: Installation) -> None:
    installed.version()
    services = installed.services(audit=SHARE)
    first = audited(refreshed(services))
    installed.studio.add(installed.folder, 20, 21, 22)  # new frames
    assert audited(refreshed(services)) == first
    assert audited(refreshed(installed.services(audit=SHARE, strategy="lc", seed=5))) == first
    installed.studio.confirm(first[0], [1, 0, 0])
    assert audited(refreshed(services)) == first[1:]
    installed.studio.confirm(first[1], [1, 0, 0])
    assert audited(refreshed(services)) == []
    assert len(draws(installed)) == 1


def test_a_new_version_draws_anew_and_releases_what_nobody_answered(installed: Installation) -> None:
    first = audited(refreshed(installed.services(audit=SHARE)))
    installed.studio.confirm(first[0], [1, 0, 0])
    installed.version()
    second = audited(refreshed(installed.services(audit=SHARE)))
    assert [one.released for one in draws(installed)] == [(), (first[1],)]
    assert installed.services().audits(PROJECT).tasks() == {first[0], *second}
    assert first[0] not in second


def test_an_audit_frame_answered_during_a_refresh_is_not_released(
    installed: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = audited(refreshed(installed.services(audit=SHARE)))
    installed.version()
    score, tasks, listed = scoring.score, installed.studio.tasks, list[int]()

    def answered_meanwhile(*arguments: Any) -> Any:
        found = score(*arguments)
        installed.studio.confirm(second, [1, 0, 0])
        return found

    monkeypatch.setattr(ordering, "score", answered_meanwhile)
    refreshed(installed.services(audit=SHARE))
    assert draws(installed)[1].released == (first,)
    assert second in installed.services().audits(PROJECT).tasks()

    # Without an earlier audit frame in the pool, the pool is listed only once.
    monkeypatch.setattr(ordering, "score", score)
    for task in installed.services().audits(PROJECT).tasks() - {second}:
        installed.studio.confirm(task, [1, 0, 0])
    installed.version(seed=2)

    def counted(*of: Any, **which: Any) -> Any:
        listed.append(1)
        return tasks(*of, **which)

    monkeypatch.setattr(installed.studio, "tasks", counted)
    refreshed(installed.services(audit=SHARE))
    assert len(listed) == 1
    assert draws(installed)[2].released == ()


def test_a_version_that_is_held_back_begins_a_batch_with_a_draw_of_its_own(installed: Installation) -> None:
    active = installed.version()
    services = installed.services(audit=SHARE)
    first = audited(refreshed(services))
    for task in first:
        installed.studio.confirm(task, [1, 0, 0])
    assert ordering.needs_refresh(services, PROJECT, look_for_frames=True) is None
    newest = installed.version(seed=2)
    services.versions(PROJECT).activate(active.version, by="a test")  # as if the newest were held back
    assert services.versions(PROJECT).active() == active.version
    assert ordering.needs_refresh(services, PROJECT, look_for_frames=False)
    second = audited(refreshed(services))
    assert len(second) == 2
    assert set(second).isdisjoint(first)
    assert [(one.version, one.newest) for one in draws(installed)] == [
        (active.version, active.version),
        (active.version, newest.version),
    ]
    assert ordering.needs_refresh(services, PROJECT, look_for_frames=True) is None


def test_a_crash_between_record_and_push_does_not_draw_again(installed: Installation) -> None:
    installed.version()
    installed.studio.dropped = {5}
    services = installed.services(audit=SHARE)
    with pytest.raises(StudioRefused):
        ordering.refresh(services, PROJECT, silent)
    (recorded,) = draws(installed)
    installed.studio.dropped = set()
    order = refreshed(services)
    assert audited(order) == list(recorded.tasks)
    assert draws(installed) == [recorded]


def test_a_draw_that_cannot_be_recorded_is_not_pushed(installed: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: AuditStore, draw: Draw) -> None:
        raise OSError(28, "No space left on device")

    installed.version()
    monkeypatch.setattr(AuditStore, "add", full)
    with pytest.raises(OSError, match="No space"):
        ordering.refresh(installed.services(audit=SHARE), PROJECT, silent)
    assert installed.studio.predictions == []


def test_a_share_of_zero_draws_nothing_and_ends_an_audit(installed: Installation) -> None:
    installed.version()
    assert audited(refreshed(installed.services(audit=SHARE)))
    assert audited(refreshed(installed.services(audit=0))) == []
    assert len(draws(installed)) == 1


def test_each_prediction_carries_its_reason(installed: Installation) -> None:
    installed.version()
    order = refreshed(installed.services(audit=SHARE, strategy="mlm-diverse"))
    reasons = {one["task"]: default_of(one, CONFIGURATION).audit["reason"] for one in installed.studio.served()}
    assert reasons == dict(zip(order.tasks.tolist(), order.reasons, strict=True))
    assert {"audit", "new clip", "later"} == set(reasons.values())
    stored = installed.services().orders(PROJECT).get(order.about.name)
    assert stored is not None
    assert stored.reasons == order.reasons


def test_an_order_of_0_1_0_has_no_reasons_and_stays_readable(installed: Installation) -> None:
    installed.version()
    order = refreshed(installed.services())
    path = installed.services().folder(PROJECT) / "orders" / f"{order.about.name}.npz"
    np.savez(path, tasks=order.tasks, informativeness=order.informativeness)
    stored = installed.services().orders(PROJECT).get(order.about.name)
    assert stored is not None
    assert stored.reasons == ()
    assert stored.tasks.tolist() == order.tasks.tolist()
