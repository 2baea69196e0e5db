"""A project in use is backed up, restored elsewhere, and goes on as it was."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ml_backend.loop import finish as finishing
from ml_backend.loop import order as ordering
from ml_backend.loop.collect import collect
from ml_backend.model import LungUltrasoundModel
from ml_backend.services import Services
from ml_backend.store.audits import Draw
from ml_backend.store.backup import back_up, restore
from tests.installation import CONFIGURATION, PROJECT, XML, manifest_of, task_with_frame
from tests.loop.test_finish import advanced, answer, begun
from tests.loop.test_order import TASKS, Installation, folder, installed, predictor, refreshed, silent, studio
from tests.loop.test_remember import A, B, services
from tests.studio_stand_in import one_thread

__all__ = ["folder", "installed", "one_thread", "predictor", "studio"]
TASK = TASKS[-1]


@contextmanager
def busy(*steps: Callable[[int], object]) -> Iterator[None]:
    """Do each step again and again in a thread of its own; at the start of the block each was done once."""
    over, began = threading.Event(), [threading.Event() for _ in steps]
    failed: list[BaseException] = []

    def work(step: Callable[[int], object], done: threading.Event) -> None:
        turn = 0
        try:
            while not over.is_set():
                step(turn)
                turn += 1
                done.set()
        except BaseException as error:
            failed.append(error)
            done.set()

    threads = [threading.Thread(target=work, args=pair) for pair in zip(steps, began, strict=True)]
    for thread in threads:
        thread.start()
    try:
        for one in began:
            assert one.wait(60)
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert failed == []


def told(made: Services, root: Path) -> object:
    """What the backend answers Label Studio for a frame that no order has, and for one that the order has."""
    tasks = [task_with_frame(root, TASK), {**task_with_frame(root, TASKS[1]), "id": 999}]
    return LungUltrasoundModel(str(PROJECT), XML, made).predict(tasks)


def test_a_certified_project_goes_on_elsewhere(installed: Installation, tmp_path: Path) -> None:
    installed.version()
    made, finish = begun(installed)
    made.audits(PROJECT).add(
        Draw(order="a", version=None, newest=None, drawn_at="then", seed=0, pool=9, tasks=(1, 2), blind=(2,))
    )
    answer(installed, finish)
    done = advanced(made)
    assert done.state == "certified"
    expected = told(made, installed.folder)
    back_up(installed.data, tmp_path / "saved.tar", lambda _: None)

    other = services(replace(installed, data=tmp_path / "other"))
    restore(tmp_path / "saved.tar", tmp_path / "other", lambda _: None)
    assert told(other, installed.folder) == expected
    assert other.versions(PROJECT).names() == made.versions(PROJECT).names()
    assert other.versions(PROJECT).activations() == made.versions(PROJECT).activations()
    assert other.audits(PROJECT).draws() == made.audits(PROJECT).draws()
    assert finishing.certified(other, PROJECT, collect(other, PROJECT, CONFIGURATION), CONFIGURATION) == done
    assert advanced(other) == done
    # And it is still told when the certificate falls.
    installed.studio.change(finish.drawn[0], [0, 1, 0], at="later")
    assert advanced(other).state == "void"


def test_what_belongs_together_is_copied_together_while_writes_go_on(installed: Installation, tmp_path: Path) -> None:
    store = installed.services().versions(PROJECT)
    audits = installed.services().audits(PROJECT)

    def publish(turn: int) -> None:
        store.create(manifest_of(turn % 5), lambda path: path.write_bytes(bytes(200_000)), by=f"job {turn}")
        store.prune(3)

    def draw(turn: int) -> None:
        audits.add(Draw(order=f"o{turn}", version=None, newest=None, drawn_at="", seed=0, pool=9, tasks=(turn,)))

    for turn in range(2):
        publish(turn)  # so that every backup has a version before the active one
    with busy(publish, draw):
        for number in range(8):
            back_up(installed.data, tmp_path / f"{number}.tar", lambda _: None)
    for number in range(8):
        restore(tmp_path / f"{number}.tar", tmp_path / str(number), lambda _: None)
        copy = services(replace(installed, data=tmp_path / str(number))).versions(PROJECT)
        last = copy.activations()[-1].version
        assert copy.active() == last == copy.names()[-1]
        assert copy.complete() is None
        assert copy.before() in copy.names()
        assert all((copy.folder / "versions" / name / "tail.safetensors").stat().st_size for name in copy.names())
        assert services(replace(installed, data=tmp_path / str(number))).audits(PROJECT).draws()


def test_a_queue_that_is_refreshed_meanwhile_costs_nothing(installed: Installation, tmp_path: Path) -> None:
    installed.studio.confirm(TASKS[0], [1, 0, 0])
    made = services(installed)

    def refresh(turn: int) -> None:
        ordering.refresh(made, PROJECT, silent)
        made.orders(PROJECT).prune([])

    with busy(refresh):
        for number in range(4):
            back_up(installed.data, tmp_path / f"{number}.tar", lambda _: None)
    for number in range(4):
        restore(tmp_path / f"{number}.tar", tmp_path / str(number), lambda _: None)
        copy = services(replace(installed, data=tmp_path / str(number)))
        order = ordering.refresh_if_needed(copy, PROJECT, silent)
        assert order is not None
        assert order.told is not None


def test_a_folder_that_is_older_than_label_studio_learns_what_came_since(
    installed: Installation, tmp_path: Path
) -> None:
    installed.studio.confirm(TASKS[0], A)
    made = services(installed)
    refreshed(made)
    back_up(installed.data, tmp_path / "saved.tar", lambda _: None)
    installed.studio.confirm(TASKS[1], B)
    later = refreshed(made).about.name

    other = services(replace(installed, data=tmp_path / "other"))
    restore(tmp_path / "saved.tar", tmp_path / "other", lambda _: None)
    order = ordering.refresh_if_needed(other, PROJECT, silent)
    assert order is not None
    assert order.told is not None
    assert set(order.told.remembered) == set(TASKS[:2])
    # Label Studio has predictions of the later one still: the new one is another.
    assert installed.studio.model_version == order.about.name != later


def test_a_folder_that_is_newer_than_label_studio_claims_nothing_that_is_lost(
    installed: Installation, tmp_path: Path
) -> None:
    made, finish = begun(installed)
    answer(installed, finish)
    assert advanced(made).state == "certified"
    back_up(installed.data, tmp_path / "saved.tar", lambda _: None)
    lost = finish.drawn[-1]
    installed.studio.annotations = [one for one in installed.studio.annotations if one.task != lost]

    other = services(replace(installed, data=tmp_path / "other"))
    restore(tmp_path / "saved.tar", tmp_path / "other", lambda _: None)
    assert finishing.certified(other, PROJECT, collect(other, PROJECT, CONFIGURATION), CONFIGURATION) is None
    assert advanced(other).state == "void"
    assert ordering.refresh_if_needed(other, PROJECT, silent) is not None


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a backup be written without waiting for the disk each time."""
    monkeypatch.setattr("os.fsync", lambda _: None)
    monkeypatch.setattr("os.sync", lambda: None)
