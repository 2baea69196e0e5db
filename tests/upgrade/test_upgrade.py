"""A data folder of release 0.1.0 works in this release; the README here says how it was made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rq import SimpleWorker
from rq.serializers import JSONSerializer
from safetensors.numpy import save_file

from ml_backend.frames.frame import Frame
from ml_backend.frames.predictor import Predictor
from ml_backend.ingest.salt import salt
from ml_backend.loop import jobs, overview
from ml_backend.loop import order as ordering
from ml_backend.loop import train as training
from ml_backend.loop.activate import activate
from ml_backend.model import LungUltrasoundModel
from ml_backend.services import Services
from ml_backend.store.format import FIRST, PRESENT, require_readable
from tests.installation import COMBINATIONS, PROJECT, XML, environment_of, exit_code, settings_in, task_with_frame
from tests.redis_server import RedisServer, stopped_redis
from tests.studio_stand_in import StudioStandIn, one_thread

__all__ = ["one_thread"]

FIXTURE = Path(__file__).parent / "data_of_0_1_0"
FIRST_VERSION, SECOND_VERSION = sorted(path.name for path in (FIXTURE / "projects" / "7" / "versions").iterdir())
TASKS = range(1, 15)
SEEN = range(1, 10)
PENDING = (10, 11)
ANSWERED = 2
"""A task that no order has, so that the network is asked for it."""


def patient(task: int) -> str:
    return f"p{(task - 1) // 3 + 1}"


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Services(settings_in(tmp_path_factory.mktemp("network"))).predictor


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The folder as 0.1.0 left it, with random weights."""
    copy = tmp_path / "data"
    shutil.copytree(FIXTURE, copy)
    for number, described in enumerate(sorted(copy.rglob("tail.json"))):
        about, rng = json.loads(described.read_text()), np.random.default_rng(number)
        weights = {
            name: (0.05 * rng.standard_normal(shape)).astype(np.float32) for name, shape in about["shapes"].items()
        }
        save_file(weights, described.with_name("tail.safetensors"), about["metadata"])
        described.unlink()
    return copy


@pytest.fixture
def studio(tmp_path: Path) -> StudioStandIn:
    """Label Studio as it was beside that folder."""
    studio = StudioStandIn()
    for task in TASKS:
        studio.add(tmp_path, task, patient=patient(task), clip=f"c{patient(task)[1:]}")
    for task in (*SEEN, *PENDING):
        studio.confirm(task, COMBINATIONS[task % len(COMBINATIONS)].tolist())
    return studio


@pytest.fixture
def services(tmp_path: Path, data: Path, studio: StudioStandIn, predictor: Predictor) -> Services:
    made = Services(settings_in(tmp_path, hold_out=0.3))
    made.studio = studio  # type: ignore[assignment]
    made.predictor = Predictor(made.settings, made.fetcher, predictor._features)
    made.predictor._networks = predictor._networks
    return made


def refreshed(services: Services) -> str:
    order = ordering.refresh_if_needed(services, PROJECT, silent)
    assert order is not None
    return order.about.name


def silent(stage: str, done: int, total: int) -> None:
    return None


def told(services: Services, task: int) -> dict[str, float]:
    """What the backend answers Label Studio of a frame: the probability of each symptom."""
    found = LungUltrasoundModel(str(PROJECT), XML, services).predict(
        [task_with_frame(services.settings.data_dir.parent, task)]
    )
    probabilities: dict[str, float] = found[0]["result"][0]["tsal"]["probabilities"]
    return probabilities


def test_the_versions_are_listed_with_the_active_one(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TSAL_DATA_DIR", str(data))
    assert exit_code("versions", "list") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[:2] for row in rows] == [[FIRST_VERSION, rows[0][1]], ["*", SECOND_VERSION]]
    assert [row[-1] for row in rows] == ["person", "person"]
    for version in (FIRST_VERSION, SECOND_VERSION):
        assert exit_code("versions", "show", version) == 0
        assert version in capsys.readouterr().out


def test_what_0_1_0_did_not_know_says_nothing(services: Services) -> None:
    manifest = services.versions(PROJECT).get(SECOND_VERSION)
    assert (manifest.format, manifest.written_by, manifest.accepted, manifest.ticks) == (FIRST, "", 0, {})
    exact = manifest.figure("exact_match")
    assert exact is not None
    assert exact.value == manifest.metrics["exact_match"]
    assert services.audits(PROJECT).draws() == []
    assert services.finishes(PROJECT).newest() is None
    order = services.orders(PROJECT).current()
    assert order is not None
    assert (order.about.name, order.reasons, order.told) == (f"{SECOND_VERSION}.1", (), None)
    assert require_readable(services.settings.data_dir).format == FIRST


def test_the_active_version_predicts_what_its_weights_say(services: Services) -> None:
    network = services.predictor.fresh(3)
    network.load_tail(services.versions(PROJECT).tail(SECOND_VERSION))
    (chunk,) = services.predictor.activations([Frame(ANSWERED, f"/data/local-files/?d={ANSWERED}.png")], 3)
    expected = network.probabilities(chunk.activations)[0]
    np.testing.assert_allclose(list(told(services, ANSWERED).values()), expected, atol=1e-3)


def test_the_queue_is_put_in_order_again_under_a_name_of_its_own(services: Services, studio: StudioStandIn) -> None:
    name = refreshed(services)
    assert name.endswith(f"{SECOND_VERSION}.2")
    assert studio.model_version == name
    assert {one["task"] for one in studio.served()} == set(TASKS) - {*SEEN, *PENDING}
    assert overview.write(services, PROJECT, None).standing.people == len(SEEN) + len(PENDING)


def test_versions_are_activated_rolled_back_and_pruned(services: Services) -> None:
    store = services.versions(PROJECT)
    assert store.before() == FIRST_VERSION
    before = told(services, ANSWERED)
    activate(services, PROJECT, store.get(FIRST_VERSION), by="the test", undo=True)
    refreshed(services)
    assert told(services, ANSWERED) != before
    activate(services, PROJECT, store.get(SECOND_VERSION), by="the test")
    refreshed(services)
    assert told(services, ANSWERED) == before
    # The parent of the active version always stays.
    assert store.prune(1) == []
    assert store.names() == [FIRST_VERSION, SECOND_VERSION]


def test_the_next_version_is_trained_on_top_of_it(services: Services) -> None:
    store = services.versions(PROJECT)
    manifest = training.fine_tune(services, PROJECT, silent)
    assert (manifest.number, manifest.parent, manifest.format) == (3, SECOND_VERSION, PRESENT)
    assert {one.task for one in manifest.seen} == {*SEEN, *PENDING}
    assert manifest.figure("exact_match_parent") is not None
    held_before = {patient(one.task) for one in store.get(SECOND_VERSION).held_out}
    assert held_before == {patient(one.task) for one in manifest.held_out}
    assert not [note for note in manifest.notes if "new line" in note]
    refreshed(services)
    store.activate(manifest.version, by="the test")
    assert store.prune(1) == [FIRST_VERSION]


def test_the_secret_for_patients_is_still_the_same(data: Path) -> None:
    assert salt(data, ["dicom-0123456789ab"]) == (FIXTURE / "patient-salt").read_bytes()


@pytest.fixture
def redis(data: Path) -> Iterator[RedisServer]:
    with stopped_redis(data / "redis") as server:
        yield server


def test_the_embedded_redis_is_taken_over_and_its_waiting_fine_tune_runs(
    services: Services, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.redis = redis.start()
    assert services.pending(PROJECT).known() == set(PENDING)
    (job,) = jobs.queue(services).jobs
    # Its function is gone, so a worker that comes first fails at it; a poll enqueues the one of this release.
    assert job.func_name == "ml_backend.jobs.fine_tune"
    services.settings = services.settings.model_copy(update={"k_max": 2, "redis_url": redis.url})
    assert jobs.reconcile(services, PROJECT).job == job.id
    for name, value in environment_of(services.settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(Services, "studio", services.studio)  # what a worker would connect to
    SimpleWorker([jobs.queue(services)], connection=services.redis, serializer=JSONSerializer).work(burst=True)
    newest = services.versions(PROJECT).newest()
    assert newest is not None
    assert (newest.number, newest.job, newest.parent) == (3, job.id, SECOND_VERSION)
