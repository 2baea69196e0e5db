"""Every event around the loop as a rule, to run in any order, with laws that hold always or after a rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from soak.crash import deeds
from soak.events import clock
from soak.events.fates import Fate
from soak.events.model import LABEL_SETS, USUAL, Answer, LabelSet
from soak.events.people import ticks_of
from soak.events.scene import ANNOTATORS, LawBroken, Scene, pick

FRAMES = 14
MOST_FRAMES = 40
DAY = 86_400
PLACES = st.integers(0, 39)
FATES = st.one_of(
    st.none(),
    st.none(),
    st.builds(
        Fate,
        st.sampled_from(["killed", "killed", "people act", "people act", "refused", "answer lost"]),
        st.one_of(st.integers(1, 30), st.integers(1, 400)),
    ),
)


class Machine(Scene):
    """People, processes and faults around one project."""

    @initialize(trained=st.booleans())
    def begin(self, trained: bool = False) -> None:
        """A project with a few frames, that the loop has put in order, perhaps with a first version."""
        self.stage.begin()
        self.people.begin("Events", USUAL, self.stage.webhook, self.stage.actions)
        self.loop.world.number = self.people.project
        self.loop.start()
        (self.loop.settings.data_dir / "projects" / str(self.people.project)).mkdir(parents=True, exist_ok=True)
        self.import_frames(FRAMES)
        self.loop.settle()
        if trained:
            for user in (1, 2, 3, 1):
                self.answer_next(user, 0)
            self.act(self.judge)

    # People

    @rule(user=st.integers(1, ANNOTATORS), answer=PLACES, times=st.integers(1, 4))
    def annotate(self, user: int, answer: int, times: int) -> None:
        """Somebody answers the next frames."""
        self.count("annotate")
        for _ in range(times):
            self.answer_next(user, answer)

    @rule(users=st.lists(st.integers(1, ANNOTATORS), min_size=2, max_size=8), answer=PLACES)
    def session(self, users: list[int], answer: int) -> None:
        """The team is at work, and the loop with it."""
        self.count("session")
        for user in users:
            self.answer_next(user, answer)
            while self.loop.mail:
                self.loop.receive(0)
            self.loop.look(due=False)

    @rule(user=st.integers(1, ANNOTATORS))
    def open_next(self, user: int) -> None:
        """Somebody opens the next frame and leaves it."""
        self.count("open")
        self.next(user)

    @rule(user=st.integers(1, ANNOTATORS))
    def skip(self, user: int) -> None:
        """Somebody skips the next frame."""
        self.count("skip")
        found = self.next(user)
        if found is not None:
            self.model.answered(self.people.skip(user, found[0]))

    @precondition(lambda self: self.model.tasks)
    @rule(user=st.integers(1, ANNOTATORS), task=PLACES, answer=PLACES)
    def annotate_any(self, user: int, task: int, answer: int) -> None:
        """Somebody answers a frame that the queue did not give, perhaps beside another answer."""
        self.count("annotate any")
        chosen = pick(sorted(self.model.tasks), task)
        self.model.answered(self.people.answer(user, chosen, self.answer_to(answer + chosen), None))

    @precondition(lambda self: self.model.answers)
    @rule(user=st.integers(1, ANNOTATORS), place=PLACES, answer=PLACES)
    def change(self, user: int, place: int, answer: int) -> None:
        """Somebody changes an annotation, a skip too."""
        self.count("change")
        one: Answer = pick(list(self.model.answers.values()), place)
        ticks = self.answer_to(answer)
        at = self.people.change(user, one.number, ticks)
        self.model.answered(replace(one, ticks=ticks, at=at, skipped=False, unseen=False))

    @precondition(lambda self: self.model.answers)
    @rule(place=PLACES)
    def delete(self, place: int) -> None:
        """Somebody deletes an annotation."""
        self.count("delete")
        number = pick(list(self.model.answers), place)
        self.people.delete(number)
        del self.model.answers[number]

    @precondition(lambda self: self.model.open())
    @rule(places=st.lists(PLACES, min_size=1, max_size=3))
    def accept_unseen(self, places: list[int]) -> None:
        """The manager accepts predictions as annotations, unseen."""
        self.count("accept unseen")
        open_ = sorted(self.model.open())
        tasks = sorted({pick(open_, place) for place in places})
        version = str(self.people.look().project["model_version"] or "")
        if not version:
            return
        self.people.accept(tasks, version)
        for task, found in self.people.tasks().items():
            for one in found:
                if task in tasks and one["id"] not in self.model.answers:
                    ticks = ticks_of(one["result"])
                    self.model.answered(Answer(one["id"], task, ticks, one["updated_at"], unseen=True))

    @precondition(lambda self: len(self.model.tasks) < MOST_FRAMES)
    @rule(count=st.integers(1, 3))
    def bring(self, count: int) -> None:
        """The manager imports frames."""
        self.count("import")
        self.import_frames(count)

    @precondition(lambda self: len(self.model.tasks) > FRAMES // 2)
    @rule(places=st.lists(PLACES, min_size=1, max_size=2))
    def remove(self, places: list[int]) -> None:
        """The manager deletes frames with their annotations."""
        self.count("delete tasks")
        tasks = {pick(sorted(self.model.tasks), place) for place in places}
        self.people.remove(tasks)
        self.model.delete(tasks)

    @rule(labels=st.sampled_from(LABEL_SETS))
    def set_labels(self, labels: LabelSet) -> None:
        """The lead changes the symptoms, if Label Studio lets them."""
        self.count("change label set")
        if self.people.set_labels(labels):
            self.model.labels = labels

    # The lead

    @rule(place=PLACES, undo=st.booleans(), fate=FATES)
    def activate(self, place: int, undo: bool, fate: Fate | None) -> None:
        """The lead asks for another version, or for the one before."""
        self.count("roll back" if undo else "activate")
        store = self.loop.services.versions(self.loop.world.number)
        version = store.before() if undo else pick(store.names() or [None], place)
        if version is not None:
            what = "rollback" if undo else "activate"
            self.act(lambda: self.loop.ask(what, fate, version=version, expected=store.active()))  # type: ignore[arg-type]

    @rule(fate=FATES)
    def prune(self, fate: Fate | None) -> None:
        """Somebody removes old versions."""
        self.count("prune")
        self.act(lambda: self.loop.command(deeds.prune_versions, fate))

    @rule(fate=FATES)
    def finish(self, fate: Fate | None) -> None:
        """Somebody begins a certificate, or looks how far it is."""
        self.count("finish")
        self.act(lambda: self.loop.command(deeds.finish, fate))

    @rule(fate=FATES)
    def give_up(self, fate: Fate | None) -> None:
        """The lead gives a certificate up."""
        self.count("give up")
        self.act(lambda: self.loop.ask("give up", fate))

    @rule(answer=PLACES)
    def answer_audit(self, answer: int) -> None:
        """The team answers what a certificate asks."""
        finish = self.loop.services.finishes(self.loop.world.number).open()
        self.count("answer audit")
        for task in finish.drawn if finish else ():
            if task in self.model.open():
                self.model.answered(self.people.answer(1, task, self.answer_to(answer + task), None))

    @rule(fate=FATES)
    def train_now(self, fate: Fate | None) -> None:
        """The lead asks for a training."""
        self.count("train now")
        self.loop.mail.append({"action": "START_TRAINING", "project": {"id": self.people.project}})
        self.act(lambda: self.loop.receive(-1, fate=fate))

    # Webhooks

    @precondition(lambda self: self.loop.mail)
    @rule(place=PLACES, twice=st.booleans(), fate=FATES)
    def receive(self, place: int, twice: bool, fate: Fate | None) -> None:
        """A webhook arrives, in any order, and perhaps once more later."""
        self.count("webhook")
        self.act(lambda: self.loop.receive(place, keep=twice, fate=fate))

    @precondition(lambda self: self.loop.mail)
    @rule()
    def receive_all(self) -> None:
        """All webhooks arrive."""
        self.count("webhooks")
        while self.loop.mail:
            self.loop.receive(0)

    @precondition(lambda self: self.loop.mail)
    @rule(place=PLACES)
    def lose(self, place: int) -> None:
        """Webhooks are lost."""
        self.count("lose webhooks")
        del self.loop.mail[place % len(self.loop.mail) :]

    # Processes

    @rule(due=st.booleans(), fate=FATES)
    def look(self, due: bool, fate: Fate | None) -> None:
        """The sidecar looks."""
        self.count("look")
        self.act(lambda: self.loop.look(due, fate))

    @rule(fate=FATES)
    def work(self, fate: Fate | None) -> None:
        """A worker works."""
        self.count("work")
        self.act(lambda: self.loop.work(fate))

    @rule(fate=FATES)
    def refresh(self, fate: Fate | None) -> None:
        """Somebody has the queue put in order."""
        self.count("refresh")
        self.act(lambda: self.loop.command(deeds.refresh, fate))

    @rule(who=st.sampled_from(["backend", "sidecar"]))
    def restart(self, who: str) -> None:
        """A process is killed while it waits, and started again."""
        self.count("kill idle")
        (self.loop.start_backend if who == "backend" else self.loop.start_sidecar)()

    @rule(what=st.sampled_from(["redis", "studio"]), acts=st.integers(1, 3))
    def cut(self, what: Any, acts: int) -> None:
        """Redis or Label Studio does not answer the loop during its next ``acts`` actions."""
        self.count("cut off")
        self.loop.fates.cut.add(what)
        self.cut_for = acts

    @precondition(lambda self: clock.can_be_set())
    @rule(seconds=st.sampled_from([0, 0, 3600, -3600, 2 * DAY, -2 * DAY]))
    def set_clock(self, seconds: int) -> None:
        """The clock jumps."""
        self.count("set clock")
        clock.set_to(seconds)

    @rule(fates=st.tuples(FATES, FATES, FATES), lost=st.integers(0, 3))
    def minute(self, fates: tuple[Fate | None, Fate | None, Fate | None], lost: int) -> None:
        """A minute passes: webhooks arrive except a few late ones, the sidecar looks, a worker works."""
        self.count("a minute")
        while len(self.loop.mail) > lost:
            self.act(lambda: self.loop.receive(0, fate=fates[0]))
        self.act(lambda: self.loop.look(True, fates[1]))
        self.act(lambda: self.loop.work(fates[2]))

    @rule(restarted=st.booleans(), late=st.booleans())
    def rest(self, restarted: bool, late: bool) -> None:
        """Nothing happens for a while: everything must come right."""
        self.count("rest")
        if restarted:
            self.loop.start_sidecar()
        if not late:
            while self.loop.mail:
                self.loop.receive(0)
        self.judge()

    @invariant()
    def nothing_unexpected(self) -> None:
        """No process fails for a reason that no fate explains."""
        lines = [*self.loop.errors.lines, *self.loop.unexpected]
        if lines:
            raise LawBroken("; ".join(lines))

    def teardown(self) -> None:
        """At the end, everything must come right too."""
        if clock.can_be_set():
            clock.set_to(0)
        if self.model.tasks:
            self.judge()
