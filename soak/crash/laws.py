"""What must hold after a crash: each law says in words what breaks it."""

from __future__ import annotations

import csv
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image
from safetensors.numpy import load_file

from ml_backend.errors import BackendError
from ml_backend.export.export import is_export
from ml_backend.loop.certificate_page import page_of
from ml_backend.store.orders import NAME, Order
from soak.crash.effects import general
from soak.crash.worlds import CONFIGURATION, World
from soak.stand_in.project import Project

Law = Callable[[World], Iterator[str]]
DAYS = 2 * 86_400
ASKED = 2
"""How often each user asks for the next task: who asks again must get the same one."""
LASTING = (  # keys of Redis that may stay: their number does not grow
    *(f"tsal:#:{name}" for name in ("pending", "changed", "news", "reconciled", "accepted")),
    *("tsal:counted", "rq:queues", "rq:workers"),
    *(f"rq:{kind}:{queue}" for kind in ("finished", "failed", "queue") for queue in ("tsal", "tsal-lead")),
)


def served_whole(world: World) -> Iterator[str]:
    """No half-pushed order is served: each open frame has one prediction of the version that Label Studio shows."""
    project = world.project
    shown = project.fields["model_version"]
    if not shown:
        return
    counted = Counter(one.task for one in project.predictions.values() if one.model_version == shown)
    order = world.services.orders(world.number).get(shown)
    for task in order.tasks.tolist() if order else project.tasks:
        if task in project.tasks and not project.of(task) and counted[task] != 1:
            yield f"task {task} has {counted[task]} predictions of {shown}"


def versions_whole(world: World) -> Iterator[str]:
    """No incomplete version is stored or active."""
    store = world.services.versions(world.number)
    names = store.names()
    for name in names:
        try:
            store.get(name)
            load_file(store.tail(name))
        except Exception as error:  # whatever the error, the version is broken
            yield f"{name} is incomplete: {error}"
    active = store.active()
    if active is not None and active not in names:
        yield f"{active} is active but missing"
    yield from (f"{name} was damaged" for name in store.damaged())


def nobody_shares(world: World) -> Iterator[str]:
    """No frame is served to two people."""
    before, studio = world.project, world.studio
    taken = studio.take("asked")
    try:
        served = [studio.next_task(world.number, user) for _ in range(ASKED) for user in world.annotators]
        project = world.project
    finally:
        studio.put(taken)
    holders: dict[int, set[int]] = {}
    for task, user in project.locks:
        holders.setdefault(task, set()).add(user)
    yield from (f"task {task} is served to {users}" for task, users in holders.items() if len(users) > 1)
    if not any(served) and any(not before.of(task) for task in before.tasks):
        yield "nothing is served"


def nothing_lost_or_doubled(world: World) -> Iterator[str]:
    """Each confirmed annotation is in the newest training set once, or waits for the next one."""
    store = world.services.versions(world.number)
    confirmed = {one.id for one in world.project.annotations.values() if not one.was_cancelled}
    for name in store.names():
        seen = store.get(name).seen
        for what in ("annotation", "task"):
            twice = [one for one, times in Counter(getattr(row, what) for row in seen).items() if times > 1]
            if twice:
                yield f"{name} has the {what}s {twice} twice"
    newest = store.newest()
    seen_now = {one.annotation for one in newest.seen} if newest else set()
    waiting = world.services.pending(world.number).known()
    if confirmed - seen_now - waiting:
        yield f"the annotations {sorted(confirmed - seen_now - waiting)} are lost"
    if waiting & seen_now or waiting - confirmed:
        yield f"the annotations {sorted((waiting & seen_now) | (waiting - confirmed))} wait but must not"


def one_version(world: World) -> Iterator[str]:
    """Queue and ticks are those of the active version's order, which Label Studio serves as it is kept."""
    services, project = world.services, world.project
    orders = services.orders(world.number)
    name = orders.current_name()
    if name is None:
        yield "there is no order"
        return
    order = orders.get(name)
    if order is None:
        yield f"{name} cannot be read"
        return
    if project.fields["model_version"] != name:
        yield f"Label Studio shows {project.fields['model_version']!r} and {name!r} is current"
    active = services.versions(world.number).active()
    if services.finishes(world.number).standing() is None and order.about.version != active:
        yield f"the order is of {order.about.version} and {active} is active"
    if services.grounds(world.number).get(name) is None:
        yield f"the grounds of {name} are gone"
    yield from _told_right(project, order)


def _told_right(project: Project, order: Order) -> Iterator[str]:
    name, place = order.about.name, {task: row for row, task in enumerate(order.tasks.tolist())}
    ticks = {}
    found = [one for one in project.predictions.values() if one.model_version == name]
    for one in found:
        choices = [part["value"]["choices"] for part in one.result if part["type"] == "choices"]
        if choices:
            ticks[one.task] = sorted(choices[0])
    by_score = [one.task for one in sorted(found, key=lambda one: one.score or 0.0)]
    if by_score != [task for task in order.tasks.tolist() if task in set(by_score)]:
        yield "Label Studio serves another order than the one that is kept"
    values = dict(zip(CONFIGURATION.label_names, CONFIGURATION.values, strict=True))
    for task, chosen in ticks.items():
        if order.told is not None:
            told = CONFIGURATION.label_set.decode(order.told.labels[place[task]])
            if chosen != sorted(values[one] for one in told):
                yield f"task {task} is ticked {chosen} in Label Studio and {told} in the order"


def certificate_honest(world: World) -> Iterator[str]:
    """A certificate is honest or void: drawn before it was answered, counted as answered, and its page says so."""
    store = world.services.finishes(world.number)
    finish = store.newest()
    if finish is None:
        return
    for number in range(1, store.count() + 1):
        if not store.path(number).exists():
            yield f"certificate {number} is missing: its share of the error was spent"
    if set(finish.drawn) & set(finish.remembered):
        yield "frames were drawn that had been answered"
    if finish.state == "void":
        return
    rows, order = store.rows(finish), world.services.orders(world.number).current()
    if not set(finish.drawn) <= set(rows.tasks.tolist()):
        yield "frames were drawn that no machine had labelled"
    if finish.state == "open" and (order is None or tuple(order.tasks[: len(finish.drawn)].tolist()) != finish.drawn):
        yield "the queue does not ask the audit first"
    if finish.state == "certified":
        values, project = dict(zip(CONFIGURATION.values, CONFIGURATION.label_names, strict=True)), world.project
        for task in finish.drawn:
            (answer,) = project.of(task, cancelled=False)
            said = {values[one] for one in answer.result[0]["value"]["choices"]}
            if said != set(finish.answers[task]):
                yield f"the certificate counts another answer of task {task}"
        outcome = finish.outcome
        if outcome is None or outcome.by_machine != int(rows.kept.sum()):
            yield "the certificate and its rows differ"
        if not store.page(finish.number).exists() or store.page(finish.number).read_text() != page_of(
            world.number, finish
        ):
            yield "the certificate's page says something else"


def imported_once(world: World) -> Iterator[str]:
    """Each picture has one task, and its file is whole."""
    counted = Counter(data["image"] for data in world.project.tasks.values())
    yield from (f"{image} has {times} tasks" for image, times in counted.items() if times > 1)
    held = world.objects() if world.bucket else set()
    yield from (
        f"{image} is served but not there" for image in counted if image.startswith("s3:") and image not in held
    )
    for image in counted:
        if image.startswith("s3:"):
            continue
        path = world.place / "files" / image.split("?d=")[1].replace("%2F", "/")
        try:
            with Image.open(path) as picture:
                picture.load()
        except (OSError, SyntaxError) as error:
            yield f"{image} is served but is no picture: {error}"


def exported_whole(world: World) -> Iterator[str]:
    """An export is complete, with nothing left beside it."""
    folder = world.place / "out" / "export"
    if not folder.exists():
        if any((world.place / "out").iterdir()):
            yield "the export is gone"
        return
    if not is_export(folder):
        yield "the export is incomplete"
        return
    told = json.loads((folder / "export.json").read_text())
    (table,) = folder.glob("*.csv")
    with table.open() as file:
        rows = list(csv.DictReader(file))
    if len(rows) != told["frames"]:
        yield f"the export has {len(rows)} rows and says that it has {told['frames']}"


def nothing_left(world: World) -> Iterator[str]:
    """Nothing piles up: leftover files, keys of Redis, or predictions of old orders."""
    for path in leftovers(world.place):
        yield f"never removed: {general(str(path.relative_to(world.place)))}"
    orders = world.place / "data" / "projects" / str(world.number) / "orders"
    kept = {path.name.removesuffix(".npz") for path in orders.glob("*.npz")}
    for path in orders.iterdir():
        name = path.name.removesuffix(path.suffix)
        if path.suffix in (".json", ".grounds") and name not in kept:
            yield f"never removed: {general(path.name)} without its order"
    finish = world.services.finishes(world.number).standing()
    project = world.project
    needed = {project.fields["model_version"], finish.order if finish else None}
    others = [name for name in project.versions() if NAME.match(name) and name not in needed]
    if len(others) > world.settings.keep_pushed:
        yield f"{len(others)} old orders have predictions in Label Studio"
    if len(kept) > len(others) + 4:
        yield f"{len(kept)} orders are kept"
    yield from keys_left(world)


def leftovers(place: Path) -> list[Path]:
    """Files and folders that should have been moved or removed."""
    return sorted(
        path for path in place.rglob("*") if path.name.startswith((".aside-", ".removed-")) or ".partial" in path.name
    )


def keys_left(world: World) -> Iterator[str]:
    """Keys of Redis that nothing removes, and dead workers that are still listed."""
    redis = world.redis
    under_way = set()
    for name in ("tsal", "tsal-lead"):
        queue = world.services.queue(name)
        under_way |= {*queue.job_ids, *queue.started_job_registry.get_job_ids(cleanup=False)}
        under_way |= {*queue.scheduled_job_registry.get_job_ids()}
    for key in redis.scan_iter():
        name = general(key.decode())
        lasts = name in LASTING or name.startswith("rq:workers:")
        if redis.ttl(key) < 0 and not lasts and key.decode().removeprefix("rq:job:") not in under_way:
            yield f"never removed from Redis: {name}"
    if redis.scard("rq:workers"):
        yield f"{redis.scard('rq:workers')} dead workers are still listed"


AT_ONCE: tuple[Law, ...] = (served_whole, versions_whole, nobody_shares)
"""Laws that hold at any moment, even between the crash and the restart."""
IN_THE_END: tuple[Law, ...] = (
    *AT_ONCE,
    *(nothing_lost_or_doubled, one_version, certificate_honest, imported_once, exported_whole, nothing_left),
)


def broken(world: World, laws: tuple[Law, ...]) -> list[str]:
    """What breaks these laws."""
    found = []
    for law in laws:
        try:
            found += [f"{law.__name__}: {one}" for one in law(world)]
        except (BackendError, OSError, ValueError, KeyError) as error:
            found.append(f"{law.__name__}: cannot be judged: {type(error).__name__}: {error}")
    return found


def state_of(world: World) -> dict[str, object]:
    """What the operation has led to; an interrupted one must lead to the same."""
    services, number, project = world.services, world.number, world.project
    store, order = services.versions(number), services.orders(number).current()
    numbers = {name: store.get(name).number for name in store.names()}
    finish = services.finishes(number).newest()
    return {
        "versions": sorted(numbers.values()),
        "active": numbers.get(store.active() or ""),
        "order of version": numbers.get(order.about.version or "") if order else None,
        "tasks": len(project.tasks),
        "annotations": len(project.annotations),
        "finish": (services.finishes(number).count(), finish.state if finish else None),
        "export": is_export(world.place / "out" / "export"),
    }


def age(world: World) -> None:
    """Make leftovers look two days old."""
    then = time.time() - DAYS
    for path in leftovers(world.place):
        os.utime(path, (then, then))
