"""Look at a year-old project again and again, as the sidecar does, with a Label Studio that answers at once."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

from benchmarks.offline import WHEN, XML, results
from benchmarks.own_process import peak_bytes
from benchmarks.year_store import BATCH, CLIP, CLIPS_A_PATIENT, NAMES, PROJECT, clip_of, url_of, year_settings
from ml_backend.loop import overview, watch
from ml_backend.loop.remember import looked_at, marks_of
from ml_backend.services import Services
from ml_backend.store.evidence_addresses import name_of
from ml_backend.studio.client import ConfirmedAnnotation, Counts, ProjectInfo, Task
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.connections import Webhook

TIMES = 3


class YearStudio:
    """A Label Studio without a network: ``frames`` tasks, the first ``answered`` of them with an answer."""

    def __init__(self, frames: int, answered: int, model_version: str) -> None:
        self.frames, self.answered, self.model_version = frames, answered, model_version
        self._results = results()

    def project(self, project: int) -> ProjectInfo:
        return ProjectInfo("A year", XML, self.model_version, "Uncertainty sampling", 1, True)

    def counts(self, project: int) -> Counts:
        return Counts(self.frames, self.answered, self.frames - self.answered, self.answered)

    def tasks(self, project: int, only_unlabelled: bool = False) -> Iterator[Task]:
        for task in range(self.answered + 1 if only_unlabelled else 1, self.frames + 1):
            yield Task(task, _data(task))

    def confirmed_annotations(self, project: int) -> list[ConfirmedAnnotation]:
        return [
            ConfirmedAnnotation(
                task, task, WHEN, _data(task), self._results[task // CLIP % len(NAMES)], False, 1, WHEN, 3.0
            )
            for task in range(1, self.answered + 1)
        ]

    def model_versions(self, project: int) -> list[str]:
        return [self.model_version]

    def people(self) -> dict[int, str]:
        return {1: "Ada Lovelace"}

    def webhooks(self, project: int) -> Sequence[Webhook]:
        return ()


def _data(task: int) -> dict[str, object]:
    clip = task // CLIP
    return {
        "image": url_of(task),
        "clip": clip_of(task),
        "patient": f"p{clip // CLIPS_A_PATIENT}",
        "time": task % CLIP / 2,
    }


def main(folder: Path, frames: int, versions: int, redis_url: str, part: str) -> None:
    """Time each kind of look; print the seconds, and the peak memory in bytes, as JSON."""
    services = Services(year_settings(folder).model_copy(update={"redis_url": redis_url}), computes=False)
    if part == "backend":
        print(json.dumps({"peak": _evidence(services)}))
        return
    studio = YearStudio(frames, BATCH * versions, services.orders(PROJECT).current_name() or "")
    services.studio = studio  # type: ignore[assignment]
    _remember(services)
    state = watch.Watched()
    # The lead's page is measured apart: for a large project, a process of its own makes it.
    with patch("ml_backend.loop.overview.write", _no_page), patch("ml_backend.loop.lead_page.LARGE", float("inf")):
        found = {"first": [_look(services, state)]}
        found["nothing due"] = [_look(services, state) for _ in range(TIMES)]
        found["poll"] = [_due(services, state) for _ in range(TIMES)]
        found["news"] = [_news(services, studio, state) for _ in range(TIMES)]
        state.polls = watch.FULL_POLL * 10
        found["full poll"] = [_due(services, state)]
    peak = peak_bytes()
    page = _page(services)
    print(json.dumps({"seconds": found, "peak": peak, "page": page, "peak of the page": peak_bytes()}))


def _page(services: Services) -> float:
    """The seconds that the lead's page takes; suspects are left out, since there are no frames to look at."""
    started = time.perf_counter()
    with patch("ml_backend.loop.look_again.suspects_among", lambda *_: []):
        overview.write(services, PROJECT, None)
    return time.perf_counter() - started


def _no_page(*_: object) -> SimpleNamespace:
    return SimpleNamespace(seconds=0.0)


def _look(services: Services, state: watch.Watched) -> float:
    started = time.perf_counter()
    watch.look(services, PROJECT, state)
    return time.perf_counter() - started


def _due(services: Services, state: watch.Watched) -> float:
    state.polled = float("-inf")
    return _look(services, state)


def _news(services: Services, studio: YearStudio, state: watch.Watched) -> float:
    """A look after two more answers, fewer than the memory waits for."""
    tasks = range(studio.answered + 1, studio.answered + 3)
    studio.answered += len(tasks)
    services.pending(PROJECT).add({task: task for task in tasks})
    services.pending(PROJECT).announce()
    return _look(services, state)


def _remember(services: Services) -> None:
    """Let the order remember what Label Studio has, or each look would find that answers were changed."""
    orders = services.orders(PROJECT)
    order = orders.current()
    assert order is not None
    assert order.told is not None
    order.told.remembered.update(marks_of(looked_at(services, PROJECT, Configuration.parse(XML))))
    orders.save(order)


def _evidence(services: Services) -> int:
    """What the backend holds once it has shown one picture's evidence."""
    order = services.orders(PROJECT).current()
    assert order is not None
    grounds = services.grounds(PROJECT).get(order.about.name)
    assert grounds is not None
    row = grounds.find(name_of(url_of(int(order.tasks[0]))))
    assert row is not None
    grounds.around(row)
    return peak_bytes()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5])
