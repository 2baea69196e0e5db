"""Annotators who work at the same time, and the ledger of what they were served and what they did."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx
import numpy as np

from ml_backend.errors import BackendError
from ml_backend.studio.client import Studio
from ml_backend.studio.payloads import choices_result
from soak.site import Site
from soak.waits import Waits

AGAIN_SECONDS = 0.5
NEVER = float("inf")
FAR = 20  # frames at the end of the queue


@dataclass(frozen=True)
class Habits:
    """How people work.

    ``thought``: the shortest and longest time that they look at a frame, in seconds. The others are shares of the
    frames: those they skip, those after which they delete an annotation of theirs, change one, or accept a frame
    unseen, and those whose evidence they open.
    """

    thought: tuple[float, float] = (0.0, 0.2)
    skips: float = 0.04
    deletes: float = 0.03
    changes: float = 0.0
    accepts: float = 0.0
    looks: float = 0.0


@dataclass(frozen=True)
class Serving:
    """A frame that was served: when it was first asked for and when it came, by the monotonic clock.

    A request without an answer may have locked the frame, which the next request then gets. ``order`` is the name of
    the order that its prediction carries, empty where it has none.
    """

    annotator: str
    task: int
    order: str
    asked: float
    answered: float


@dataclass
class Deed:
    """What an annotator did with a frame that was served: confirmed it, or skipped it (``skip``).

    ``sent`` and ``answered`` are times by the monotonic clock; one without an answer may have arrived all the
    same. ``deleted`` is when the annotation's deletion was requested.
    """

    annotator: str
    task: int
    skip: bool
    sent: float
    answered: float = NEVER
    annotation: int | None = None
    deleted: float | None = None

    @property
    def acknowledged(self) -> bool:
        """Whether Label Studio said that it has the annotation."""
        return not self.skip and self.answered < NEVER


@dataclass
class Ledger:
    """Everything that a team was served and did, and the orders it was served by."""

    servings: list[Serving] = field(default_factory=list)
    deeds: list[Deed] = field(default_factory=list)
    orders: dict[str, list[int]] = field(default_factory=dict)

    def confirmed(self) -> int:
        """How many frames were confirmed; a deletion takes none away."""
        return sum(deed.acknowledged for deed in self.deeds)


class Team:
    """Annotators of a site, each with an account of their own."""

    def __init__(
        self,
        site: Site,
        size: int,
        seed: int = 0,
        *,
        name: str = "annotator",
        habits: Habits | None = None,
        waits: Waits | None = None,
    ) -> None:
        self.ledger = Ledger()
        self.waits = waits or Waits()
        self._habits = habits or Habits()
        self._site = site
        self._seed = seed
        self._gate = threading.Lock()
        self._turns = count()
        self._asked: dict[str, float] = {}
        self._studios = {name: site.annotator(name) for name in (f"{name}-{number + 1}" for number in range(size))}

    def confirm(self, frames: int, *, progress: Callable[[int], None] = lambda done: None) -> None:
        """Work until ``frames`` more frames are confirmed, whatever fails meanwhile.

        Each annotator may confirm one frame too many, since they work at the same time.
        """
        enough = self.ledger.confirmed() + frames
        turn = next(self._turns)
        troubles: list[BaseException] = []

        def work(name: str, studio: Studio) -> None:
            chance = random.Random(f"{self._seed} {turn} {name}")
            try:
                while self.ledger.confirmed() < enough and not troubles:
                    if not self._one(name, studio, chance):
                        time.sleep(AGAIN_SECONDS)
                    progress(self.ledger.confirmed())
            except Exception as error:  # raised by the thread that started us
                troubles.append(error)

        threads = [threading.Thread(target=work, args=one, daemon=True) for one in self._studios.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if troubles:
            raise troubles[0]

    @contextmanager
    def at_work(self, frames: int) -> Iterator[None]:
        """Let them `confirm` ``frames`` frames while the block runs, and wait for them at its end."""
        with ThreadPoolExecutor(1) as pool:
            work = pool.submit(self.confirm, frames)
            yield
            work.result()

    def _one(self, name: str, studio: Studio, chance: random.Random) -> bool:
        """Take a frame and answer it; False where none could be had just now."""
        asked = self._asked.setdefault(name, time.monotonic())
        try:
            with self.waits.timed("next"):
                task = studio.next_task(self._site.project)
        except BackendError:
            return False
        del self._asked[name]
        if task is None:
            return False
        shown = task["predictions"][0] if task["predictions"] else {}
        order = shown.get("model_version") or ""
        serving = Serving(name, task["id"], order, asked, time.monotonic())
        with self._gate:
            self.ledger.servings.append(serving)
            if order and order not in self.ledger.orders:
                known = self._site.services.orders(self._site.project).get(order)
                if known is not None:  # else it was removed meanwhile
                    self.ledger.orders[order] = known.tasks.tolist()
        # Failed tries included: somebody before the screen waits through them.
        self.waits.add("frame", serving.answered - serving.asked)
        habits = self._habits
        if chance.random() < habits.looks:
            self._look(task)
        time.sleep(chance.uniform(*habits.thought))
        self._answer(name, studio, task, shown.get("id"), skip=chance.random() < habits.skips)
        for share, do in (
            (habits.deletes, self._delete_one),
            (habits.changes, self._change_one),
            (habits.accepts, self._accept_one),
        ):
            if share and chance.random() < share:
                do(name, studio, chance)
        return True

    def _look(self, task: dict[str, Any]) -> None:
        """Open the evidence beside a frame, as the labelling page does."""
        address = task["data"].get(self._site.settings.evidence_key)
        if address:
            with suppress(httpx.HTTPError), self.waits.timed("evidence"):
                httpx.get(address, timeout=30).raise_for_status()

    def _answer(self, name: str, studio: Studio, task: dict[str, Any], shown: int | None, skip: bool) -> None:
        deed = Deed(name, task["id"], skip, time.monotonic())
        with self._gate:
            self.ledger.deeds.append(deed)
        try:
            # Includes the backend's time for the webhook, during which Label Studio keeps the annotator waiting.
            with self.waits.timed("submit"):
                if skip:
                    studio.skip(task["id"])
                else:
                    labels = self._site.clips.labels[task["data"]["clip"]]
                    result = choices_result(labels, self._site.configuration)
                    deed.annotation = studio.submit(task["id"], [result], parent_prediction=shown)
        except BackendError:
            return
        deed.answered = time.monotonic()

    def _delete_one(self, name: str, studio: Studio, chance: random.Random) -> None:
        """Take back an annotation of one's own, as people do."""
        deed = self._own(name, chance)
        if deed is None or deed.annotation is None:
            return
        deed.deleted = time.monotonic()
        try:
            studio.delete_annotation(deed.annotation)
        except BackendError:
            # Whether it was deleted is not known; it counts neither as lost nor as found.
            return

    def _change_one(self, name: str, studio: Studio, chance: random.Random) -> None:
        """Change one of one's own annotations to a single symptom, chosen at random."""
        deed = self._own(name, chance)
        if deed is None or deed.annotation is None:
            return
        configuration = self._site.configuration
        labels = np.zeros(len(configuration.label_names), np.uint8)
        labels[chance.randrange(len(labels))] = 1
        with suppress(BackendError), self.waits.timed("change"):
            _change(studio, deed.annotation, choices_result(labels, configuration))

    def _accept_one(self, name: str, studio: Studio, chance: random.Random) -> None:
        """Accept a prediction in the Data Manager, unseen, far from where the others work."""
        served = {serving.task for serving in self.ledger.servings}
        with suppress(BackendError, OSError):
            order = self._site.services.orders(self._site.project).current()
            last = [] if order is None or order.about.version is None else order.tasks.tolist()[-FAR:]
            free = [task for task in last if task not in served]
            if order is not None and free:
                with self.waits.timed("accept"):
                    _accept(studio, self._site.project, chance.choice(free), order.about.name)

    def _own(self, name: str, chance: random.Random) -> Deed | None:
        """One of the annotations that somebody has made and not deleted."""
        own = [
            deed for deed in self.ledger.deeds if deed.annotator == name and deed.acknowledged and deed.deleted is None
        ]
        return chance.choice(own) if own else None


def _change(studio: Studio, annotation: int, result: dict[str, Any]) -> None:
    calls = studio._calls
    address = f"api/annotations/{annotation}/"
    calls.write(f"changing annotation {annotation}", lambda: calls.request("PATCH", address, json={"result": [result]}))


def _accept(studio: Studio, project: int, task: int, model_version: str) -> None:
    """Do what "Create Annotations From Predictions" does in the Data Manager."""
    calls = studio._calls
    calls.write(
        f"accepting task {task}",
        lambda: calls.request(
            "POST",
            "api/dm/actions/",
            params={"id": "predictions_to_annotations", "project": project},
            json={"selectedItems": {"all": False, "included": [task]}, "model_version": model_version},
        ),
    )
