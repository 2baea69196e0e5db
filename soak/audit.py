"""Check from a ledger and the versions that a team was served correctly and that nothing was lost."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from ml_backend.store.versions import Manifest
from soak.team import NEVER, Deed, Ledger, Serving


def double_served(ledger: Ledger) -> list[Serving]:
    """Servings of a frame that somebody else held or had confirmed.

    A frame is held from when its serving was answered until its skip, or its annotation's deletion, was sent: only what
    certainly overlaps counts.
    """
    holdings = [(serving, _released(serving, ledger.deeds)) for serving in ledger.servings]
    return [
        later
        for later in ledger.servings
        if any(
            earlier.task == later.task
            and earlier.annotator != later.annotator
            and earlier.answered <= later.answered < released
            for earlier, released in holdings
        )
    ]


def out_of_order(ledger: Ledger) -> list[tuple[Serving, list[int]]]:
    """Servings that jumped the queue: each with the frames ahead of it that were certainly free, from asking to
    answering.

    Not judged are frames that the annotator held already, which are served first again; frames that were skipped or
    whose annotation was deleted, which come back by rules of Label Studio's own; and requests that were under way when
    the order came into force.
    """
    returned = {deed.task for deed in ledger.deeds if not deed.acknowledged or deed.deleted is not None}
    first_asked: dict[int, float] = {}
    in_force: dict[str, float] = {}
    for serving in ledger.servings:
        first_asked[serving.task] = min(serving.asked, first_asked.get(serving.task, NEVER))
        in_force[serving.order] = min(serving.answered, in_force.get(serving.order, NEVER))
    wrong = []
    seen: set[tuple[str, int]] = set()
    for serving in sorted(ledger.servings, key=lambda one: one.asked):
        again = (serving.annotator, serving.task) in seen
        seen.add((serving.annotator, serving.task))
        order = ledger.orders.get(serving.order, [])
        if again or serving.task not in order or serving.task in returned or serving.asked < in_force[serving.order]:
            continue
        ahead = order[: order.index(serving.task)]
        free = [task for task in ahead if first_asked.get(task, NEVER) > serving.answered and task not in returned]
        if free:
            wrong.append((serving, free))
    return wrong


def lost(ledger: Ledger, in_studio: Collection[int], newest: Manifest | None) -> list[int]:
    """Annotations that were acknowledged and never deleted, but are not in Label Studio or in the newest version."""
    trained = {one.annotation for one in newest.seen} if newest else set()
    return [
        deed.annotation
        for deed in ledger.deeds
        if deed.acknowledged
        and deed.deleted is None
        and deed.annotation is not None
        and not (deed.annotation in in_studio and deed.annotation in trained)
    ]


def dropped(versions: Sequence[Manifest], annotations: Iterable[int]) -> list[int]:
    """Annotations that a version knows and a later one does not: each must enter one version first and all later."""
    wanted = set(annotations)
    missing: set[int] = set()
    known: set[int] = set()
    for manifest in versions:
        seen = {one.annotation for one in manifest.seen}
        missing |= (known - seen) & wanted
        known |= seen
    return sorted(missing)


def wrong_batches(versions: Sequence[Manifest], k_max: int) -> list[str]:
    """What is wrong with the batches: a version of fewer new annotations than K_max that nobody asked for, or two
    versions of one job.
    """
    wrong = []
    before: set[object] = set()
    of_job: dict[str | None, str] = {}
    for manifest in versions:
        fresh = {one.task for one in manifest.seen if one not in before}
        before = set(manifest.seen)
        if len(fresh) < k_max and manifest.trigger != "request":
            wrong.append(f"{manifest.version} has {len(fresh)} new annotations")
        if manifest.job in of_job:
            wrong.append(f"{of_job[manifest.job]} and {manifest.version} are both of {manifest.job}")
        of_job[manifest.job] = manifest.version
    return wrong


def leaks(secrets: Mapping[str, bytes], places: Mapping[str, bytes]) -> list[str]:
    """Which secret can be read in which place; both are named."""
    return [
        f"{name} is written in {place}"
        for name, secret in secrets.items()
        for place, content in places.items()
        if secret in content
    ]


def _released(serving: Serving, deeds: Iterable[Deed]) -> float:
    """Return the time from which this serving certainly no longer held the frame.

    A deed without an answer may never have arrived. The annotator may then have been served the same frame again, so
    the next deed counts.
    """
    for deed in deeds:
        if deed.annotator == serving.annotator and deed.task == serving.task and deed.sent >= serving.answered:
            if deed.skip:
                return deed.sent
            if deed.acknowledged:
                return deed.deleted or NEVER
    return NEVER
