"""Webhooks, the batch boundary and the fine-tune job, with a real Redis and real RQ jobs."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from rq import SimpleWorker
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer
from rq.timeouts import JobTimeoutException

from ml_backend.errors import (
    BackendError,
    FrameUnreadable,
    InvalidRequest,
    RedisUnavailable,
    SettingsError,
    StudioRefused,
    StudioUnavailable,
    VersionSuperseded,
)
from ml_backend.loop import confirm, jobs
from ml_backend.loop import train as training
from ml_backend.services import Services
from ml_backend.settings import Settings
from ml_backend.store.activations import Activations
from ml_backend.store.counters import Counters
from ml_backend.store.parked import Parked
from ml_backend.store.versions import Manifest, TrainedOn
from ml_backend.studio.client import ConfirmedAnnotation, Counts, ProjectInfo
from ml_backend.studio.payloads import choices_result
from ml_backend.tsal.judgement import Figure
from ml_backend.tsal.stopping import Progress
from tests.events import events
from tests.installation import (
    COMBINATIONS,
    CONFIGURATION,
    NO_ANSWER,
    PROJECT,
    XML,
    environment_of,
    manifest_of,
    settings_in,
    task_with_frame,
    write_no_weights,
)

NOTHING_BEFORE = f"finetune-{PROJECT}-after-nothing"


@pytest.fixture
def settings(tmp_path: Path, redis_url: str) -> Settings:
    return settings_in(tmp_path, redis_url)


@pytest.fixture
def services(settings: Settings) -> Services:
    return Services(settings)


def annotation(number: int, task: int | None = None, *, skipped: bool = False) -> dict[str, Any]:
    """An annotation as a webhook has it, with what is not read."""
    about = {"was_cancelled": skipped, "updated_by": 1, "updated_at": "now"}
    return {"id": number, "task": task or number, "result": [], **about}


def created(services: Services, *numbers: int) -> list[str | None]:
    """Tell of annotations one by one; returns the job that each enqueued."""
    return [
        jobs.record(services, PROJECT, "ANNOTATION_CREATED", {"annotation": annotation(number)}) for number in numbers
    ]


def park(services: Services, *tried: int) -> None:
    """Park the fine-tune that was tried with these annotations."""
    store = services.versions(PROJECT)
    newest = store.newest()
    services.parked(PROJECT).put(
        Parked(
            parent=newest.version if newest else None,
            active=store.active(),
            reason="a test",
            at="now",
            tried={number: f"t{number}" for number in tried},
            settings="",
        )
    )


def be_quiet(services: Services) -> None:
    """Let the last news be older than the polls for which an empty pool is waited on."""
    services.redis.set(f"tsal:{PROJECT}:changed", time.time() - confirm.QUIET_POLLS * services.settings.poll_seconds)


def waiting(services: Services) -> list[str]:
    return list(jobs.queue(services).job_ids)


def version(services: Services, seen: int, **changes: Any) -> Manifest:
    store = services.versions(PROJECT)
    created = store.create(manifest_of(seen, **changes), write_no_weights)
    if not created.held_back:
        store.activate(created.version, by="a test")
    return created


class TestWebhooks:
    def test_a_batch_enqueues_one_job_at_its_last_annotation(self, services: Services) -> None:
        assert created(services, 1, 2, 3) == [None, None, None]
        assert created(services, 4, 5, 6) == [NOTHING_BEFORE, None, None]
        assert waiting(services) == [NOTHING_BEFORE]

    def test_a_bulk_that_jumps_over_the_boundary_enqueues_one_job(self, services: Services) -> None:
        created(services, 1, 2, 3)
        bulk = {"annotation": [annotation(number) for number in range(4, 40)], "task": []}
        assert jobs.record(services, PROJECT, "ANNOTATIONS_CREATED", bulk) == NOTHING_BEFORE
        assert jobs.record(services, PROJECT, "ANNOTATIONS_CREATED", bulk) is None
        assert waiting(services) == [NOTHING_BEFORE]
        assert services.pending(PROJECT).count() == 39

    def test_many_at_once_enqueue_one_job(self, services: Services) -> None:
        with ThreadPoolExecutor(16) as pool:
            told = list(pool.map(lambda number: created(services, number)[0], range(1, 81)))
        assert [job for job in told if job] == [NOTHING_BEFORE]
        assert waiting(services) == [NOTHING_BEFORE]
        assert services.pending(PROJECT).count() == 80

    def test_doubled_and_disordered_webhooks_count_once(self, services: Services) -> None:
        created(services, 3, 1, 3, 1, 2, 2)
        jobs.record(services, PROJECT, "ANNOTATION_UPDATED", {"annotation": annotation(2)})
        assert services.pending(PROJECT).tasks() == {1, 2, 3}
        assert waiting(services) == []

    def test_several_annotations_of_a_frame_count_once(self, services: Services) -> None:
        for number in range(1, 9):
            jobs.record(services, PROJECT, "ANNOTATION_CREATED", {"annotation": annotation(number, task=1)})
        assert waiting(services) == []

    @pytest.mark.parametrize("action", confirm.ADDED)
    def test_skipped_ones_do_not_count(self, services: Services, action: str) -> None:
        for number in range(1, 9):
            jobs.record(services, PROJECT, action, {"annotation": annotation(number, skipped=True)})
        assert services.pending(PROJECT).count() == 0
        assert waiting(services) == []

    def test_what_is_not_assessable_does_not_count(self, services: Services) -> None:
        created(services, 1, 2)
        jobs.record(services, PROJECT, "ANNOTATION_UPDATED", {"annotation": annotation(2) | {"result": [NO_ANSWER]}})
        jobs.record(services, PROJECT, "ANNOTATION_CREATED", {"annotation": annotation(3) | {"result": [NO_ANSWER]}})
        assert services.pending(PROJECT).tasks() == {1}

    def test_an_annotation_counts_until_it_becomes_a_skip_and_again_after(self, services: Services) -> None:
        created(services, 1, 2, 3)
        jobs.record(services, PROJECT, "ANNOTATION_UPDATED", {"annotation": annotation(3, skipped=True)})
        assert created(services, 4) == [None]
        update = {"annotation": annotation(3)}
        assert jobs.record(services, PROJECT, "ANNOTATION_UPDATED", update) == NOTHING_BEFORE

    def test_annotations_accepted_unseen_do_not_count_until_somebody_opens_them(self, services: Services) -> None:
        copied = [annotation(number) | {"parent_prediction": number, "updated_by": None} for number in range(1, 9)]
        assert jobs.record(services, PROJECT, "ANNOTATIONS_CREATED", {"annotation": copied}) is None
        assert services.pending(PROJECT).count() == 0
        opened = {"annotation": copied[2] | {"lead_time": 1.5, "updated_by": 1}}
        jobs.record(services, PROJECT, "ANNOTATION_UPDATED", opened)
        assert services.pending(PROJECT).tasks() == {3}

    def test_annotations_accepted_unseen_count_if_a_team_trains_on_them(self, tmp_path: Path, redis_url: str) -> None:
        services = Services(settings_in(tmp_path, redis_url, accepted="train"))
        copied = [annotation(number) | {"parent_prediction": number, "updated_by": None} for number in range(1, 5)]
        assert jobs.record(services, PROJECT, "ANNOTATIONS_CREATED", {"annotation": copied}) == NOTHING_BEFORE

    def test_deleted_annotations_no_longer_count(self, services: Services) -> None:
        created(services, 1, 2, 3)
        jobs.record(services, PROJECT, "ANNOTATIONS_DELETED", {"annotations": [{"id": 1}, {"id": 2}, {"id": 77}]})
        assert created(services, 4, 5) == [None, None]
        assert created(services, 6) == [NOTHING_BEFORE]

    def test_a_request_to_train_enqueues_at_once_and_one_job_only(self, services: Services) -> None:
        park(services, *range(1, 9))
        assert jobs.record(services, PROJECT, "START_TRAINING", {}) == NOTHING_BEFORE
        assert jobs.record(services, PROJECT, "START_TRAINING", {}) is None
        assert waiting(services) == [NOTHING_BEFORE]
        assert confirm.parked_now(services, PROJECT) is None

    @pytest.mark.parametrize("action", confirm.NEWS)
    def test_changed_tasks_are_announced_to_the_sidecar(self, services: Services, action: str) -> None:
        assert jobs.record(services, PROJECT, action, {"task": [{"id": 1}]}) is None
        assert services.pending(PROJECT).news() == 1

    @pytest.mark.parametrize("action", ["PROJECT_UPDATED", "LABEL_LINK_CREATED", "", "annotation_created"])
    def test_events_of_other_kinds_change_nothing(self, services: Services, action: str) -> None:
        assert jobs.record(services, PROJECT, action, {"annotation": annotation(1)}) is None
        assert services.redis.keys() == []

    @pytest.mark.parametrize("action", [*confirm.ADDED, confirm.DELETED])
    def test_a_webhook_without_payload_is_accepted(self, services: Services, action: str) -> None:
        assert jobs.record(services, PROJECT, action, {}) is None
        assert services.pending(PROJECT).count() == 0

    @pytest.mark.parametrize(
        ("action", "payload", "named"),
        [
            ("ANNOTATION_CREATED", {"annotation": {"id": "1", "task": 1}}, "annotation.0.id"),
            ("ANNOTATION_CREATED", {"annotation": {"id": True, "task": 1}}, "annotation.0.id"),
            ("ANNOTATION_CREATED", {"annotation": {"id": 0, "task": 1}}, "annotation.0.id"),
            ("ANNOTATION_CREATED", {"annotation": {"id": 1}}, "annotation.0.task"),
            ("ANNOTATION_CREATED", {"annotation": {"id": 1, "task": {"id": 1}}}, "annotation.0.task"),
            ("ANNOTATION_CREATED", {"annotation": None}, "annotation.0"),
            ("ANNOTATION_CREATED", {"annotation": "all"}, "annotation.0"),
            ("ANNOTATION_UPDATED", {"annotation": annotation(1) | {"was_cancelled": "no"}}, "was_cancelled"),
            ("ANNOTATIONS_CREATED", {"annotation": [annotation(1), {"task": 2}]}, "annotation.1.id"),
            ("ANNOTATIONS_DELETED", {"annotations": [{"id": 1}, 2]}, "annotations.1"),
            ("ANNOTATIONS_DELETED", {"annotations": [{"id": 1}, {"id": [2]}]}, "annotations.1.id"),
        ],
    )
    def test_a_malformed_webhook_is_refused_by_its_field_and_not_recorded(
        self, services: Services, action: str, payload: dict[str, Any], named: str
    ) -> None:
        with pytest.raises(InvalidRequest, match=named):
            jobs.record(services, PROJECT, action, payload)
        assert services.redis.keys() == []

    def test_nothing_secret_goes_to_redis(self, services: Services) -> None:
        for number in range(1, 5):
            payload = {"annotation": annotation(number), "project": {"id": PROJECT, "token": "invitation"}}
            jobs.record(services, PROJECT, "ANNOTATION_CREATED", payload)
        kept = b"".join(services.redis.dump(key) or b"" for key in services.redis.scan_iter())
        assert b"finetune" in kept
        assert b"invitation" not in kept
        assert services.settings.token().encode() not in kept

    def test_without_redis_it_raises(self, tmp_path: Path) -> None:
        with pytest.raises(RedisUnavailable):
            created(Services(settings_in(tmp_path)), 1)


class TestBoundary:
    def test_the_next_job_waits_for_the_next_version(self, services: Services) -> None:
        created(services, *range(1, 10))
        first = version(services, seen=4)
        services.pending(PROJECT).replace({}, services.pending(PROJECT).known())
        assert created(services, 11, 12, 13) == [None, None, None]
        after = f"finetune-{PROJECT}-after-{first.version}"
        assert created(services, 14, 15) == [after, None]
        assert waiting(services) == [NOTHING_BEFORE, after]

    @pytest.mark.parametrize("over", [JobStatus.FINISHED, JobStatus.FAILED, JobStatus.CANCELED, JobStatus.STOPPED])
    def test_a_finished_earlier_try_does_not_block(self, services: Services, over: JobStatus) -> None:
        created(services, 1, 2, 3, 4)
        queue = jobs.queue(services)
        job = queue.fetch_job(NOTHING_BEFORE)
        queue.empty() if over is JobStatus.CANCELED else queue.remove(job)
        job.save()
        job.set_status(over)
        assert created(services, 5, 6) == [NOTHING_BEFORE, None]
        assert waiting(services) == [NOTHING_BEFORE]
        assert queue.fetch_job(NOTHING_BEFORE).get_status() is JobStatus.QUEUED

    @pytest.mark.parametrize("going", [JobStatus.QUEUED, JobStatus.STARTED, JobStatus.SCHEDULED, JobStatus.DEFERRED])
    def test_a_running_try_blocks(self, services: Services, going: JobStatus) -> None:
        created(services, 1, 2, 3, 4)
        jobs.queue(services).fetch_job(NOTHING_BEFORE).set_status(going)
        assert created(services, 5, 6) == [None, None]
        assert waiting(services) == [NOTHING_BEFORE]

    def test_a_waiting_retry_blocks(self, services: Services) -> None:
        created(services, 1, 2, 3, 4)
        self.plan(services, datetime.now(timezone.utc) + timedelta(seconds=299))
        assert created(services, 5, 6) == [None, None]
        assert waiting(services) == []

    def test_a_request_reaches_a_waiting_retry(self, services: Services) -> None:
        created(services, 1, 2, 3, 4)
        job = self.plan(services, datetime.now(timezone.utc) + timedelta(seconds=299))
        assert job.get_meta()["trigger"] == "webhook"
        assert jobs.record(services, PROJECT, "START_TRAINING", {}) is None
        assert job.get_meta()["trigger"] == "request"

    def test_a_retry_planned_before_the_clock_was_set_back_does_not_block(self, services: Services) -> None:
        created(services, 1, 2, 3, 4)
        self.plan(services, datetime.now(timezone.utc) + timedelta(hours=2))
        assert created(services, 5, 6) == [NOTHING_BEFORE, None]
        assert waiting(services) == [NOTHING_BEFORE]
        assert len(jobs.queue(services).scheduled_job_registry) == 0

    @pytest.mark.parametrize(("ahead", "enqueued"), [(timedelta(0), None), (timedelta(hours=2), NOTHING_BEFORE)])
    def test_a_worker_whose_last_sign_lies_in_the_future_does_not_block(
        self, services: Services, ahead: timedelta, enqueued: str | None
    ) -> None:
        created(services, 1, 2, 3, 4)
        queue = jobs.queue(services)
        job = queue.fetch_job(NOTHING_BEFORE)
        queue.remove(job)
        job.set_status(JobStatus.STARTED)
        job.heartbeat(datetime.now(timezone.utc) + ahead, ttl=60)
        assert created(services, 5) == [enqueued]
        assert waiting(services) == ([enqueued] if enqueued else [])

    def plan(self, services: Services, when: datetime) -> Job:
        """Let the job wait for a retry at a time, as RQ does after a failure."""
        queue = jobs.queue(services)
        job = queue.fetch_job(NOTHING_BEFORE)
        queue.remove(job)
        queue.schedule_job(job, when)
        return job

    def test_many_at_once_after_a_failure_enqueue_one_job(self, services: Services) -> None:
        for attempt in range(20):
            services.redis.flushall()
            services.pending(PROJECT).add({number: number for number in range(1, 5)})
            jobs.enqueue(services, PROJECT, "webhook", "an earlier try")
            job = jobs.queue(services).fetch_job(NOTHING_BEFORE)
            jobs.queue(services).remove(job)
            job.set_status(JobStatus.FAILED)
            with ThreadPoolExecutor(8) as pool:
                told = list(pool.map(lambda number: created(services, number)[0], range(10, 18)))
            assert [one for one in told if one] == [NOTHING_BEFORE], attempt
            assert waiting(services) == [NOTHING_BEFORE]

    def test_a_parked_fine_tune_waits_for_another_batch(self, services: Services) -> None:
        park(services, 1, 2)
        assert created(services, 1, 2, 3, 4, 5) == [None] * 5
        assert created(services, 6) == [NOTHING_BEFORE]

    def test_the_budget_ends_the_loop_after_its_last_batch(self, tmp_path: Path, redis_url: str) -> None:
        services = Services(settings_in(tmp_path, redis_url, annotation_budget=6))
        version(services, seen=4)
        assert created(services, 5) == [None]
        assert confirm.ended(services, PROJECT, pool=50) is None
        assert created(services, 6) == [waiting(services)[0]]
        jobs.queue(services).empty()
        version(services, seen=6)
        services.pending(PROJECT).replace({}, services.pending(PROJECT).known())
        assert created(services, *range(7, 20)) == [None] * 13
        assert "budget of 6" in (confirm.ended(services, PROJECT, pool=50) or "")

    def test_the_wanted_performance_ends_the_loop(self, tmp_path: Path, redis_url: str) -> None:
        services = Services(settings_in(tmp_path, redis_url, target_exact_match=0.9))
        figure = asdict(Figure(0.95, 0.91, 1.0, 90, 30))
        version(services, seen=4, metrics={"exact_match": figure, "sample": "not uniform"})
        assert confirm.ended(services, PROJECT, pool=50) is None
        version(services, seen=4, metrics={"exact_match": figure, "sample": "uniform"})
        assert created(services, *range(5, 20)) == [None] * 15
        assert "exact match of 0.90" in (confirm.ended(services, PROJECT, pool=50) or "")

    def test_the_performance_is_that_of_the_active_version(self, services: Services) -> None:
        version(services, seen=4, metrics={"exact_match": 0.8, "sample": "uniform"})
        version(services, seen=8, metrics={"exact_match": 0.2, "sample": "uniform"}, held_back="it is worse")
        assert confirm.progress(services, PROJECT, pool=9) == Progress(8, 0, 9, Figure(0.8, 0.0, 1.0, 0, 0))

    def test_an_empty_pool_trains_on_the_rest_and_ends_the_loop(self, services: Services) -> None:
        version(services, seen=4)
        created(services, 5)
        assert confirm.ended(services, PROJECT, pool=0) is None
        assert confirm.consider(services, PROJECT, "poll", pool=0) is None
        be_quiet(services)
        assert confirm.consider(services, PROJECT, "poll", pool=0) == ("poll", "1 newly confirmed annotations")
        services.pending(PROJECT).replace({}, {5})
        assert confirm.ended(services, PROJECT, pool=0) == "every frame is annotated"

    def test_progress_counts_frames_seen_and_waiting_once(self, services: Services) -> None:
        version(services, seen=4, metrics={"exact_match": 0.5, "sample": "uniform"})
        created(services, 4, 5)
        assert confirm.progress(services, PROJECT, pool=9) == Progress(5, 2, 9, Figure(0.5, 0.0, 1.0, 0, 0))

    def test_the_manifest_is_read_once_however_many_webhooks_come(
        self, services: Services, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        version(services, seen=2000)
        created(services, 3001)
        reads: list[object] = []
        monkeypatch.setattr(Manifest, "model_validate_json", lambda content: reads.append(content))
        created(services, 3002, 3003)
        assert reads == []


@dataclass
class StandIn:
    """Stands for Label Studio: one project with annotations that tests put in.

    ``down`` when it does not answer; ``meanwhile`` is what happens, once, while it lists the annotations.
    """

    tasks: int = 100
    annotations: list[ConfirmedAnnotation] = field(default_factory=list)
    down: bool = False
    xml: str = XML
    meanwhile: list[Callable[[], object]] = field(default_factory=list)

    def project(self, project: int) -> ProjectInfo:
        if self.down:
            raise StudioUnavailable("Label Studio does not answer")
        return ProjectInfo("Test", self.xml, None, "", 1, True)

    def counts(self, project: int) -> Counts:
        annotated = len({one.task for one in self.annotations})
        left = self.tasks - annotated
        return Counts(self.tasks, annotated, left, len(self.annotations))

    def confirmed_annotations(self, project: int) -> list[ConfirmedAnnotation]:
        listed = list(self.annotations)
        while self.meanwhile:
            self.meanwhile.pop()()
        return listed

    def shown_predictions(self, project: int, annotations: Sequence[ConfirmedAnnotation]) -> dict[int, Any]:
        return {}


@pytest.fixture
def studio(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """A Label Studio for this process and for the worker's jobs, which read the settings themselves."""
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    stand_in = StandIn()
    monkeypatch.setattr(Services, "studio", stand_in)
    return stand_in


def annotate(studio: StandIn, folder: Path, *numbers: int, alike: bool = False) -> None:
    for number in numbers:
        task = task_with_frame(folder, number, patient=f"p{number}")
        labels = np.asarray(COMBINATIONS[0 if alike else number % len(COMBINATIONS)])
        result = [{"id": "r", **choices_result(labels, CONFIGURATION)}]
        studio.annotations.append(ConfirmedAnnotation(number, number, f"t{number}", task["data"], result))


def work(services: Services) -> None:
    worker = SimpleWorker([jobs.queue(services)], connection=services.redis, serializer=JSONSerializer)
    worker.work(burst=True, logging_level="CRITICAL")


def finished(services: Services, job_id: str) -> Job:
    return Job.fetch(job_id, connection=services.redis, serializer=JSONSerializer)


class TestFineTune:
    def test_a_batch_is_trained_on_and_the_count_starts_anew(
        self, services: Services, studio: StandIn, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        annotate(studio, tmp_path, 1, 2, 3, 4, 5)
        created(services, 1, 2, 3, 4, 5)
        with caplog.at_level(logging.INFO):
            work(services)
        job = finished(services, NOTHING_BEFORE)
        newest = services.versions(PROJECT).newest()
        assert newest is not None
        assert job.return_value() == {
            "outcome": "trained",
            "version": newest.version,
            "seconds": newest.seconds,
        }
        assert services.versions(PROJECT).active() == newest.version
        assert (newest.job, newest.trigger) == (NOTHING_BEFORE, "webhook")
        assert {one.annotation for one in newest.seen} == {1, 2, 3, 4, 5}
        assert services.pending(PROJECT).count() == 0
        assert services.pending(PROJECT).news() == 1
        assert waiting(services) == []
        assert (job.meta["stage"], job.meta["done"]) == ("training", job.meta["total"])
        assert [one["project"] for one in events(caplog, "training")] == [PROJECT]

    def test_what_was_confirmed_meanwhile_counts_for_the_next(
        self, services: Services, studio: StandIn, tmp_path: Path
    ) -> None:
        annotate(studio, tmp_path, *range(1, 6))
        created(services, 1, 2, 3, 4)
        work(services)
        first = services.versions(PROJECT).newest()
        assert first is not None
        assert len(first.seen) == 5  # the webhook of the fifth was lost
        annotate(studio, tmp_path, *range(6, 12))
        assert jobs.reconcile(services, PROJECT).job == f"finetune-{PROJECT}-after-{first.version}"
        work(services)
        second = services.versions(PROJECT).newest()
        assert second is not None
        assert (second.parent, second.trigger, len(second.seen)) == (first.version, "poll", 11)

    def test_a_version_that_is_held_back_counts_as_the_newest(
        self, services: Services, studio: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        active = version(services, seen=0)
        annotate(studio, tmp_path, 1, 2, 3, 4)
        job_id = f"finetune-{PROJECT}-after-{active.version}"
        assert created(services, 1, 2, 3, 4)[-1] == job_id
        seen = tuple(TrainedOn(annotation=n, task=n, updated_at=f"t{n}") for n in (1, 2, 3, 4))
        held = manifest_of(trained_on=seen, held_back="it is worse")

        def fine_tune(*_: object, **__: object) -> Manifest:
            return services.versions(PROJECT).create(held, write_no_weights)

        monkeypatch.setattr(training, "fine_tune", fine_tune)
        work(services)
        newest = services.versions(PROJECT).newest()
        assert newest is not None
        assert finished(services, job_id).return_value() == {
            "outcome": "held back",
            "version": newest.version,
            "reason": "it is worse",
        }
        assert services.versions(PROJECT).active() == active.version
        assert created(services, 5, 6, 7, 8)[-1] == f"finetune-{PROJECT}-after-{newest.version}"

    def test_late_webhooks_of_a_finished_batch_train_nothing(
        self, services: Services, studio: StandIn, tmp_path: Path
    ) -> None:
        annotate(studio, tmp_path, 1, 2, 3, 4)
        created(services, 1, 2, 3, 4)
        work(services)
        late = created(services, 1, 2, 3, 4)[-1]
        assert late is not None
        work(services)
        assert finished(services, late).return_value() == {"outcome": "not due"}
        assert len(services.versions(PROJECT).names()) == 1
        assert services.pending(PROJECT).count() == 0
        annotate(studio, tmp_path, 5, 6, 7, 8)
        assert created(services, 5, 6, 7, 8) == [None, None, None, late]

    def test_late_webhooks_that_come_while_label_studio_answers_train_nothing(
        self, services: Services, studio: StandIn, tmp_path: Path
    ) -> None:
        annotate(studio, tmp_path, *range(1, 9))
        created(services, 1, 2, 3, 4)
        work(services)
        (first,) = services.versions(PROJECT).names()
        late = created(services, 1, 2, 3, 4)[-1]
        assert late is not None
        studio.meanwhile.append(lambda: created(services, 5, 6, 7, 8))
        work(services)
        assert finished(services, late).return_value() == {"outcome": "not due"}
        assert services.versions(PROJECT).names() == [first]
        assert services.pending(PROJECT).count() == 0

    def test_webhooks_of_a_batch_that_come_while_label_studio_answers_train_it(
        self, services: Services, studio: StandIn, tmp_path: Path
    ) -> None:
        annotate(studio, tmp_path, 1, 2)

        def two_more() -> None:
            annotate(studio, tmp_path, 3, 4)
            created(services, 3, 4)

        studio.meanwhile.append(two_more)
        created(services, 1, 2, 8, 9)  # the last two were deleted again
        work(services)
        newest = services.versions(PROJECT).newest()
        assert newest is not None
        assert len(newest.seen) == 4

    def test_a_batch_deleted_before_the_job_runs_is_not_trained(
        self, services: Services, studio: StandIn, tmp_path: Path
    ) -> None:
        created(services, 1, 2, 3, 4)
        annotate(studio, tmp_path, 1, 2, 3)
        work(services)
        assert finished(services, NOTHING_BEFORE).return_value() == {"outcome": "not due"}
        assert services.pending(PROJECT).tasks() == {1, 2, 3}

    def test_a_job_that_was_done_already_does_nothing(
        self, services: Services, studio: StandIn, tmp_path: Path
    ) -> None:
        annotate(studio, tmp_path, 1, 2, 3, 4)
        created(services, 1, 2, 3, 4)
        seen = tuple(TrainedOn(annotation=n, task=n, updated_at=f"t{n}") for n in range(1, 5))
        version(services, seen=0, trained_on=seen)
        work(services)
        assert finished(services, NOTHING_BEFORE).return_value() == {"outcome": "already done", "parent": None}
        assert len(services.versions(PROJECT).names()) == 1
        assert services.pending(PROJECT).count() == 0

    def test_identical_labels_postpone_the_next_try(self, services: Services, studio: StandIn, tmp_path: Path) -> None:
        annotate(studio, tmp_path, 1, 2, 3, 4, alike=True)
        created(services, 1, 2, 3, 4)
        work(services)
        outcome = finished(services, NOTHING_BEFORE).return_value()
        assert outcome["outcome"] == "postponed"
        assert "two different label combinations" in outcome["reason"]
        annotate(studio, tmp_path, 5, 6, 7, 8)
        assert created(services, 5, 6, 7, 8) == [None, None, None, NOTHING_BEFORE]
        work(services)
        assert finished(services, NOTHING_BEFORE).return_value()["outcome"] == "trained"
        assert confirm.parked_now(services, PROJECT) is None

    def test_a_request_with_too_few_labels_does_not_postpone_the_batch(
        self, services: Services, studio: StandIn, tmp_path: Path
    ) -> None:
        annotate(studio, tmp_path, 1)
        created(services, 1)
        jobs.record(services, PROJECT, "START_TRAINING", {})
        work(services)
        assert finished(services, NOTHING_BEFORE).return_value()["outcome"] == "postponed"
        assert created(services, 2, 3, 4) == [None, None, NOTHING_BEFORE]

    def test_a_request_trains_on_an_incomplete_batch(self, services: Services, studio: StandIn, tmp_path: Path) -> None:
        annotate(studio, tmp_path, 1, 2)
        jobs.record(services, PROJECT, "START_TRAINING", {})
        work(services)
        newest = services.versions(PROJECT).newest()
        assert newest is not None
        assert (newest.trigger, len(newest.seen)) == ("request", 2)

    def test_a_job_is_tried_again_when_label_studio_is_back(
        self, services: Services, studio: StandIn, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        annotate(studio, tmp_path, 1, 2, 3, 4)
        created(services, 1, 2, 3, 4)
        studio.down = True
        work(services)
        (failed,) = events(caplog, "fine-tune failed")
        assert (failed["project"], failed["job"], failed["retries"]) == (PROJECT, NOTHING_BEFORE, 3)
        assert str(failed["reason"]).startswith("StudioUnavailable")
        job = finished(services, NOTHING_BEFORE)
        assert (job.get_status(), job.retries_left) == (JobStatus.SCHEDULED, 2)
        assert created(services, 5) == [None]
        assert services.pending(PROJECT).count() == 5
        studio.down = False
        job.set_status(JobStatus.QUEUED)
        jobs.queue(services).push_job_id(job.id)
        work(services)
        assert finished(services, NOTHING_BEFORE).return_value()["outcome"] == "trained"

    def test_a_training_goes_on_if_its_progress_cannot_be_stored(
        self, services: Services, studio: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(job: Job) -> None:
            raise RedisConnectionError

        monkeypatch.setattr(Job, "save_meta", fail)
        annotate(studio, tmp_path, 1, 2, 3, 4)
        created(services, 1, 2, 3, 4)
        work(services)
        assert finished(services, NOTHING_BEFORE).return_value()["outcome"] == "trained"

    def test_a_job_carries_numbers_only_as_json_with_a_timeout(self, services: Services) -> None:
        created(services, 1, 2, 3, 4)
        stored = services.redis.hgetall(f"rq:job:{NOTHING_BEFORE}")
        job = finished(services, NOTHING_BEFORE)
        assert (job.func_name, job.args, job.kwargs) == ("ml_backend.loop.jobs.fine_tune", [PROJECT, None], {})
        assert (job.timeout, job.retries_left) == (services.settings.job_timeout, 3)
        assert json.loads(stored[b"meta"]) == {"trigger": "webhook"}


class TestSoonTrained:
    """If a fine-tune will soon refresh the queue, newly confirmed frames do not trigger a refresh of their own."""

    def test_a_fine_tune_that_was_just_enqueued_is_soon_done(self, services: Services) -> None:
        version(services, seen=5, seconds={"total": 20.0})
        assert not jobs.soon_trained(services, PROJECT)
        created(services, 11, 12, 13, 14)
        assert len(waiting(services)) == 1
        assert jobs.soon_trained(services, PROJECT)

    def test_one_that_was_enqueued_long_ago_is_not_waited_for(self, services: Services) -> None:
        version(services, seen=5, seconds={"total": 20.0})
        created(services, 11, 12, 13, 14)
        (name,) = waiting(services)
        job = finished(services, name)
        job.enqueued_at = datetime.now(timezone.utc) - timedelta(seconds=jobs.SOON_SECONDS + 1)
        job.save()
        assert not jobs.soon_trained(services, PROJECT)

    @pytest.mark.parametrize("seconds", [{}, {"total": jobs.SOON_SECONDS}])
    def test_one_that_may_take_long_is_not_waited_for(self, services: Services, seconds: dict[str, float]) -> None:
        version(services, seen=5, seconds=seconds)
        created(services, 11, 12, 13, 14)
        assert len(waiting(services)) == 1
        assert not jobs.soon_trained(services, PROJECT)

    @pytest.mark.parametrize("status", [JobStatus.SCHEDULED, JobStatus.FAILED, JobStatus.FINISHED])
    def test_one_that_is_not_under_way_is_not_waited_for(self, services: Services, status: JobStatus) -> None:
        version(services, seen=5, seconds={"total": 20.0})
        created(services, 11, 12, 13, 14)
        (name,) = waiting(services)
        finished(services, name).set_status(status)
        assert not jobs.soon_trained(services, PROJECT)


class TestParking:
    """A fine-tune that cannot succeed is not tried again until something changes."""

    @pytest.fixture
    def tries(
        self, services: Services, studio: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> list[Exception]:
        """A full batch, and a training that raises each error that is put here, the last one for ever."""
        annotate(studio, tmp_path, 1, 2, 3, 4)
        errors: list[Exception] = []

        def fail(*_: object, **__: object) -> Manifest:
            counted.append(1)
            raise errors[-1]

        counted: list[int] = []
        self.counted = counted
        monkeypatch.setattr(training, "fine_tune", fail)
        return errors

    def polled(self, services: Services) -> int:
        """How often a training is begun in three polls of the sidecar and what they enqueue."""
        before = len(self.counted)
        for _ in range(3):
            jobs.reconcile(services, PROJECT)
            work(services)
        return len(self.counted) - before

    def parked(self, services: Services) -> Parked:
        parked = confirm.parked_now(services, PROJECT)
        assert parked is not None
        return parked

    @pytest.mark.parametrize(
        "error",
        [
            ValueError("a mistake of ours"),
            BackendError("Training diverged"),
            SettingsError("no such backbone"),
            VersionSuperseded("version 1 was stored by another job"),
            JobTimeoutException("Task exceeded maximum timeout value (3600 seconds)"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_a_permanent_failure_is_tried_once_and_logged_once(
        self, services: Services, tries: list[Exception], error: Exception, caplog: pytest.LogCaptureFixture
    ) -> None:
        tries.append(error)
        assert self.polled(services) == 1
        services.redis.flushall()  # it outlives Redis
        assert self.polled(services) == 0
        (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
        assert line.startswith(
            f"fine-tune parked project={PROJECT} job={NOTHING_BEFORE} reason='{type(error).__name__}"
        )
        assert (",loop/jobs.py:" in line) != isinstance(error, BackendError)
        assert self.parked(services).reason.startswith(f"{type(error).__name__}: {error}")
        assert services.versions(PROJECT).names() == []

    @pytest.mark.parametrize(
        ("error", "parks"),
        [
            (StudioUnavailable("Label Studio does not answer"), False),
            (OSError(28, "No space left on device"), False),
            (RedisConnectionError("gone"), False),
            (FrameUnreadable("frame 1"), True),
            (StudioRefused("500"), True),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_passing_failures_are_retried_and_an_absent_service_without_limit(
        self, services: Services, tries: list[Exception], error: Exception, parks: bool
    ) -> None:
        tries.append(error)
        jobs.reconcile(services, PROJECT)
        for left in (2, 1, 0):
            work(services)
            job = finished(services, NOTHING_BEFORE)
            assert (job.get_status(), job.retries_left) == (JobStatus.SCHEDULED, left)
            assert confirm.parked_now(services, PROJECT) is None
            job.set_status(JobStatus.QUEUED)
            jobs.queue(services).push_job_id(job.id)
        work(services)
        assert len(self.counted) == 4
        assert (confirm.parked_now(services, PROJECT) is not None) == parks
        assert jobs.reconcile(services, PROJECT).job == (None if parks else NOTHING_BEFORE)

    def test_another_batch_releases_a_parked_fine_tune(
        self, services: Services, tries: list[Exception], studio: StandIn, tmp_path: Path
    ) -> None:
        tries.append(ValueError("a mistake of ours"))
        assert self.polled(services) == 1
        annotate(studio, tmp_path, 5, 6, 7)
        assert self.polled(services) == 0
        annotate(studio, tmp_path, 8)
        assert self.polled(services) == 1

    @pytest.mark.parametrize("change", ["corrected", "deleted", "configuration", "request", "activation", "settings"])
    def test_every_possible_remedy_releases_a_parked_fine_tune(
        self, services: Services, tries: list[Exception], studio: StandIn, tmp_path: Path, change: str
    ) -> None:
        annotate(studio, tmp_path, 5, 6, 7, 8)
        older, newer = version(services, seen=0), version(services, seen=0)
        tries.append(ValueError("a mistake of ours"))
        assert self.polled(services) == 1
        if change == "corrected":
            studio.annotations[:4] = [replace(one, updated_at="later") for one in studio.annotations[:4]]
        elif change == "deleted":
            del studio.annotations[0]
        elif change == "configuration":
            studio.xml = XML.replace("</View>", "<!-- other --></View>")
        elif change == "request":
            jobs.record(services, PROJECT, "START_TRAINING", {})
        elif change == "activation":
            services.versions(PROJECT).activate(older.version, by="a person")
        else:
            confirm.unpark_after_changes(services)
            assert self.polled(services) == 0
            confirm.unpark_after_changes(Services(services.settings.model_copy(update={"learning_rate": 1e-4})))
        assert self.polled(services) == 1
        assert self.parked(services).parent == newer.version

    def test_a_request_that_fails_parks_no_batch(
        self, services: Services, tries: list[Exception], studio: StandIn
    ) -> None:
        del studio.annotations[1:]
        tries.append(ValueError("a mistake of ours"))
        jobs.record(services, PROJECT, "START_TRAINING", {})
        work(services)
        assert len(self.counted) == 1
        assert confirm.parked_now(services, PROJECT) is None

    def test_success_clears_the_parked_fine_tune(self, services: Services, studio: StandIn, tmp_path: Path) -> None:
        annotate(studio, tmp_path, 1, 2, 3, 4)
        park(services, 1, 2, 3, 4)
        jobs.record(services, PROJECT, "START_TRAINING", {})
        park(services, 1, 2, 3, 4)
        work(services)
        assert len(services.versions(PROJECT).names()) == 1
        assert not (services.folder(PROJECT) / "parked.json").exists()

    @pytest.mark.parametrize(("left", "parks"), [(1, False), (0, True)])
    def test_a_process_that_is_killed_at_every_try_parks(
        self, services: Services, studio: StandIn, tmp_path: Path, left: int, parks: bool
    ) -> None:
        annotate(studio, tmp_path, 1, 2, 3, 4)
        jobs.reconcile(services, PROJECT)
        job = finished(services, NOTHING_BEFORE)
        job.retries_left = left
        jobs.killed(services, job)
        assert (confirm.parked_now(services, PROJECT) is not None) == parks
        assert Counters(services.redis).read() == {"fine-tunes failed": 1}


class TestTwoJobs:
    def test_the_second_of_two_jobs_has_nothing_to_do(
        self, services: Services, studio: StandIn, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        annotate(studio, tmp_path, 1, 2, 3, 4)
        jobs.reconcile(services, PROJECT)

        def compete(*_: object, **__: object) -> Manifest:
            seen = tuple(TrainedOn(annotation=n, task=n, updated_at=f"t{n}") for n in range(1, 5))
            version(services, seen=0, trained_on=seen)
            raise VersionSuperseded("version 1 was stored by another job")

        with pytest.MonkeyPatch.context() as raced, caplog.at_level(logging.INFO):
            raced.setattr(training, "fine_tune", compete)
            work(services)
        assert finished(services, NOTHING_BEFORE).return_value()["outcome"] == "already done"
        assert len(services.versions(PROJECT).names()) == 1
        assert len(events(caplog, "fine-tune already done")) == 1


class TestReconcile:
    def test_lost_webhooks_are_found(self, services: Services, studio: StandIn, tmp_path: Path) -> None:
        annotate(studio, tmp_path, 1, 2, 3, 4)
        assert jobs.reconcile(services, PROJECT).job == NOTHING_BEFORE
        assert jobs.reconcile(services, PROJECT).job is None

    def test_a_changed_annotation_counts_again(self, services: Services, studio: StandIn, tmp_path: Path) -> None:
        annotate(studio, tmp_path, 1, 2)
        seen = tuple(TrainedOn(annotation=n, task=n, updated_at=f"t{n}") for n in (1, 2))
        version(services, seen=0, trained_on=seen)
        jobs.reconcile(services, PROJECT)
        assert services.pending(PROJECT).count() == 0
        studio.annotations[0] = replace(studio.annotations[0], updated_at="later")
        jobs.reconcile(services, PROJECT)
        assert services.pending(PROJECT).tasks() == {1}

    @pytest.mark.usefixtures("studio")
    def test_a_version_whose_job_died_before_the_switch_is_activated(self, services: Services) -> None:
        store = services.versions(PROJECT)
        first = version(services, seen=4)
        with pytest.MonkeyPatch.context() as crash:
            crash.setattr(Activations, "point", lambda *_: None)
            second = store.create(manifest_of(8), write_no_weights, by="a job", expected=first.version)
        assert store.active() == first.version
        jobs.reconcile(services, PROJECT)
        assert store.active() == second.version
        version(services, seen=12, held_back="it is worse")
        jobs.reconcile(services, PROJECT)
        assert store.active() == second.version

    def test_the_last_frames_are_a_batch_of_their_own(
        self, services: Services, studio: StandIn, tmp_path: Path
    ) -> None:
        studio.tasks = 2
        annotate(studio, tmp_path, 1, 2)
        assert jobs.reconcile(services, PROJECT).job is None
        be_quiet(services)
        assert jobs.consider(services, PROJECT, 0) == NOTHING_BEFORE
        work(services)
        assert finished(services, NOTHING_BEFORE).return_value()["outcome"] == "trained"


def test_a_worker_without_a_token_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TSAL_LABEL_STUDIO_TOKEN", raising=False)
    with pytest.raises(SettingsError, match="TSAL_LABEL_STUDIO_TOKEN"):
        jobs.settings_for_worker()
    monkeypatch.setenv("TSAL_LABEL_STUDIO_TOKEN", "token-of-the-tests")
    assert jobs.settings_for_worker().token() == "token-of-the-tests"
