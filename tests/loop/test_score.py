"""Scoring in parts, with a real Redis and real RQ workers: the same as in one piece, whatever becomes of a worker."""

from __future__ import annotations

import base64
import json
import logging
import shutil
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from redis import Redis
from rq import SimpleWorker, Worker
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from ml_backend.frames.activations import CHUNK
from ml_backend.frames.frame import Frame
from ml_backend.launch.processes import Processes, tsal
from ml_backend.loop import score as scoring
from ml_backend.services import Services
from ml_backend.settings import Settings
from ml_backend.store.versions import Manifest
from tests.installation import PROJECT, environment_of, make_version, settings_in, task_with_frame
from tests.studio_stand_in import one_thread

__all__ = ["one_thread"]

COUNT = CHUNK + 8
GONE, BROKEN = 6, CHUNK + 3
SECRETS = {
    "label_studio_token": "token-that-nobody-may-see",
    "webhook_secret": "secret-that-nobody-may-see",
    "basic_auth_user": "backend",
    "basic_auth_password": "password-that-nobody-may-see",
}
QUEUED, STARTED = JobStatus.QUEUED, JobStatus.STARTED


@dataclass(frozen=True)
class Pool:
    """Frames of two parts, one of each unreadable, and what one process says of them."""

    folder: Path
    services: Services
    manifest: Manifest
    frames: list[Frame]
    scores: scoring.Scores
    embeddings: scoring.Embeddings


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    folder = tmp_path_factory.mktemp("scoring")
    services = Services(settings_in(folder, compute_threads=1))
    tasks = [task_with_frame(folder, number) for number in range(COUNT, 0, -1)]
    manifest = make_version(services, tasks[-6:], seed=1)
    frames = [Frame(task["id"], task["data"]["image"]) for task in tasks]
    (folder / "files" / f"{frames[GONE].task}.png").unlink()
    (folder / "files" / f"{frames[BROKEN].task}.png").write_bytes(b"no picture")
    shutil.rmtree(services.settings.data_dir / "features")  # the first pass shall be one of whole pieces
    scores = scoring.score(services, PROJECT, frames, manifest, silent)
    return Pool(folder, services, manifest, frames, scores, scoring.embed(services, PROJECT, frames, 3, silent))


@pytest.fixture
def settings(pool: Pool, redis_url: str) -> Settings:
    return settings_in(pool.folder, redis_url, scoring_workers=2, compute_threads=1, **SECRETS)


@pytest.fixture
def shared(pool: Pool, settings: Settings) -> Services:
    """Scores in parts, with everything in the cache."""
    services = Services(settings)
    services.predictor = pool.services.predictor
    return services


def silent(stage: str, done: int, total: int) -> None:
    return None


def assert_same(one: object, other: object) -> None:
    for part in fields(one):  # type: ignore[arg-type]
        first, second = getattr(one, part.name), getattr(other, part.name)
        if isinstance(first, dict):
            assert list(first.items()) == list(second.items())
        else:
            assert first.dtype == second.dtype
            np.testing.assert_array_equal(first, second, strict=True, err_msg=part.name)


def left_over(services: Services) -> list[Path]:
    return list((services.settings.data_dir / "scoring").iterdir())


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def running_workers(settings: Settings, count: int) -> Iterator[None]:
    with Processes(lambda name, line: None) as processes:
        for number in range(count):
            processes.start(str(number), tsal("worker", "--scoring-only"), environment_of(settings))
        queue = Services(settings).queue(scoring.QUEUE)
        wait_until(lambda: Worker.count(queue=queue) == count)
        yield


def registered_workers(services: Services, count: int = 2) -> list[Worker]:
    """Workers that Redis knows and that never work, like killed ones."""
    queue = services.queue(scoring.QUEUE)
    workers = [Worker([queue], connection=services.redis, serializer=JSONSerializer) for _ in range(count)]
    for worker in workers:
        worker.register_birth()
    return workers


def texts(redis: Redis) -> Iterator[bytes]:
    """Everything that Redis holds, unpacked where RQ packs it."""
    for key in redis.scan_iter():
        yield key
        match redis.type(key):
            case b"string":
                values = [redis.get(key)]
            case b"hash":
                values = [part for pair in redis.hgetall(key).items() for part in pair]
            case b"list":
                values = redis.lrange(key, 0, -1)
            case b"set":
                values = list(redis.smembers(key))
            case b"zset":
                values = redis.zrange(key, 0, -1)
            case b"stream":
                values = [part for _, entry in redis.xrange(key) for pair in entry.items() for part in pair]
        for value in values:
            yield value
            with suppress(zlib.error):
                yield zlib.decompress(value)
            with suppress(zlib.error, ValueError):
                yield zlib.decompress(base64.b64decode(value, validate=True))


class TestWorkers:
    def test_two_workers_give_the_same_scores_as_one_process(
        self, pool: Pool, settings: Settings, tmp_path: Path
    ) -> None:
        elsewhere = settings.model_copy(update={"data_dir": tmp_path})
        shutil.copytree(pool.services.settings.data_dir / "projects", tmp_path / "projects")
        services = Services(elsewhere)
        reports: list[tuple[str, int, int]] = []
        with running_workers(elsewhere, 2):
            scores = scoring.score(services, PROJECT, pool.frames, pool.manifest, lambda *told: reports.append(told))
            embeddings = scoring.embed(services, PROJECT, pool.frames, 3, silent)
        assert_same(scores, pool.scores)
        assert_same(embeddings, pool.embeddings)
        assert list(scores.unreadable) == [pool.frames[GONE].task, pool.frames[BROKEN].task]
        assert len(scores.tasks) == len(embeddings.tasks) == COUNT - 2
        assert len(np.unique(embeddings.features, axis=0)) == COUNT - 2
        assert reports == [("scoring", CHUNK, COUNT), ("scoring", COUNT, COUNT)]
        assert "predictor" not in vars(services)  # nothing was done here
        assert left_over(services) == []
        held = b"\n".join(texts(services.redis))
        assert b"work_on_part" in held
        for secret in (*SECRETS.values(), *environment_of(elsewhere).values()):
            if "nobody" in secret:
                assert secret.encode() not in held

    def test_without_workers_it_is_done_here(self, pool: Pool, shared: Services) -> None:
        assert_same(scoring.score(shared, PROJECT, pool.frames, pool.manifest, silent), pool.scores)
        assert shared.redis.keys() == []

    def test_a_small_pool_is_not_divided(self, pool: Pool, shared: Services) -> None:
        registered_workers(shared)
        few = scoring.score(shared, PROJECT, pool.frames[:CHUNK], pool.manifest, silent)
        np.testing.assert_array_equal(few.tasks, pool.scores.tasks[: CHUNK - 1])
        assert shared.redis.keys("rq:job:*") == []

    def test_workers_that_were_killed_take_no_part(
        self, pool: Pool, shared: Services, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(scoring, "PATIENCE_SECONDS", {QUEUED: 0.3, STARTED: 40})
        registered_workers(shared)
        with caplog.at_level(logging.WARNING):
            assert_same(scoring.score(shared, PROJECT, pool.frames, pool.manifest, silent), pool.scores)
            assert_same(scoring.embed(shared, PROJECT, pool.frames, 3, silent), pool.embeddings)
        assert len([message for message in caplog.messages if message.startswith("part scored here")]) == 4
        assert shared.queue(scoring.QUEUE).count == 0
        assert left_over(shared) == []

    def test_workers_that_end_meanwhile_are_not_waited_for(
        self, pool: Pool, shared: Services, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(scoring, "PATIENCE_SECONDS", {QUEUED: 40, STARTED: 40})
        workers = registered_workers(shared)
        with ThreadPoolExecutor(1) as thread:
            scores = thread.submit(scoring.score, shared, PROJECT, pool.frames, pool.manifest, silent)
            wait_until(lambda: shared.queue(scoring.QUEUE).count == 2)
            for worker in workers:
                worker.register_death()
            assert_same(scores.result(25), pool.scores)

    def test_a_part_whose_worker_was_killed_at_work_is_done_here(
        self, pool: Pool, shared: Services, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(scoring, "PATIENCE_SECONDS", {QUEUED: 40, STARTED: 0.3})
        registered_workers(shared)
        queue = shared.queue(scoring.QUEUE)
        with ThreadPoolExecutor(1) as thread:
            scores = thread.submit(scoring.score, shared, PROJECT, pool.frames, pool.manifest, silent)
            wait_until(lambda: queue.count == 2)
            for job in queue.jobs:
                job.set_status(STARTED)
                queue.remove(job)
            assert_same(scores.result(25), pool.scores)

    def test_a_part_whose_job_fails_is_done_here(
        self, pool: Pool, shared: Services, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(scoring, "PATIENCE_SECONDS", {QUEUED: 40, STARTED: 40})
        for name, value in environment_of(shared.settings).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("TSAL_BACKBONE", "none-that-there-is")
        registered_workers(shared)
        queue = shared.queue(scoring.QUEUE)
        with ThreadPoolExecutor(1) as thread:
            scores = thread.submit(scoring.score, shared, PROJECT, pool.frames, pool.manifest, silent)
            wait_until(lambda: queue.count == 2)
            failing = SimpleWorker([queue], connection=shared.redis, serializer=JSONSerializer)
            failing.work(burst=True, logging_level="CRITICAL")
            assert_same(scores.result(30), pool.scores)
        assert queue.failed_job_registry.count == 2
        held = b"\n".join(texts(shared.redis))
        assert b"none-that-there-is" in held  # the traceback is there, and was unpacked
        assert b"nobody" not in held

    def test_all_unreadable_are_told_part_by_part(
        self, pool: Pool, shared: Services, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(scoring, "PATIENCE_SECONDS", {QUEUED: 0.1, STARTED: 40})
        registered_workers(shared)
        lost = [Frame(frame.task, "/data/local-files/?d=nowhere.png") for frame in pool.frames]
        scores = scoring.score(shared, PROJECT, lost, pool.manifest, silent)
        embeddings = scoring.embed(shared, PROJECT, lost, 3, silent)
        assert list(scores.unreadable) == list(embeddings.unreadable) == [frame.task for frame in lost]
        assert len(scores.tasks) == len(embeddings.tasks) == 0
        assert embeddings.features.shape == (0, pool.embeddings.features.shape[1])


class TestFolder:
    def test_it_goes_when_scoring_fails(self, pool: Pool, shared: Services, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(stage: str, done: int, total: int) -> None:
            assert left_over(shared) != []
            raise ZeroDivisionError

        monkeypatch.setattr(scoring, "PATIENCE_SECONDS", {QUEUED: 0.1, STARTED: 40})
        registered_workers(shared)
        with pytest.raises(ZeroDivisionError):
            scoring.score(shared, PROJECT, pool.frames, pool.manifest, fail)
        assert left_over(shared) == []

    def test_what_a_killed_process_left_goes_with_the_next(
        self, pool: Pool, shared: Services, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(scoring, "PATIENCE_SECONDS", {QUEUED: 0.1, STARTED: 40})
        registered_workers(shared)
        parent = shared.settings.data_dir / "scoring"
        for name in (f"project-{PROJECT}-left", f"project-{PROJECT}0-other"):
            (parent / name).mkdir(parents=True)
        scoring.score(shared, PROJECT, pool.frames, pool.manifest, silent)
        assert [path.name for path in left_over(shared)] == [f"project-{PROJECT}0-other"]
        (parent / f"project-{PROJECT}0-other").rmdir()

    def test_a_worker_that_comes_too_late_does_nothing(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in environment_of(settings).items():
            monkeypatch.setenv(name, value)
        scoring.work_on_part(PROJECT, None, 3, "scoring/gone", 0)
        assert not (settings.data_dir / "scoring" / "gone").exists()

    def test_a_part_may_be_written_by_several_at_once(self, pool: Pool, tmp_path: Path) -> None:
        (tmp_path / "0.frames").write_text(json.dumps({"frames": [[pool.frames[0].task, pool.frames[0].url]]}))
        args = (pool.services, PROJECT, pool.manifest.version, 3, tmp_path, 0)
        with ThreadPoolExecutor(4) as thread:
            for done in [thread.submit(scoring._write_part, *args) for _ in range(12)]:
                done.result()
        part = scoring._read_part(tmp_path, 0)
        np.testing.assert_allclose(part["probabilities"], pool.scores.probabilities[:1], atol=1e-5)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["0.frames", "0.npz"]


class TestWait:
    @pytest.fixture
    def job(self, shared: Services) -> Job:
        registered_workers(shared)
        return shared.queue(scoring.QUEUE).enqueue_call(scoring.work_on_part, args=(0, None, 3, "nowhere", 0))

    def test_a_result_is_enough(self, shared: Services, job: Job, tmp_path: Path) -> None:
        (tmp_path / "0.npz").touch()
        scoring._wait(shared, job, tmp_path / "0.npz")
        assert job.get_status() == QUEUED

    def test_a_job_that_redis_has_forgotten_is_over(self, shared: Services, job: Job, tmp_path: Path) -> None:
        shared.redis.flushall()
        scoring._wait(shared, job, tmp_path / "0.npz")

    def test_a_worker_that_tells_of_itself_is_waited_for(
        self, shared: Services, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(scoring, "PATIENCE_SECONDS", {QUEUED: 40, STARTED: 0.7})
        monkeypatch.setattr(scoring, "LOOK_SECONDS", 0.02)
        job.set_status(STARTED)

        def tell() -> None:
            for _ in range(15):
                job.heartbeat(datetime.now(timezone.utc), 60)
                time.sleep(0.1)
            (tmp_path / "0.npz").touch()

        teller = threading.Thread(target=tell)
        teller.start()
        scoring._wait(shared, Job.fetch(job.id, shared.redis, JSONSerializer), tmp_path / "0.npz")
        assert (tmp_path / "0.npz").exists()
        teller.join()
