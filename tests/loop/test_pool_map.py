"""The map of the pool: when it is made anew, of which frames, and in which process."""

from __future__ import annotations

import numpy as np
import pytest

from ml_backend.frames.frame import Frame
from ml_backend.loop import pool_map
from ml_backend.loop.pool_map import GROWTH, MOST, draw, keep_sample
from ml_backend.loop.remember import Memory
from ml_backend.loop.score import Embeddings
from ml_backend.loop.watch import Watched, look
from ml_backend.services import Services
from ml_backend.store.pool_map import PoolMap, PoolMapStore, Sample
from ml_backend.tsal.plane import LEAST
from tests.events import events
from tests.installation import PROJECT
from tests.loop.test_order import TASKS, Installation, folder, installed, predictor, refreshed, studio
from tests.loop.test_remember import A, services
from tests.studio_stand_in import one_thread

__all__ = ["folder", "installed", "one_thread", "predictor", "studio"]


def pool(tasks: range) -> Embeddings:
    """Make embeddings that say which task they are of."""
    return Embeddings(np.array(tasks, np.int64), np.array(tasks, np.float16)[:, None], {})


def sampled(made: Services, tasks: range, memory: Memory | None = None) -> list[int] | None:
    """Return the tasks of the sample that now waits, None if none does; check that each has its own embedding."""
    store = made.pool_map(PROJECT)
    keep_sample(made, PROJECT, pool(tasks), memory)
    if not store.waits():
        return None
    sample = store.sample()
    assert sample.embeddings[:, 0].tolist() == sample.tasks.astype(np.float16).tolist()
    store.forget_sample()
    found: list[int] = sample.tasks.tolist()
    return found


def test_it_is_made_first_for_a_pool_of_some_size_and_anew_when_that_has_grown(installed: Installation) -> None:
    made = installed.services()
    assert sampled(made, range(1, LEAST)) is None
    assert sampled(made, range(LEAST)) == list(range(LEAST))
    made.pool_map(PROJECT).write(PoolMap(np.arange(LEAST), np.zeros((LEAST, 2), np.float32), LEAST))
    assert sampled(made, range(int(GROWTH * LEAST) - 1)) is None
    assert sampled(made, range(int(GROWTH * LEAST))) == list(range(int(GROWTH * LEAST)))


def test_remembered_frames_are_on_it_once(installed: Installation) -> None:
    frames = [Frame(task, "") for task in range(LEAST // 2, LEAST)]
    memory = Memory([], frames, np.array([[one.task] for one in frames], np.float16))
    assert sampled(installed.services(), range(LEAST // 2 + 3), memory) == list(range(LEAST))


def test_of_a_large_pool_it_has_a_uniform_sample(installed: Installation) -> None:
    made = installed.services()
    found = sampled(made, range(2 * MOST))
    assert found == sampled(made, range(2 * MOST))
    assert found is not None
    assert len(set(found)) == MOST
    assert np.mean(found) == pytest.approx(MOST, rel=0.05)
    made.pool_map(PROJECT).write(PoolMap(np.array(found), np.zeros((MOST, 2), np.float32), 2 * MOST))
    assert sampled(made, range(2 * MOST + 1)) is None


def test_a_refresh_keeps_a_sample(installed: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_map, "LEAST", len(TASKS))
    installed.studio.confirm(TASKS[0], A)
    made = services(installed)
    refreshed(made)
    sample = made.pool_map(PROJECT).sample()
    assert (sample.tasks.tolist(), sample.pool) == (list(TASKS), len(TASKS))
    assert sample.embeddings.shape == (len(TASKS), 512)


def test_a_full_disk_costs_the_map_alone(
    installed: Installation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(PoolMapStore, "keep_sample", full)
    keep_sample(installed.services(), PROJECT, pool(range(LEAST)), None)
    assert [str(one["reason"]) for one in events(caplog, "map not drawn")] == ["no space left"]


def wait(made: Services, count: int) -> None:
    """Keep a sample of so many embeddings."""
    embeddings = np.random.default_rng(0).normal(size=(count, 8)).astype(np.float16)
    made.pool_map(PROJECT).keep_sample(Sample(np.arange(count), embeddings, count))


def test_another_process_lays_it_out(installed: Installation) -> None:
    made = installed.services()
    assert draw(made, PROJECT, None) is None
    wait(made, LEAST)
    drawing = draw(made, PROJECT, None)
    assert drawing is not None
    assert draw(made, PROJECT, drawing) is drawing
    assert drawing.wait(120) == 0
    assert draw(made, PROJECT, drawing) is None
    drawn = made.pool_map(PROJECT).read()
    assert drawn is not None
    assert (drawn.tasks.tolist(), drawn.places.shape, drawn.pool) == (list(range(LEAST)), (LEAST, 2), LEAST)


def test_a_sample_that_cannot_be_laid_out_is_not_tried_for_ever(
    installed: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    made = installed.services()
    wait(made, 1)
    drawing = draw(made, PROJECT, None)
    assert drawing is not None
    assert drawing.wait(120) != 0
    assert draw(made, PROJECT, drawing) is None
    assert not made.pool_map(PROJECT).waits()
    assert len(events(caplog, "map not drawn")) == 1


def test_the_watch_has_it_laid_out(installed: Installation, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = installed.services(strategy="cover", validator="memory", redis_url=redis_url, poll_seconds=3600)
    made.studio.people = dict  # type: ignore[method-assign]
    monkeypatch.setattr(pool_map, "LEAST", len(TASKS))
    seen: list[tuple[bool, object]] = []

    def note(services: Services, project: int, drawing: object) -> str:
        seen.append((services.pool_map(project).waits(), drawing))
        return "a process"

    monkeypatch.setattr(pool_map, "draw", note)
    state = Watched()
    look(made, PROJECT, state)
    state.polled = float("-inf")
    look(made, PROJECT, state)
    assert seen == [(True, None), (True, "a process")]
