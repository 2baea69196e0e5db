"""The hook class with the real EfficientNet-Lite0, frames from a folder, and versions made by hand."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_studio_ml.api import _server as framework
from label_studio_ml.api import init_app
from label_studio_ml.model import SimpleJobManager
from label_studio_sdk.label_interface.objects import PredictionValue
from numpy.typing import NDArray

from ml_backend import model
from ml_backend.errors import ConfigurationUnusable, InvalidRequest, VersionUnknown
from ml_backend.frames.frame import Frame
from ml_backend.frames.scores import concatenate
from ml_backend.loop import jobs
from ml_backend.model import UNTRAINED, LungUltrasoundModel, project_number
from ml_backend.services import Services
from ml_backend.store.orders import About, Order
from ml_backend.store.versions import Manifest
from ml_backend.studio.payloads import AUDIT, Checker
from ml_backend.tsal.acquisition import margin, score
from tests.events import events
from tests.installation import (
    CONFIGURATION,
    PROJECT,
    XML,
    environment_of,
    make_version,
    settings_in,
    task_with_frame,
)

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Installation:
    services: Services
    folder: Path
    tasks: list[dict[str, Any]]
    first: Manifest
    second: Manifest


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Two versions of one project; building the networks is the slow part."""
    folder = tmp_path_factory.mktemp("model")
    services = Services(settings_in(folder))
    tasks = [task_with_frame(folder, number) for number in (3, 1, 2)]
    first, second = (make_version(services, tasks, seed) for seed in (1, 2))
    return Installation(services, folder, tasks, first, second)


@pytest.fixture
def services(installation: Installation) -> Services:
    """Nothing is active, and no order is served."""
    folder = installation.services.folder(PROJECT)
    shutil.rmtree(folder / "orders", ignore_errors=True)
    for pointer in ("active", "order"):
        (folder / pointer).unlink(missing_ok=True)
    return installation.services


@pytest.fixture
def tasks(installation: Installation) -> list[dict[str, Any]]:
    return installation.tasks


@pytest.fixture
def active(services: Services, installation: Installation) -> Manifest:
    services.versions(PROJECT).activate(installation.first.version, by="a test")
    return installation.first


@pytest.fixture
def hook(services: Services) -> LungUltrasoundModel:
    return LungUltrasoundModel(str(PROJECT), XML, services)


def serve(services: Services, version: str | None, informativeness: list[float], strategy: str = "mlm") -> str:
    """Make an order that Label Studio serves; returns its name."""
    orders = services.orders(PROJECT)
    name = orders.next_name(version, [])
    about = About(
        name=name,
        version=version,
        strategy=strategy,
        created_at="then",
        seed=0,
        unreadable={},
        seconds={"scoring": 0.0},
    )
    orders.save(Order(about, np.arange(len(informativeness)), np.array(informativeness)))
    orders.activate(name)
    return name


def said(results: list[dict[str, Any]]) -> list[list[str] | None]:
    """The choices of each result, None where it is empty."""
    return [one["result"][0]["value"]["choices"] if one["result"] else None for one in results]


def expected(
    services: Services, tasks: list[dict[str, Any]], manifest: Manifest
) -> tuple[list[list[str]], NDArray[np.float32]]:
    """What a version says, past the hook: stored choices and probabilities."""
    frames = [Frame(task["id"], task["data"]["image"]) for task in tasks]
    pieces = list(services.predictor.scores(frames, manifest, services.versions(PROJECT)))
    scores = concatenate(pieces, len(manifest.label_names))
    stored = dict(zip(CONFIGURATION.label_names, CONFIGURATION.values, strict=True))
    decode = CONFIGURATION.label_set.decode
    return [[stored[name] for name in decode(labels)] for labels in scores.labels], scores.probabilities


@pytest.mark.parametrize(("sent", "number"), [("7", 7), (7, 7), ("7.1795374234", 7), ("007", 7)])
def test_a_project_is_read_as_label_studio_sends_it(sent: object, number: int) -> None:
    assert project_number(sent) == number


@pytest.mark.parametrize("sent", ["", None, "seven", "-7", "7x", "7.x", "²", "٧", "7\n", "1" * 19, True, ["7"], {}])
def test_an_invalid_project_is_refused(sent: object) -> None:
    with pytest.raises(InvalidRequest, match="not the number"):
        project_number(sent)


@given(st.text(max_size=30) | st.integers() | st.floats())
def test_a_project_is_a_number_that_fits_a_folder_or_refused(sent: object) -> None:
    with suppress(InvalidRequest):
        assert 0 <= project_number(sent) < 10**18


class TestPredict:
    def test_before_the_first_version_there_are_no_predictions(
        self, hook: LungUltrasoundModel, tasks: list[dict[str, Any]]
    ) -> None:
        assert hook.predict(tasks) == [{"model_version": UNTRAINED, "score": 1.0, "result": []}] * 3
        assert hook.predict([]) == []

    def test_each_task_gets_the_prediction_of_its_frame(
        self, hook: LungUltrasoundModel, services: Services, tasks: list[dict[str, Any]], active: Manifest
    ) -> None:
        results = hook.predict(tasks)
        choices, probabilities = expected(services, tasks, active)
        assert said(results) == choices
        for result, row, gap in zip(results, probabilities, margin(probabilities), strict=True):
            audit = result["result"][0][AUDIT]
            assert list(audit["probabilities"]) == list(CONFIGURATION.label_names)
            np.testing.assert_allclose(list(audit["probabilities"].values()), row, atol=1e-4)
            assert audit["margin"] == pytest.approx(gap, abs=1e-4)
            assert {"distance", "plain", "strategy"} <= audit.keys()
            assert audit["strategy"] == "mlm"  # the network's, where no order with a memory is served
            assert result["model_version"] == active.version == hook.served_version
        assert hook.predict(tasks[::-1]) == results[::-1]

    def test_label_studio_takes_every_result(
        self, hook: LungUltrasoundModel, tasks: list[dict[str, Any]], active: Manifest
    ) -> None:
        checker = Checker(CONFIGURATION)
        for result in hook.predict([*tasks, {"id": 4, "data": {}}]):
            assert checker.errors(result) == []
            PredictionValue(**result)

    def test_a_frame_that_cannot_be_read_costs_only_itself(
        self,
        hook: LungUltrasoundModel,
        tasks: list[dict[str, Any]],
        active: Manifest,
        installation: Installation,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        alone = hook.predict(tasks)
        (installation.folder / "files" / "broken.png").write_bytes(b"no picture")
        unreadable = [
            {"id": 11, "data": {"image": "/data/local-files/?d=nowhere.png"}},
            {"id": 12, "data": {"image": "/data/local-files/?d=broken.png"}},
            {"id": 13, "data": {"image": "http://127.0.0.2/somewhere.png"}},
        ]
        mixed = [unreadable[0], tasks[0], unreadable[1], tasks[1], unreadable[2], tasks[2]]
        results = hook.predict(mixed)
        assert results[1::2] == alone
        assert results[0::2] == [{"model_version": active.version, "score": 1.0, "result": []}] * 3
        told = events(caplog, "frame unreadable")
        assert {one["task"] for one in told if one["reason"]} >= {11, 12, 13}

    @pytest.mark.parametrize(
        "odd",
        [
            {},
            {"id": None},
            {"id": 5},
            {"id": 5, "data": None},
            {"id": 5, "data": []},
            {"id": 5, "data": {"picture": "x"}},
            {"id": 5, "data": {"image": None}},
            {"id": 5, "data": {"image": {"url": "x"}}},
            {"id": "five", "data": {"image": ""}},
            {"id": -2, "data": {}},
            {"id": 2**80, "data": {"image": "\ud800"}},
        ],
    )
    def test_an_odd_task_costs_only_itself(
        self, hook: LungUltrasoundModel, tasks: list[dict[str, Any]], active: Manifest, odd: dict[str, Any]
    ) -> None:
        alone = hook.predict(tasks)
        results = hook.predict([odd, *tasks, odd])
        assert results[1:-1] == alone
        assert [result["result"] for result in (results[0], results[-1])] == [[], []]

    def test_tasks_without_a_number_are_told_apart(
        self, hook: LungUltrasoundModel, tasks: list[dict[str, Any]], active: Manifest
    ) -> None:
        nameless = [{"id": None, "data": task["data"]} for task in tasks]
        same = [{"id": 3, "data": task["data"]} for task in tasks]
        assert said(hook.predict(nameless)) == said(hook.predict(same)) == said(hook.predict(tasks))

    def test_predictions_come_from_the_order_that_label_studio_serves(
        self, hook: LungUltrasoundModel, services: Services, installation: Installation
    ) -> None:
        tasks, active, newer = installation.tasks, installation.first, installation.second
        name = serve(services, active.version, [0.1, 0.5, 0.9])
        services.versions(PROJECT).activate(newer.version, by="a test")
        results = hook.predict(tasks)
        assert {result["model_version"] for result in results} == {name} == {hook.served_version}
        _, probabilities = expected(services, tasks, active)
        told = [list(result["result"][0][AUDIT]["probabilities"].values()) for result in results]
        np.testing.assert_allclose(told, probabilities, atol=1e-4)
        assert np.abs(told - expected(services, tasks, newer)[1]).max() > 1e-3

    def test_an_order_without_a_version_gives_no_predictions(
        self, hook: LungUltrasoundModel, services: Services, tasks: list[dict[str, Any]], active: Manifest
    ) -> None:
        name = serve(services, None, [0.0, 0.5], strategy="diversity")
        assert hook.predict(tasks) == [{"model_version": name, "score": 1.0, "result": []}] * 3

    def test_the_score_is_the_place_in_the_order_by_its_own_strategy(
        self, hook: LungUltrasoundModel, services: Services, tasks: list[dict[str, Any]], active: Manifest
    ) -> None:
        assert services.settings.strategy != "lc"
        values = score(expected(services, tasks, active)[1], "lc", np.random.default_rng(0))
        order = [float(values.min()) - 1, float(np.median(values)), float(values.max()) + 1]
        serve(services, active.version, order, strategy="lc")
        results = hook.predict(tasks)
        places = [result["score"] for result in results]
        assert places == [float(np.searchsorted(order, value) / 3) for value in values]
        assert set(places) == {1 / 3, 2 / 3}
        assert {result["result"][0][AUDIT]["strategy"] for result in results} == {"lc"}

    def test_a_version_with_other_symptoms_gives_no_predictions(
        self, services: Services, tasks: list[dict[str, Any]], active: Manifest
    ) -> None:
        xml = XML.replace("Healthy", "Normal").replace("A-line", "C-line").replace("B-line", "D-line")
        other = LungUltrasoundModel(str(PROJECT), xml, services)
        assert said(other.predict(tasks)) == [None] * 3

    def test_a_changed_configuration_keeps_the_symptoms_that_stay(
        self, services: Services, tasks: list[dict[str, Any]], active: Manifest
    ) -> None:
        """C-line is new, A-line was removed, and the others stand in another order."""
        choices, probabilities = expected(services, tasks, active)
        assert any("A-line" in one for one in choices)
        assert any("b" in one for one in choices)
        xml = XML.replace('<Choice value="A-line"/>', "").replace(
            '<Choice value="Healthy"/>', '<Choice value="C-line"/>'
        )
        xml = xml.replace("</Choices>", '<Choice value="Healthy"/></Choices>')
        results = LungUltrasoundModel(str(PROJECT), xml, services).predict(tasks)
        assert said(results) == [[one for one in ("b", "Healthy") if one in ticked] for ticked in choices]
        for result, row in zip(results, probabilities, strict=True):
            shown = result["result"][0][AUDIT]["probabilities"]
            assert shown == {"B-line": pytest.approx(row[2], abs=1e-4), "Healthy": pytest.approx(row[0], abs=1e-4)}

    def test_a_damaged_or_missing_version_is_an_error(
        self, hook: LungUltrasoundModel, services: Services, tasks: list[dict[str, Any]], active: Manifest
    ) -> None:
        store = services.versions(PROJECT)
        store.activate(store.create(active, lambda path: path.write_bytes(b"no weights")).version, by="a test")
        with pytest.raises(VersionUnknown, match="cannot be read"):
            hook.predict(tasks)
        shutil.rmtree(services.folder(PROJECT) / "versions" / str(store.active()))
        with pytest.raises(VersionUnknown, match="is not in"):
            hook.predict(tasks)

    def test_another_project_has_another_version(
        self, services: Services, tasks: list[dict[str, Any]], active: Manifest
    ) -> None:
        assert LungUltrasoundModel("8", XML, services).predict(tasks)[0]["model_version"] == UNTRAINED

    def test_the_configuration_must_be_there_and_usable(self, services: Services, tasks: list[dict[str, Any]]) -> None:
        with pytest.raises(InvalidRequest, match="label_config"):
            LungUltrasoundModel("7", None, services).predict(tasks)
        for xml in ("<View/>", "no XML", "<?xml version='1.0' encoding='utf-8'?>" + XML):
            with pytest.raises(ConfigurationUnusable):
                LungUltrasoundModel("7", xml, services)


@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), (("ANNOTATION_CREATED", "data"), {}), ((), {"event": 1, "data": {}}), (((),), {})]
)
def test_fit_without_an_event_is_refused(services: Services, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="event"):
        LungUltrasoundModel("7", services=services).fit(*args, **kwargs)


@pytest.mark.parametrize("told", [None, 5, {}, {"id": "x"}])
def test_fit_without_a_project_is_refused(services: Services, told: object) -> None:
    with pytest.raises(InvalidRequest, match="project"):
        LungUltrasoundModel(services=services).fit("START_TRAINING", {"project": told})


def webhook(number: int) -> dict[str, Any]:
    return {
        "action": "ANNOTATION_CREATED",
        "annotation": {"id": number, "task": number, "was_cancelled": False},
        "project": {"id": PROJECT, "label_config": XML},
    }


@pytest.fixture
def as_installed(installation: Installation, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Services:
    """The same installation with Redis, as a framework's own server finds it through the environment."""
    settings = settings_in(installation.folder, redis_url, k_max=2)
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    model.shared_services.cache_clear()
    return Services(settings)


class TestUnder1:
    """label-studio-ml 1.0.9 as it is installed, its own server included."""

    def test_its_server_sets_up_and_predicts(
        self, as_installed: Services, active: Manifest, tasks: list[dict[str, Any]], tmp_path: Path
    ) -> None:
        init_app(LungUltrasoundModel, model_dir=str(tmp_path / "models"))
        client = framework.test_client()
        sent = {"project": f"{PROJECT}.1795374234", "schema": XML, "hostname": "http://localhost", "access_token": "t"}
        assert client.post("/setup", json=sent).status_code == 200
        params = {"login": None, "password": None, "context": None}
        answer = client.post("/predict", json={"tasks": tasks, "label_config": XML, "params": params})
        assert said(answer.get_json()["results"]) == expected(as_installed, tasks, active)[0]

    def test_its_job_manager_hands_on_every_event(
        self, installation: Installation, as_installed: Services, tmp_path: Path
    ) -> None:
        manager = SimpleJobManager(str(tmp_path))
        told = [webhook(1), webhook(2)]
        results = [
            manager.job(LungUltrasoundModel, data["action"], {"project": data["project"], **data}, f"{number}")
            for number, data in enumerate(told)
        ]
        assert results == [{}, {"job": f"finetune-{PROJECT}-after-{installation.second.version}"}]
        deleted = {"annotations": [{"id": 1}], "project": {"id": PROJECT}}
        manager.job(LungUltrasoundModel, "ANNOTATIONS_DELETED", deleted, "3")
        assert as_installed.pending(PROJECT).tasks() == {2}


def in_another_process(*arguments: str) -> str:
    """What Python says with these arguments."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_under_2(
    installation: Installation, as_installed: Services, active: Manifest, tasks: list[dict[str, Any]]
) -> None:
    """The interface of label-studio-ml 2.x, in a process of its own because the base class is another."""
    events = [["ANNOTATION_CREATED", webhook(1)], ["ANNOTATION_UPDATED", webhook(2)]]
    request = {"project": str(PROJECT), "xml": XML, "tasks": tasks, "events": events}
    output = in_another_process("-m", "tests.label_studio_ml_2", json.dumps(request))
    answer = json.loads(output)
    job = f"finetune-{PROJECT}-after-{installation.second.version}"
    assert answer["version"] == active.version
    assert said(answer["results"]) == expected(as_installed, tasks, active)[0]
    assert answer["told"] == [{}, {"job": job}, {}]
    assert "<Choices>" in answer["refused"]
    assert answer["shared"]
    assert list(jobs.queue(as_installed).job_ids) == [job]


SERVER_OF_2 = """
import json, os, sys
sys.path.insert(0, os.environ["TSAL_TEST_LABEL_STUDIO_ML"])
import label_studio_ml
from label_studio_ml.api import init_app
from ml_backend.model import LungUltrasoundModel
client = init_app(LungUltrasoundModel).test_client()
answers = [client.post(path, json=body) for path, body in json.loads(sys.argv[1])]
print(json.dumps([label_studio_ml.__version__, *((one.status_code, one.get_json()) for one in answers)]))
"""


@pytest.mark.skipif(
    "TSAL_TEST_LABEL_STUDIO_ML" not in os.environ,
    reason="set TSAL_TEST_LABEL_STUDIO_ML to a folder with label-studio-ml 2.x, which is on no package index",
)
def test_the_server_of_2_serves_the_same(
    installation: Installation,
    as_installed: Services,
    active: Manifest,
    tasks: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """label-studio-ml 2.x as its repository has it, its own server and its own cache included."""
    monkeypatch.setenv("MODEL_DIR", str(tmp_path))
    sent = {"project": f"{PROJECT}.1795374234", "schema": XML, "hostname": "http://localhost", "access_token": "t"}
    params = {"login": None, "password": None, "context": None}
    asked = {"tasks": tasks, "project": f"{PROJECT}.1795374234", "label_config": XML, "params": params}
    request = [("/setup", sent), ("/predict", asked), ("/webhook", webhook(1)), ("/webhook", webhook(2))]
    output = in_another_process("-c", SERVER_OF_2, json.dumps(request))
    release, setup, predicted, first, second = json.loads(output.splitlines()[-1])
    assert release.startswith("2.")
    assert setup == [200, {"model_version": active.version}]
    assert said(predicted[1]["results"]) == expected(as_installed, tasks, active)[0]
    job = f"finetune-{PROJECT}-after-{installation.second.version}"
    assert [one[1]["result"] for one in (first, second)] == [{}, {"job": job}]
    assert list(jobs.queue(as_installed).job_ids) == [job]


WITHOUT = """
import json, sys
sys.modules["label_studio_ml"] = None  # any import of it fails, as where it is not installed
from ml_backend.model import LabelStudioMLBase
from ml_backend.web.app import create_app
request = json.loads(sys.argv[1])
client = create_app().test_client()
answers = [client.get("/health"), *(client.post(path, json=body) for path, body in request)]
print(json.dumps([LabelStudioMLBase.__module__, *((one.status_code, one.get_json()) for one in answers)]))
"""


def test_without_label_studio_ml_the_backend_serves_the_same(
    installation: Installation, as_installed: Services, active: Manifest, tasks: list[dict[str, Any]]
) -> None:
    body = {"project": f"{PROJECT}.1795374234", "label_config": XML, "schema": XML, "tasks": tasks}
    broken = body | {"schema": "<View/>"}
    request = [
        ("/setup", body),
        ("/predict", body),
        ("/webhook", webhook(1)),
        ("/webhook", webhook(2)),
        ("/setup", broken),
    ]
    output = in_another_process("-c", WITHOUT, json.dumps(request))
    base, health, setup, predicted, first, second, refused = json.loads(output.splitlines()[-1])
    assert base == "ml_backend.model"
    assert health[0] == 200
    assert setup == [200, {"model_version": active.version}]
    assert said(predicted[1]["results"]) == expected(as_installed, tasks, active)[0]
    assert (first, second) == ([200, {}], [200, {"job": f"finetune-{PROJECT}-after-{installation.second.version}"}])
    assert refused[0] == 400
