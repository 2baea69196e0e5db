"""What must hold once everything is quiet: each law says in words what breaks it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ml_backend.loop.confirm import parked_now
from ml_backend.loop.watch import sweep
from ml_backend.services import Services
from ml_backend.store.orders import NAME
from soak.crash import laws as crash
from soak.events.installation import Installation
from soak.events.model import Model
from soak.events.people import Seen, ticks_of

PAST_ORDERS = 4  # kept beside those whose predictions are in Label Studio


@dataclass(frozen=True)
class Quiet:
    """Everything that is looked at: the installation, Label Studio, and what must be true."""

    installation: Installation
    model: Model
    studio: Seen
    services: Services

    @property
    def number(self) -> int:
        """The project."""
        return self.installation.world.number


Law = Callable[[Quiet], Iterator[str]]


def label_studio_has_it(quiet: Quiet) -> Iterator[str]:
    """Label Studio holds what the model says."""
    model, tasks = quiet.model, quiet.studio.tasks
    if set(tasks) != model.tasks:
        yield f"only one of Label Studio and the model has the frames {sorted(set(tasks) ^ model.tasks)}"
    there = {
        one["id"]: (task, bool(one["was_cancelled"]), frozenset() if one["was_cancelled"] else ticks_of(one["result"]))
        for task, annotations in tasks.items()
        for one in annotations
    }
    told = {
        one.number: (one.task, one.skipped, frozenset() if one.skipped else one.ticks)
        for one in quiet.model.answers.values()
    }
    if there != told:
        yield f"Label Studio's annotations are {there} and must be {told}"


def nothing_lost_or_doubled(quiet: Quiet) -> Iterator[str]:
    """Each answer that counts is in the newest version as it is now, or waits; never in both, and never twice."""
    services, model = quiet.services, quiet.model
    newest = services.versions(quiet.number).newest()
    seen = newest.seen if newest else ()
    for what in ("annotation", "task"):
        twice = [one for one, times in Counter(getattr(row, what) for row in seen).items() if times > 1]
        if twice:
            yield f"the newest version has the {what}s {twice} twice"
    waiting = services.pending(quiet.number).annotations()
    trained = {(one.annotation, one.updated_at) for one in seen}
    for task in model.counted():
        found = model.of(task)
        places = [one.number in waiting for one in found] + [(one.number, one.at) in trained for one in found]
        if sum(places) == 0:
            yield f"no answer of task {task} is trained on or waits: {found}"
        if len(found) == 1 and sum(places) > 1:
            yield f"the answer of task {task} is trained on and waits: {found}"
    numbers = {one.number: one.task for task in model.counted() for one in model.of(task)}
    wrong = {annotation: task for annotation, task in waiting.items() if numbers.get(annotation) != task}
    if wrong:
        yield f"{wrong} wait but do not count"


def learnt_what_was_said(quiet: Quiet) -> Iterator[str]:
    """The newest version learnt from what people said, unless that was changed since."""
    model, newest = quiet.model, quiet.services.versions(quiet.number).newest()
    if newest is None or newest.label_names != model.labels.names:
        return
    rows = (*newest.trained_on, *newest.held_out)
    answers = [model.answers.get(row.annotation) for row in rows]
    if any(one is None or one.at != row.updated_at for one, row in zip(answers, rows, strict=True)):
        return
    said = Counter(model.labels.choices.get(tick) for one in answers if one for tick in one.ticks)
    wrong = {name: count for name, count in newest.positives.items() if count != said[name]}
    if wrong:
        yield f"{newest.version} learnt {newest.positives}, and people said {dict(said)}"


def batches_are_full(quiet: Quiet) -> Iterator[str]:
    """What is due is trained on, and nothing else is."""
    services, settings = quiet.services, quiet.installation.settings
    store, before = services.versions(quiet.number), None
    waiting = services.pending(quiet.number).count()
    held_up = services.finishes(quiet.number).open() or parked_now(services, quiet.number)
    if waiting >= settings.k_max and not held_up:
        yield f"{waiting} frames wait, and no training comes"
    numbers = [store.get(name).number for name in store.names()]
    if len(set(numbers)) < len(numbers):
        yield f"two versions have the same number: {store.names()}"
    for name in store.names():
        manifest = store.get(name)
        if before is not None and before.number + 1 == manifest.number:
            fresh = len({one.task for one in manifest.seen if one not in set(before.seen)})
            least = 1 if quiet.model.emptied else settings.k_max
            if fresh < least and manifest.trigger != "request":
                yield f"{name} has only {fresh} new answers"
        before = manifest


def order_is_right(quiet: Quiet) -> Iterator[str]:
    """Order and ticks are of the active version; every open frame is asked once, with all that is known."""
    services, model, number = quiet.services, quiet.model, quiet.number
    orders, shown = services.orders(number), quiet.studio.project["model_version"]
    order, open_ = orders.current(), model.open()
    if not open_:
        return
    if order is None:
        yield f"there is no order, and {len(open_)} frames are open"
        return
    about = order.about
    if shown != about.name:
        yield f"Label Studio shows {shown!r} and {about.name!r} is current"
    counted = Counter(one["task"] for one in quiet.studio.predictions if one["model_version"] == shown)
    wrong = {task: counted[task] for task in open_ if counted[task] != 1}
    if services.finishes(number).standing() is None:
        if wrong:
            yield f"open frames must have one prediction of {shown} each: {wrong}"
        active = services.versions(number).active_manifest()
        fits = active is not None and not set(active.label_names).isdisjoint(model.labels.names)
        if about.version != (active.version if active and fits else None):
            yield f"the order is of {about.version} and {active and active.version} is active"
        if about.symptoms != model.labels.names:
            yield f"the order asks for {about.symptoms} and not for {model.labels.names}"
        remembered = set(order.told.remembered) if order.told else set()
        if remembered - model.counted():
            yield f"{sorted(remembered - model.counted())} are remembered, and nobody has answered them"
        if len(model.counted() - remembered) >= quiet.installation.settings.refresh + len(wrong) + 4:
            yield f"{sorted(model.counted() - remembered)} are answered but not remembered"
    yield from _told_right(quiet, shown)


def _told_right(quiet: Quiet, shown: str) -> Iterator[str]:
    order = quiet.services.orders(quiet.number).get(shown)
    if order is None:
        return
    found = [one for one in quiet.studio.predictions if one["model_version"] == shown]
    by_score = [one["task"] for one in sorted(found, key=lambda one: one["score"])]
    if by_score != [task for task in order.tasks.tolist() if task in set(by_score)]:
        yield "Label Studio serves another order than the one that is kept"
    if order.told is None or order.about.symptoms != quiet.model.labels.names:
        return
    place = {task: row for row, task in enumerate(order.tasks.tolist())}
    for one in found:
        ticks = ticks_of(one["result"])
        row = order.told.labels[place[one["task"]]]
        told = frozenset(stored for stored, there in zip(quiet.model.labels.choices, row, strict=True) if there)
        if ticks and ticks != told:
            yield f"task {one['task']} is ticked {sorted(ticks)} in Label Studio and {sorted(told)} in the order"


def certificate_is_honest(quiet: Quiet) -> Iterator[str]:
    """A certificate that stands rests on what is still so, and one that is void was touched."""
    services = quiet.services
    finish = services.finishes(quiet.number).newest()
    if finish is None or finish.state == "void":
        return
    draws = quiet.model.draws.get(finish.number, ())
    if not draws:
        yield f"nobody began certificate {finish.number}"
        return
    reasons = [list(quiet.model.touched(draw, finish.remembered, finish.outside)) for draw in draws]
    if all(reasons):
        yield f"certificate {finish.number} is {finish.state}, but {'; '.join(reasons[0])}"
    if finish.state == "open" and services.versions(quiet.number).active() != finish.version:
        yield f"certificate {finish.number} is open, but another version is active"
    if finish.state == "certified":
        names = quiet.model.labels.choices
        for task in finish.drawn:
            said = frozenset(names[one] for one in quiet.model.said(task) or ())
            if frozenset(finish.answers[task]) != said:
                yield f"the certificate counts {finish.answers[task]} of task {task}, and people said {sorted(said)}"
    elif set(finish.drawn) <= quiet.model.counted():
        yield f"the audit of certificate {finish.number} is answered and not counted"


def nothing_grows(quiet: Quiet) -> Iterator[str]:
    """No more is kept than is needed: predictions, orders, files, keys of Redis."""
    world, services, number = quiet.installation.world, quiet.services, quiet.number
    crash.age(world)
    sweep(quiet.installation.settings.data_dir)
    yield from (f"never removed: {path.relative_to(world.place)}" for path in crash.leftovers(world.place))
    finish = services.finishes(number).standing()
    shown = quiet.studio.project["model_version"]
    needed = {shown, services.orders(number).current_name(), finish.order if finish else None}
    pushed = {one["model_version"] for one in quiet.studio.predictions}
    old = [name for name in pushed - needed if NAME.match(name)]
    if shown in pushed and len(old) > quiet.installation.settings.keep_pushed:
        yield f"{len(old)} old orders have predictions in Label Studio: {old}"
    kept = list((world.place / "data" / "projects" / str(number) / "orders").glob("*.npz"))
    if len(kept) > len(old) + PAST_ORDERS:
        yield f"{len(kept)} orders are kept"
    yield from crash.keys_left(world)


def nothing_unexpected(quiet: Quiet) -> Iterator[str]:
    """No error is left unexplained."""
    yield from quiet.installation.errors.lines
    yield from quiet.installation.unexpected


LAWS: tuple[Law, ...] = (
    nothing_unexpected,
    label_studio_has_it,
    nothing_lost_or_doubled,
    learnt_what_was_said,
    batches_are_full,
    order_is_right,
    certificate_is_honest,
    nothing_grows,
    lambda quiet: crash.versions_whole(quiet.installation.world),
)


def broken(quiet: Quiet) -> list[str]:
    """What breaks the laws."""
    return [one for law in LAWS for one in law(quiet)]
