"""Embeddings in the project's store: made in the first pass, never made again, and right whatever happens to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ml_backend.frames.frame import Frame
from ml_backend.frames.predictor import Predictor
from ml_backend.loop import score as scoring
from ml_backend.msml.network import Network
from ml_backend.msml.sketch import sketch
from ml_backend.services import Services
from ml_backend.store.vectors import VectorStore
from tests.installation import PROJECT, environment_of, make_version, settings_in, task_with_frame
from tests.studio_stand_in import one_thread

__all__ = ["one_thread"]

COUNT = 9
Vectors = NDArray[np.float16]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return Services(settings_in(tmp_path_factory.mktemp("network"))).predictor.network(3)


@pytest.fixture
def make(tmp_path: Path, network: Network) -> Callable[[], Services]:
    """Services as each new process would have them; the network is shared, building it is the slow part."""

    def make() -> Services:
        services = Services(settings_in(tmp_path))
        services.predictor._networks[3] = network
        return services

    return make


@pytest.fixture
def frames(tmp_path: Path) -> list[Frame]:
    tasks = [task_with_frame(tmp_path, number) for number in range(1, COUNT + 1)]
    return [Frame(task["id"], task["data"]["image"]) for task in tasks]


@pytest.fixture
def expected(tmp_path: Path, make: Callable[[], Services], frames: list[Frame]) -> Vectors:
    """The sketches of the frames' activations, made without any store."""
    predictor = Predictor(
        make().settings, make().fetcher, Services(settings_in(tmp_path / "other")).predictor._features
    )
    predictor._networks[3] = make().predictor.network(3)
    return np.concatenate([sketch(chunk.activations) for chunk in predictor.activations(frames, 3)])


def embedded(services: Services, frames: list[Frame]) -> Vectors:
    return scoring.embed(services, PROJECT, frames, 3, lambda *_: None).features


def forget_activations(services: Services) -> int:
    """Remove the large records of the cache, and leave what is known of addresses; returns how many they were."""
    records = [path for path in (services.settings.data_dir / "features").glob("*/*") if path.stat().st_size > 4096]
    for path in records:
        path.unlink()
    return len(records)


def records_of(services: Services) -> int:
    return len([path for path in (services.settings.data_dir / "features").glob("*/*") if path.stat().st_size > 4096])


def set_aside(services: Services) -> int:
    return len(list(services.embeddings(PROJECT).folder.glob(".aside-*")))


class TestFirstPass:
    def test_scoring_keeps_them_and_a_refresh_from_memory_alone_needs_no_activations(
        self, make: Callable[[], Services], frames: list[Frame], expected: Vectors, tmp_path: Path
    ) -> None:
        services = make()
        tasks = [task_with_frame(tmp_path, number) for number in range(1, 7)]
        manifest = make_version(services, tasks, seed=1)
        scores, found = scoring.score(services, PROJECT, frames, manifest, lambda *_: None)
        assert scores.tasks.tolist() == found.tasks.tolist() == [frame.task for frame in frames]
        np.testing.assert_array_equal(found.features, expected, strict=True)
        assert forget_activations(services) == COUNT
        for again in (services, make()):
            np.testing.assert_array_equal(embedded(again, frames[::-1]), expected[::-1], strict=True)
        assert records_of(services) == 0  # nothing was computed

    def test_a_version_is_asked_once_for_each_content(
        self, make: Callable[[], Services], frames: list[Frame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tasks = [task_with_frame(tmp_path, number) for number in range(1, 7)]
        manifest = make_version(make(), tasks, seed=1)
        whole = scoring.score(make(), PROJECT, frames, manifest, lambda *_: None)[0]
        asked: list[int] = []
        ask = Predictor.probabilities

        def counted(self: Predictor, activations: NDArray[np.float32], *rest: Any) -> NDArray[np.float32]:
            asked.append(len(activations))
            return ask(self, activations, *rest)

        monkeypatch.setattr(Predictor, "probabilities", counted)
        forget_activations(make())
        again = scoring.score(make(), PROJECT, frames[::-1], manifest, lambda *_: None)[0]
        assert asked == []
        assert records_of(make()) == 0
        for name in ("tasks", "probabilities", "labels", "distances", "plain", "margins"):
            np.testing.assert_array_equal(getattr(again, name), getattr(whole, name)[::-1], strict=True)
        (tmp_path / "files" / "3.png").write_bytes((tmp_path / "files" / "8.png").read_bytes())
        replaced = scoring.score(make(), PROJECT, frames, manifest, lambda *_: None)[0]
        np.testing.assert_allclose(replaced.probabilities[2], whole.probabilities[7], atol=1e-3)
        assert asked == [1]
        other = make_version(make(), tasks, seed=2)
        fresh = scoring.score(make(), PROJECT, frames, other, lambda *_: None)[0]
        assert sum(asked) == 1 + COUNT
        assert not np.allclose(fresh.probabilities, whole.probabilities)
        folders = (make().folder(PROJECT) / "probabilities").iterdir()
        assert [folder.name for folder in folders] == [other.version]

    def test_embedding_keeps_activations_too(
        self, make: Callable[[], Services], frames: list[Frame], expected: Vectors
    ) -> None:
        np.testing.assert_array_equal(embedded(make(), frames), expected, strict=True)
        assert records_of(make()) == COUNT
        services = make()
        np.testing.assert_array_equal(embedded(services, frames), expected, strict=True)
        assert services.predictor.looked_up == {"hit": COUNT, "miss": 0}

    def test_only_those_that_are_missing_are_made(
        self, make: Callable[[], Services], frames: list[Frame], expected: Vectors
    ) -> None:
        embedded(make(), frames[2:5])
        forget_activations(make())
        services = make()
        np.testing.assert_array_equal(embedded(services, frames), expected, strict=True)
        assert records_of(services) == COUNT - 3
        assert len(services.embeddings(PROJECT).vectors) == COUNT

    def test_a_worker_keeps_them_with_the_project(
        self,
        make: Callable[[], Services],
        frames: list[Frame],
        expected: Vectors,
        redis_url: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        for name, value in environment_of(settings_in(tmp_path, redis_url)).items():
            monkeypatch.setenv(name, value)
        scoring.fill_cache(PROJECT, [(frame.task, frame.url) for frame in frames], 3)
        assert forget_activations(make()) == COUNT
        np.testing.assert_array_equal(embedded(make(), frames), expected, strict=True)
        assert records_of(make()) == 0

    def test_two_tasks_with_one_picture_have_one_row(self, make: Callable[[], Services], frames: list[Frame]) -> None:
        same = [frames[0], Frame(100, frames[0].url), frames[1]]
        services = make()
        first, second, third = embedded(services, same)
        np.testing.assert_array_equal(first, second)
        assert (first != third).any()
        embedded(services, same)
        assert len(services.embeddings(PROJECT).vectors) == 2


class TestWhatChanges:
    def test_a_replaced_file_has_an_embedding_of_its_own_and_the_old_one_is_found_when_it_comes_back(
        self, make: Callable[[], Services], frames: list[Frame], expected: Vectors, tmp_path: Path
    ) -> None:
        services = make()
        embedded(services, frames)
        path, other = (tmp_path / "files" / f"{number}.png" for number in (3, 5))
        content = path.read_bytes()
        path.write_bytes(other.read_bytes())
        os.utime(path, (1000, 1000))
        wanted = expected.copy()
        wanted[2] = expected[4]
        np.testing.assert_array_equal(embedded(services, frames), wanted, strict=True)
        path.write_bytes(content)
        os.utime(path, (2000, 2000))
        np.testing.assert_array_equal(embedded(services, frames), expected, strict=True)
        assert len(services.embeddings(PROJECT).vectors) == COUNT

    def test_another_trunk_gets_its_own_and_the_first_finds_what_it_had(
        self, make: Callable[[], Services], frames: list[Frame], expected: Vectors, tmp_path: Path
    ) -> None:
        embedded(make(), frames)
        others = embedded(Services(settings_in(tmp_path, weights="random")), frames)
        assert (others != expected).any(axis=1).all()
        forget_activations(make())
        services = make()
        np.testing.assert_array_equal(embedded(services, frames), expected, strict=True)
        assert records_of(services) == 0
        assert len(services.embeddings(PROJECT).vectors) == 2 * COUNT

    @pytest.mark.parametrize("width", [256, 1024])
    def test_embeddings_of_another_width_are_set_aside(
        self,
        make: Callable[[], Services],
        frames: list[Frame],
        expected: Vectors,
        width: int,
    ) -> None:
        services = make()
        old = VectorStore(services.embeddings(PROJECT).folder, width, "<f2")
        old.add([bytes([number] * 32) for number in range(5)], np.ones((5, width), np.float16))
        assert len(old.vectors) == 5
        np.testing.assert_array_equal(embedded(services, frames), expected, strict=True)
        assert set_aside(services) == 2
        assert len(services.embeddings(PROJECT).vectors) == COUNT

    def test_a_damaged_store_is_made_again_from_the_activations(
        self, make: Callable[[], Services], frames: list[Frame], expected: Vectors
    ) -> None:
        services = make()
        embedded(services, frames)
        (services.embeddings(PROJECT).folder / "keys").write_bytes(b"garbage")
        for again in (services, make()):
            np.testing.assert_array_equal(embedded(again, frames), expected, strict=True)
        assert services.predictor.looked_up["miss"] == COUNT  # of the first pass alone

    def test_without_a_place_to_keep_them_all_is_as_before_and_said_once(
        self,
        make: Callable[[], Services],
        frames: list[Frame],
        expected: Vectors,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        services = make()
        folder = services.embeddings(PROJECT).folder
        folder.parent.mkdir(parents=True)
        folder.write_text("in the way")
        for _ in range(3):
            np.testing.assert_array_equal(embedded(services, frames), expected, strict=True)
        assert sum(str(folder) in record.getMessage() for record in caplog.records) == 1

    def test_a_frame_that_cannot_be_read_costs_only_itself(
        self, make: Callable[[], Services], frames: list[Frame], expected: Vectors, tmp_path: Path
    ) -> None:
        (tmp_path / "files" / "4.png").write_bytes(b"no picture")
        for services in (first := make(), first, make()):
            found = scoring.embed(services, PROJECT, frames, 3, lambda *_: None)
            assert found.tasks.tolist() == [1, 2, 3, 5, 6, 7, 8, 9]
            assert list(found.unreadable) == [4]
            np.testing.assert_array_equal(found.features, np.delete(expected, 3, axis=0), strict=True)


KILLED = """
import os, signal, sys
from ml_backend.frames import activations
from ml_backend.frames.frame import Frame
from ml_backend.loop import score as scoring
from ml_backend.services import Services
from ml_backend.settings import load
from ml_backend.store import vectors

activations.CHUNK = 2
when, project, urls = sys.argv[1], int(sys.argv[2]), sys.argv[3:]

def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def report(stage, done, total):
    if when == "between pieces":
        kill()

if when == "before the keys":
    flush, calls = vectors.flush, []
    vectors.flush = lambda path: (flush(path), calls.append(path), len(calls) > 1 and kill())
frames = [Frame(number + 1, url) for number, url in enumerate(urls)]
scoring.embed(Services(load()), project, frames, 3, report)
"""


@pytest.mark.parametrize("when", ["between pieces", "before the keys"])
def test_a_first_pass_that_is_killed_is_finished_by_the_next(
    make: Callable[[], Services], frames: list[Frame], expected: Vectors, when: str
) -> None:
    services = make()
    environment = {**os.environ, **environment_of(services.settings)}
    command = [sys.executable, "-c", KILLED, when, str(PROJECT), *(frame.url for frame in frames)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    store = services.embeddings(PROJECT)
    store.rows([])
    assert len(store.vectors) == 2
    np.testing.assert_array_equal(embedded(services, frames), expected, strict=True)
    assert len(store.vectors) == COUNT
    assert set_aside(services) == 0
