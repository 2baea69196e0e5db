"""Score with a real Redis and real RQ workers: the result is that of one process, whatever happens to a worker."""

from __future__ import annotations

import base64
import logging
import os
import shutil
import signal
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rq import Queue, SimpleWorker, Worker
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from ml_backend.frames.activations import CHUNK
from ml_backend.frames.frame import Frame
from ml_backend.frames.scores import Scores
from ml_backend.launch.processes import Processes, tsal
from ml_backend.loop import score as scoring
from ml_backend.services import Services
from ml_backend.settings import Settings
from ml_backend.store.versions import Manifest
from tests.events import events
from tests.installation import PROJECT, environment_of, make_version, settings_in, task_with_frame
from tests.studio_stand_in import one_thread

__all__ = ["one_thread"]

COUNT = 2 * CHUNK + 8
GONE, BROKEN = 6, CHUNK + 3  # in the first part and in the second of three
SECRETS = {
    "label_studio_token": "token-that-nobody-may-see",
    "webhook_secret": "secret-that-nobody-may-see",
    "basic_auth_user": "backend",
    "basic_auth_password": "password-that-nobody-may-see",
}


@dataclass(frozen=True)
class Pool:
    """Frames of three parts, two of them unreadable, and what one process says of them."""

    folder: Path
    services: Services
    manifest: Manifest
    frames: list[Frame]
    scores: Scores
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
    return Pool(folder, services, manifest, frames, *scoring.score(services, PROJECT, frames, manifest, silent))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "PART", CHUNK)


@pytest.fixture
def settings(pool: Pool, redis_url: str) -> Settings:
    return settings_in(pool.folder, redis_url, scoring_workers=2, compute_threads=1, **SECRETS)


@pytest.fixture
def shared(pool: Pool, settings: Settings) -> Services:
    """Scores with helpers, with everything in the cache."""
    services = Services(settings)
    services.predictor = pool.services.predictor
    return services


@pytest.fixture
def alone(pool: Pool, settings: Settings, tmp_path: Path) -> Services:
    """Scores with helpers, with an empty cache."""
    kept = shutil.ignore_patterns("embeddings")
    shutil.copytree(pool.services.settings.data_dir / "projects", tmp_path / "projects", ignore=kept)
    return Services(settings.model_copy(update={"data_dir": tmp_path}))


def silent(stage: str, done: int, total: int) -> None:
    return None


def assert_as_alone(found: tuple[Scores, scoring.Embeddings], pool: Pool) -> None:
    """Scores and embeddings are those that one process has found."""
    for one, other in zip(found, (pool.scores, pool.embeddings), strict=True):
        assert_same(one, other)


def assert_same(one: object, other: object) -> None:
    for part in fields(one):  # type: ignore[arg-type]
        first, second = getattr(one, part.name), getattr(other, part.name)
        if isinstance(first, dict):
            assert list(first.items()) == list(second.items())
        else:
            assert first.dtype == second.dtype
            np.testing.assert_array_equal(first, second, strict=True, err_msg=part.name)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300  # each job imports torch, on a busy machine too
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def running_workers(settings: Settings, count: int) -> Iterator[list[Worker]]:
    with Processes(lambda name, line: None) as processes:
        for number in range(count):
            processes.start(str(number), tsal("worker", "--scoring-only"), environment_of(settings))
        queue = Services(settings).queue(scoring.QUEUE)
        wait_until(lambda: Worker.count(queue=queue) == count)
        yield Worker.all(queue=queue, serializer=JSONSerializer)


def registered_workers(services: Services, count: int = 2) -> list[Worker]:
    """Workers that Redis knows and that never work, like killed ones."""
    queue = services.queue(scoring.QUEUE)
    workers = [Worker([queue], connection=services.redis, serializer=JSONSerializer) for _ in range(count)]
    for worker in workers:
        worker.register_birth()
    return workers


def jobs_left(services: Services) -> list[bytes | str]:
    return list(services.redis.keys("rq:job:*"))


def done_by(worker: Worker) -> int:
    worker.refresh()
    return int(worker.successful_job_count)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def running(queue: Queue) -> list[Job]:
    entries = queue.started_job_registry.get_job_ids(cleanup=False)
    return [job for job in map(queue.fetch_job, entries) if job is not None]


def let_signs_of_life_lapse(services: Services) -> None:
    """Put the registry into the state of a minute later."""
    registry = services.queue(scoring.QUEUE).started_job_registry
    entries: Any = services.redis.zrange(registry.key, 0, -1)
    for entry in entries:
        services.redis.zadd(registry.key, {entry: 1})


def texts(redis: Any) -> Iterator[bytes]:
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
    def test_two_workers_share_the_work(self, pool: Pool, alone: Services) -> None:
        reports: list[tuple[str, int, int]] = []

        def report(*told: object) -> None:
            reports.append(told)  # type: ignore[arg-type]
            if len(reports) == 1:
                wait_until(lambda: all(done_by(worker) for worker in workers))

        with running_workers(alone.settings, 2) as workers:
            scores, embeddings = scoring.score(alone, PROJECT, pool.frames, pool.manifest, report)
            looked_up = dict(alone.predictor.looked_up)
        assert_as_alone((scores, embeddings), pool)
        assert len(alone.embeddings(PROJECT).vectors) == len(embeddings.tasks)
        assert looked_up == {"miss": CHUNK + 1, "hit": CHUNK + 7}  # the first part, and a frame that cannot be read
        assert list(scores.unreadable) == [pool.frames[GONE].task, pool.frames[BROKEN].task]
        assert len(scores.tasks) == len(embeddings.tasks) == COUNT - 2
        assert len(np.unique(embeddings.features, axis=0)) == COUNT - 2
        assert reports == [("scoring", done, COUNT) for done in (CHUNK, 2 * CHUNK, COUNT)]
        held = b"\n".join(texts(alone.redis))
        assert b"fill_cache" in held
        for secret in (*SECRETS.values(), *environment_of(alone.settings).values()):
            if "nobody" in secret:
                assert secret.encode() not in held

    @pytest.mark.parametrize("whole", [True, False], ids=["the worker and its job", "its job only"])
    def test_a_worker_killed_at_work_costs_only_time(self, pool: Pool, alone: Services, whole: bool) -> None:
        queue = alone.queue(scoring.QUEUE)
        killed: list[int] = []

        def kill() -> None:
            wait_until(lambda: any(job.get_status() == JobStatus.STARTED for job in running(queue)))
            killed.extend([*([worker.pid] if whole else []), *children_of(worker.pid)])
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
            if whole:
                let_signs_of_life_lapse(alone)

        with running_workers(alone.settings, 1) as (worker,), ThreadPoolExecutor(1) as thread:
            done = thread.submit(kill)
            assert_as_alone(scoring.score(alone, PROJECT, pool.frames, pool.manifest, silent), pool)
            done.result()
        assert len(killed) > whole
        assert queue.started_job_registry.count == queue.count == 0

    def test_a_worker_killed_before_it_began_costs_only_time(self, pool: Pool, alone: Services) -> None:
        registered_workers(alone)
        queue = alone.queue(scoring.QUEUE)

        def report(*_: object) -> None:
            for job in queue.jobs:  # as RQ leaves it, a minute later
                alone.redis.lmove(queue.key, queue.intermediate_queue_key)
                alone.redis.set(queue.intermediate_queue.get_first_seen_key(job.id), 1)

        assert_as_alone(scoring.score(alone, PROJECT, pool.frames, pool.manifest, report), pool)
        assert queue.count == 0

    def test_without_workers_it_is_done_here(self, pool: Pool, shared: Services) -> None:
        assert_as_alone(scoring.score(shared, PROJECT, pool.frames, pool.manifest, silent), pool)
        assert shared.redis.keys() == []

    def test_a_small_pool_is_not_divided(self, pool: Pool, shared: Services) -> None:
        registered_workers(shared)
        few, _ = scoring.score(shared, PROJECT, pool.frames[:CHUNK], pool.manifest, lambda *_: self.expect(shared, 0))
        np.testing.assert_array_equal(few.tasks, pool.scores.tasks[: CHUNK - 1])

    def test_only_pieces_that_lack_a_frame_are_shared_out(self, pool: Pool, shared: Services) -> None:
        registered_workers(shared)
        rows: list[list[int]] = []

        def report(*_: object) -> None:
            rows.extend([task for task, _ in job.args[1]] for job in shared.queue(scoring.QUEUE).jobs)

        scoring.score(shared, PROJECT, pool.frames, pool.manifest, report)
        assert rows == [[frame.task for frame in pool.frames[CHUNK : 2 * CHUNK]]]

    def test_frames_whose_embeddings_are_kept_are_not_shared_out_to_be_embedded(
        self, pool: Pool, settings: Settings, tmp_path: Path
    ) -> None:
        shutil.copytree(pool.services.settings.data_dir, tmp_path, dirs_exist_ok=True)
        for record in (tmp_path / "features").glob("*/*"):
            if record.stat().st_size > 4096:  # activations; what is known of an address is smaller
                record.unlink()
        services = Services(settings.model_copy(update={"data_dir": tmp_path}))
        registered_workers(services)
        jobs: list[int] = []

        def embedded(frames: list[Frame]) -> NDArray[np.float16]:
            found = scoring.embed(
                services, PROJECT, frames, 3, lambda *_: jobs.append(services.queue(scoring.QUEUE).count)
            )
            return found.features

        readable = [frame for place, frame in enumerate(pool.frames) if place not in (GONE, BROKEN)]
        np.testing.assert_array_equal(embedded(readable), pool.embeddings.features)
        assert jobs == [0, 0, 0]
        embedded(pool.frames)
        assert jobs[3:] == [1, 0, 0]  # the second part lacks a frame

    def test_what_no_worker_begins_is_taken_back(
        self, pool: Pool, alone: Services, caplog: pytest.LogCaptureFixture
    ) -> None:
        registered_workers(alone)
        waiting: list[int] = []

        def report(*_: object) -> None:
            waiting.append(alone.queue(scoring.QUEUE).count)

        with caplog.at_level(logging.WARNING):
            assert_as_alone(scoring.score(alone, PROJECT, pool.frames, pool.manifest, report), pool)
        assert waiting == [2, 1, 0]
        assert not events(caplog, "part scored here")

    def test_a_part_whose_job_fails_is_done_here(
        self, pool: Pool, alone: Services, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        for name, value in environment_of(alone.settings).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("TSAL_BACKBONE", "none-that-there-is")
        registered_workers(alone)
        queue = alone.queue(scoring.QUEUE)
        failing = SimpleWorker([queue], connection=alone.redis, serializer=JSONSerializer)

        def report(*_: object) -> None:
            failing.work(burst=True, logging_level="CRITICAL")

        assert_as_alone(scoring.score(alone, PROJECT, pool.frames, pool.manifest, report), pool)
        assert len(events(caplog, "part scored here")) == queue.failed_job_registry.count == 2
        failed = [queue.fetch_job(job) for job in queue.failed_job_registry.get_job_ids()]
        assert [job.retries_left for job in failed if job] == [0, 0]  # each was tried twice
        held = b"\n".join(texts(alone.redis))
        assert b"none-that-there-is" in held  # the traceback is there, and was unpacked
        assert b"nobody" not in held

    def test_a_part_that_takes_longer_than_a_job_may_is_done_here(
        self, pool: Pool, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        shared = Services(settings.model_copy(update={"job_timeout": 1}))
        shared.predictor = pool.services.predictor
        registered_workers(shared)

        def report(*_: object) -> None:
            for job in shared.queue(scoring.QUEUE).jobs:
                job.set_status(JobStatus.STARTED)
                shared.queue(scoring.QUEUE).remove(job)

        assert_as_alone(scoring.score(shared, PROJECT, pool.frames, pool.manifest, report), pool)
        assert [one["status"] for one in events(caplog, "part scored here")] == ["started"]

    def test_jobs_that_redis_has_forgotten_are_done_here(self, pool: Pool, alone: Services) -> None:
        registered_workers(alone)

        def forget(*_: object) -> None:
            alone.redis.flushall()

        found = scoring.score(alone, PROJECT, pool.frames, pool.manifest, forget)
        assert_as_alone(found, pool)

    def test_no_job_stays_behind_when_scoring_fails(self, pool: Pool, alone: Services) -> None:
        def fail(*_: object) -> None:
            self.expect(alone, 2)
            raise ZeroDivisionError

        registered_workers(alone)
        with pytest.raises(ZeroDivisionError):
            scoring.score(alone, PROJECT, pool.frames, pool.manifest, fail)
        self.expect(alone, 0)

    def test_all_unreadable_are_told(self, pool: Pool, shared: Services) -> None:
        registered_workers(shared)
        lost = [Frame(frame.task, "/data/local-files/?d=nowhere.png") for frame in pool.frames]
        scores, _ = scoring.score(shared, PROJECT, lost, pool.manifest, silent)
        embeddings = scoring.embed(shared, PROJECT, lost, 3, silent)
        assert list(scores.unreadable) == list(embeddings.unreadable) == [frame.task for frame in lost]
        assert len(scores.tasks) == len(embeddings.tasks) == 0
        assert embeddings.features.shape == (0, pool.embeddings.features.shape[1])

    @staticmethod
    def expect(services: Services, jobs: int) -> None:
        assert services.queue(scoring.QUEUE).count == jobs
        wait_until(lambda: len(jobs_left(services)) == jobs)
