"""The HTTP protocol: what Label Studio sends, and what anybody else may send."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from gunicorn.http.body import Body, ChunkedReader
from gunicorn.http.unreader import IterUnreader
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from rq import SimpleWorker
from rq.serializers import JSONSerializer
from werkzeug.test import TestResponse

from ml_backend.errors import SettingsError
from ml_backend.loop import confirm, jobs
from ml_backend.model import LungUltrasoundModel
from ml_backend.services import Services
from ml_backend.store.counters import Counters
from ml_backend.store.format import FILE, PRESENT, Stamp
from ml_backend.store.versions import Manifest
from ml_backend.studio.payloads import Checker
from ml_backend.web.access import SECRET_HEADER
from ml_backend.web.app import MAX_BODY_BYTES, create_app
from ml_backend.web.attempts import FAILURES
from ml_backend.web.health import Health
from tests.installation import (
    CONFIGURATION,
    PROJECT,
    XML,
    environment_of,
    make_version,
    manifest_of,
    settings_in,
    task_with_frame,
    write_no_weights,
)
from tests.redis_server import RedisServer, stopped_redis
from tests.studio.site import running_site
from tests.studio_stand_in import StudioStandIn

JOB = f"finetune-{PROJECT}-after-nothing"
AUDITED = {"calibration_error": 0.125, "automation_bias": {"value": 0.2, "low": -0.05, "high": 0.4}}
SENT_PROJECT = f"{PROJECT}.1795374234"
SECRET, USER, PASSWORD = "a-secret", "label-studio", "a-password"


@pytest.fixture
def services(tmp_path: Path, redis_url: str) -> Services:
    return Services(settings_in(tmp_path, redis_url))


@pytest.fixture
def client(services: Services) -> FlaskClient:
    return create_app(services.settings).test_client()


def annotated(number: int) -> dict[str, Any]:
    """The webhook of one annotation, as Label Studio sends it."""
    return {
        "action": "ANNOTATION_CREATED",
        "annotation": {"id": number, "task": number, "was_cancelled": False, "result": [], "updated_by": 1},
        "task": {"id": number, "data": {"image": "x"}},
        "project": {"id": PROJECT, "title": "Lungs", "token": "invitation", "label_config": XML},
    }


def error_of(response: TestResponse, status: int) -> str:
    """The message of a refusal, which is JSON whatever was asked."""
    assert response.status_code == status, response.get_data(as_text=True)
    assert response.content_type == "application/json"
    body = json.loads(response.get_data())
    assert list(body) == ["error"]
    assert "Traceback" not in body["error"]
    return str(body["error"])


def test_a_data_folder_that_a_newer_release_took_over_is_answered_with_503(
    client: FlaskClient, services: Services
) -> None:
    services.settings.data_dir.mkdir(exist_ok=True)
    (services.settings.data_dir / FILE).write_text(Stamp(format=PRESENT + 1, written_by="9.8.7").model_dump_json())
    sent = {"project": SENT_PROJECT, "schema": XML}
    assert "install 9.8.7" in error_of(client.post("/setup", json=sent), 503)


class TestSetup:
    def test_setup_names_the_version_that_predictions_carry(self, client: FlaskClient, services: Services) -> None:
        sent = {"project": SENT_PROJECT, "schema": XML, "hostname": "http://localhost", "access_token": "t"}
        assert client.post("/setup", json=sent).get_json() == {"model_version": "untrained"}
        store = services.versions(PROJECT)
        version = store.create(manifest_of(), write_no_weights).version
        store.activate(version, by="a test")
        assert client.post("/setup", json=sent).get_json() == {"model_version": version}

    @pytest.mark.parametrize(
        ("schema", "said"),
        [
            ("<View/>", "there is no <Choices>"),
            (XML.replace("multiple", "single"), 'choice="multiple"'),
            ("<View", "not XML"),
            ("", "schema"),
            (None, "schema"),
            ({"View": []}, "schema"),
        ],
    )
    def test_an_unusable_configuration_is_refused_with_a_remedy(
        self, client: FlaskClient, schema: object, said: str
    ) -> None:
        assert said in error_of(client.post("/setup", json={"project": SENT_PROJECT, "schema": schema}), 400)

    @pytest.mark.parametrize("project", ["", "none", None, {"id": 7}, "7;drop", "../7"])
    def test_an_invalid_project_is_refused(self, client: FlaskClient, project: object) -> None:
        assert "project" in error_of(client.post("/setup", json={"project": project, "schema": XML}), 400)


class TestPredict:
    @pytest.fixture(scope="class")
    def trained(self, tmp_path_factory: pytest.TempPathFactory) -> tuple[Services, list[dict[str, Any]], Manifest]:
        folder = tmp_path_factory.mktemp("trained")
        services = Services(settings_in(folder))
        tasks = [task_with_frame(folder, number) for number in (5, 4, 6)]
        manifest = make_version(services, tasks, seed=1)
        services.versions(PROJECT).activate(manifest.version, by="a test")
        return services, tasks, manifest

    def test_one_valid_result_a_task_in_order_with_redis_down(
        self, trained: tuple[Services, list[dict[str, Any]], Manifest]
    ) -> None:
        services, tasks, manifest = trained
        client = create_app(services.settings).test_client()
        sent = [tasks[0], {"id": 9, "data": {"image": "/data/local-files/?d=gone.png"}}, tasks[1], tasks[2]]
        body = {
            "tasks": sent,
            "project": SENT_PROJECT,
            "label_config": XML,
            "params": {"login": None, "password": None, "context": None},
        }
        results = client.post("/predict", json=body).get_json()["results"]
        assert [len(result["result"]) for result in results] == [1, 0, 1, 1]
        checker = Checker(CONFIGURATION)
        for task, result in zip(sent, results, strict=True):
            assert checker.errors(result) == []
            assert result["model_version"] == manifest.version
            assert [one["id"] for one in result["result"]] in ([], [f"symptoms-{task['id']}"])
        alone = [client.post("/predict", json=body | {"tasks": [task]}).get_json()["results"][0] for task in sent]
        for one, among in zip(alone, results, strict=True):
            assert [item["value"] for item in one["result"]] == [item["value"] for item in among["result"]]

    def test_frames_come_over_http_from_an_allowed_host_only(
        self, trained: tuple[Services, list[dict[str, Any]], Manifest]
    ) -> None:
        services, tasks, _ = trained
        root = services.settings.document_root
        assert root is not None
        picture = (root / "5.png").read_bytes()
        with running_site() as site, running_site() as stranger:
            task = {"id": 21, "data": {"image": site.serves("/frame.png", picture)}}
            other = {"id": 22, "data": {"image": stranger.serves("/frame.png", picture)}}
            settings = settings_in(root.parent, allowed_hosts=(site.host,))
            client = create_app(settings).test_client()
            body = {"tasks": [tasks[0], task, other], "project": PROJECT, "label_config": XML}
            results = client.post("/predict", json=body).get_json()["results"]
        assert results[0]["result"][0]["value"] == results[1]["result"][0]["value"]
        assert results[2]["result"] == []
        assert stranger.asked == []

    def test_before_training_and_for_an_unknown_project_results_are_empty(self, client: FlaskClient) -> None:
        body = {"tasks": [{"id": 1, "data": {"image": "x"}}, {}], "project": "999", "label_config": XML}
        nothing = {"model_version": "untrained", "result": [], "score": 1.0}
        assert client.post("/predict", json=body).get_json() == {"results": [nothing, nothing]}

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"tasks": None}, "tasks"),
            ({"tasks": {"id": 1}}, "tasks"),
            ({"tasks": [{"id": 1}, 2]}, "tasks.1"),
            ({"project": None}, "project"),
            ({"project": []}, "project"),
            ({"label_config": None}, "label_config"),
            ({"label_config": ""}, "label_config"),
            ({"label_config": "<View/>"}, "labelling configuration"),
        ],
    )
    def test_wrong_types_are_refused_by_the_name_of_the_field(
        self, client: FlaskClient, change: dict[str, Any], named: str
    ) -> None:
        body = {"tasks": [], "project": SENT_PROJECT, "label_config": XML}
        assert client.post("/predict", json=body).get_json() == {"results": []}
        assert named in error_of(client.post("/predict", json=body | change), 400)

    def test_an_unexpected_error_reveals_no_details(
        self, client: FlaskClient, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise KeyError("insides")

        monkeypatch.setattr(LungUltrasoundModel, "predict", fail)
        body = {"tasks": [], "project": SENT_PROJECT, "label_config": XML}
        assert "insides" not in error_of(client.post("/predict", json=body), 500)


class TestWebhook:
    def test_a_batch_enqueues_one_job(self, client: FlaskClient, services: Services) -> None:
        answers = [client.post("/webhook", json=annotated(number)).get_json() for number in (1, 2, 2, 3, 4, 5)]
        assert answers == [{}, {}, {}, {}, {"job": JOB}, {}]
        assert list(jobs.queue(services).job_ids) == [JOB]

    def test_many_at_once_enqueue_one_job(self, services: Services) -> None:
        app = create_app(services.settings)

        def post(number: int) -> Any:
            return app.test_client().post(f"/webhook?project={PROJECT}", json=annotated(number)).get_json()

        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(post, range(1, 61)))
        assert (answers.count({"job": JOB}), answers.count({})) == (1, 59)
        assert services.pending(PROJECT).count() == 60
        assert list(jobs.queue(services).job_ids) == [JOB]

    def test_the_project_may_stand_in_the_address_alone(self, client: FlaskClient, services: Services) -> None:
        told = {name: value for name, value in annotated(1).items() if name != "project"}
        assert client.post("/webhook?project=8", json=told).get_json() == {}
        assert services.pending(8).count() == 1
        assert client.post("/webhook?project=8", json={"action": "ANNOTATION_CREATED"}).get_json() == {}

    def test_two_projects_are_refused_and_nothing_is_noted(self, client: FlaskClient, services: Services) -> None:
        error = error_of(client.post("/webhook?project=8", json=annotated(1)), 400)
        assert "'8'" in error
        assert "7" in error
        assert services.redis.keys() == []

    def test_label_studio_can_ask_for_training(self, client: FlaskClient) -> None:
        asked = {"action": "START_TRAINING", "project": {"id": PROJECT, "title": "Lungs"}}
        assert client.post("/webhook", json=asked).get_json() == {"job": JOB}
        assert client.post("/webhook", json=asked).get_json() == {}

    @pytest.mark.parametrize("action", ["PROJECT_UPDATED", "SOMETHING_NEW"])
    def test_other_events_are_taken_and_ignored(self, client: FlaskClient, services: Services, action: str) -> None:
        answer = client.post("/webhook", json=annotated(1) | {"action": action})
        assert (answer.status_code, answer.get_json()) == (200, {})
        assert services.redis.keys() == []

    @pytest.mark.parametrize(
        ("query", "change", "named"),
        [
            ("", {"action": None}, "action"),
            ("", {"action": ["ANNOTATION_CREATED"]}, "action"),
            ("", {"project": 7}, "project"),
            ("", {"project": {"id": "7"}}, "project.id"),
            ("", {"project": {"title": "Lungs"}}, "project.id"),
            ("", {"project": None}, "project"),
            ("?project=", {"project": None}, "project"),
            ("?project=seven", {"project": None}, "project"),
            ("", {"annotation": {"id": "1"}}, "annotation.0.id"),
        ],
    )
    def test_wrong_types_are_refused_by_the_name_of_the_field(
        self, client: FlaskClient, query: str, change: dict[str, Any], named: str
    ) -> None:
        assert named in error_of(client.post(f"/webhook{query}", json=annotated(1) | change), 400)


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


RIGHT, WRONG_PASSWORD, WRONG_USER = basic(USER, PASSWORD), basic(USER, "guess"), basic("guess", PASSWORD)
SECRET_SENT, SECRET_WRONG = {SECRET_HEADER: SECRET}, {SECRET_HEADER: "guess"}
BOTH = {"basic_auth_user": USER, "basic_auth_password": PASSWORD}
ALL = BOTH | {"webhook_secret": SECRET, "host": "0.0.0.0"}


class TestAuthentication:
    def client(self, folder: Path, redis_url: str, **changes: Any) -> FlaskClient:
        return create_app(settings_in(folder, redis_url, **changes)).test_client()

    @pytest.mark.parametrize(
        ("configured", "headers", "others", "webhook"),
        [
            # on a loopback address nothing is needed, and what is set is
            ({}, {}, 200, 200),
            ({}, RIGHT, 200, 200),
            ({"webhook_secret": SECRET}, {}, 200, 401),
            ({"webhook_secret": SECRET}, SECRET_WRONG, 200, 401),
            ({"webhook_secret": SECRET}, SECRET_SENT, 200, 200),
            ({"webhook_secret": SECRET}, RIGHT, 200, 401),
            (BOTH, {}, 401, 200),
            (BOTH, RIGHT, 200, 200),
            # elsewhere both are needed: the secret for webhooks, the password for Label Studio's own calls
            (ALL, {}, 401, 401),
            (ALL, RIGHT, 200, 200),
            (ALL, SECRET_SENT, 401, 200),
            (ALL, SECRET_WRONG, 401, 401),
            (ALL, SECRET_WRONG | RIGHT, 200, 200),
            (ALL, SECRET_SENT | WRONG_PASSWORD, 401, 200),
            (ALL, WRONG_PASSWORD, 401, 401),
            (ALL, WRONG_USER, 401, 401),
            (ALL, basic(USER, ""), 401, 401),
            (ALL, basic(USER, PASSWORD + "x"), 401, 401),
            (ALL, basic("", ""), 401, 401),
            (ALL, {"Authorization": "Basic nonsense"}, 401, 401),
            (ALL, {"Authorization": "Basic nonsensé"}, 401, 401),
            (ALL, {"Authorization": "Bearer " + PASSWORD}, 401, 401),
            (ALL, {SECRET_HEADER: "é" * 8}, 401, 401),
            (ALL, {SECRET_HEADER: ""}, 401, 401),
        ],
    )
    def test_access_by_secret_password_and_origin(
        self,
        tmp_path: Path,
        redis_url: str,
        configured: dict[str, Any],
        headers: dict[str, str],
        others: int,
        webhook: int,
    ) -> None:
        client = self.client(tmp_path, redis_url, **configured)
        setup = {"project": "7", "schema": XML}
        predict = {"tasks": [], "project": "7", "label_config": XML}
        assert client.post("/setup", json=setup, headers=headers).status_code == others
        assert client.post("/predict", json=predict, headers=headers).status_code == others
        assert client.get("/versions", headers=headers).status_code == others
        assert client.post("/webhook?project=7", json=annotated(1), headers=headers).status_code == webhook
        assert client.get("/health", headers=headers).status_code == 200

    def test_a_refusal_says_what_is_missing_and_no_secret(self, tmp_path: Path, redis_url: str) -> None:
        on_loopback = self.client(tmp_path, redis_url, webhook_secret=SECRET)
        error = error_of(on_loopback.post("/webhook?project=7", json=annotated(1)), 401)
        assert SECRET_HEADER in error
        assert "TSAL_BASIC_AUTH_USER" in error
        elsewhere = self.client(tmp_path, redis_url, **ALL)
        errors = error + error_of(elsewhere.post("/predict", json={}, headers=WRONG_PASSWORD), 401)
        for secret in (SECRET, PASSWORD, "guess"):
            assert secret not in errors

    def test_a_refused_request_changes_nothing(self, tmp_path: Path, redis_url: str) -> None:
        self.client(tmp_path, redis_url, **ALL).post("/webhook?project=7", json=annotated(1))
        assert Services(settings_in(tmp_path, redis_url)).redis.keys() == []

    def test_secrets_are_compared_in_constant_time(
        self, tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        compared: list[tuple[bytes, bytes]] = []

        def compare(one: bytes, other: bytes) -> bool:
            compared.append((one, other))
            return one == other

        monkeypatch.setattr(hmac, "compare_digest", compare)
        client = self.client(tmp_path, redis_url, **ALL)
        client.post("/webhook?project=7", json=annotated(1), headers=SECRET_WRONG | WRONG_USER)
        assert compared == [
            (b"guess", SECRET.encode()),
            (b"guess", USER.encode()),
            (PASSWORD.encode(), PASSWORD.encode()),
        ]

    @pytest.mark.parametrize("page", ["/versions", "/metrics", "/health", "/webhook?project=7"])
    def test_guesses_from_another_machine_have_to_wait_on_every_page(
        self, tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch, page: str
    ) -> None:
        monkeypatch.setattr(Health, "known", lambda _, reasons: {"reasons": reasons})
        client = self.client(tmp_path, redis_url, **ALL)

        def status(headers: dict[str, str], address: str = "203.0.113.9") -> int:
            where = {"REMOTE_ADDR": address}
            if page.startswith("/webhook"):
                return client.post(page, json=annotated(1), headers=headers, environ_overrides=where).status_code
            response = client.get(page, headers=headers, environ_overrides=where)
            if page == "/health":  # it is open to all, and tells more to those who have the password
                return 200 if response.get_json()["reasons"] else 401
            return response.status_code

        wrong = SECRET_WRONG if page.startswith("/webhook") else WRONG_PASSWORD
        assert status({}) == 401
        assert [status(wrong) for _ in range(FAILURES)] == [401] * FAILURES
        assert status(RIGHT) == (401 if page == "/health" else 429)
        assert status(RIGHT, "203.0.113.10") == 200

    def test_no_guess_locks_out_this_machine(self, tmp_path: Path, redis_url: str) -> None:
        client = self.client(tmp_path, redis_url, **ALL)
        for _ in range(2 * FAILURES):
            assert client.get("/versions", headers=WRONG_PASSWORD).status_code == 401
        assert client.get("/versions", headers=RIGHT).status_code == 200

    def test_no_server_for_other_machines_without_authentication(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="TSAL_WEBHOOK_SECRET"):
            create_app(settings_in(tmp_path, host="0.0.0.0"))

    def test_a_proxy_that_looks_like_this_machine_gets_nothing_without_the_secrets(
        self, tmp_path: Path, redis_url: str
    ) -> None:
        """nginx's plain `proxy_pass http://127.0.0.1:9090;` sends no header of its own and the name of its target."""
        url = {"backend_url": "https://backend.example.com"}
        with pytest.raises(SettingsError, match="TSAL_WEBHOOK_SECRET"):
            create_app(settings_in(tmp_path, **url))
        client = self.client(tmp_path, redis_url, **url, **ALL)
        origin = {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "127.0.0.1:9090"}
        for path in ("/metrics", "/versions"):
            error_of(client.get(path, environ_overrides=origin), 401)

    @pytest.mark.parametrize(
        ("peer", "host", "headers", "inside"),
        [
            ("127.0.0.1", "localhost:9090", {}, True),
            ("127.0.0.1", "127.0.0.1", {}, True),
            ("::1", "[::1]:9090", {}, True),
            ("::ffff:127.0.0.1", "localhost", {}, True),
            ("192.0.2.9", "localhost:9090", {}, False),
            ("::ffff:192.0.2.9", "localhost", {}, False),
            ("", "localhost", {}, False),
            ("127.0.0.1", "backend.example.com", {}, False),
            ("127.0.0.1", "localhost.example.com", {}, False),
            ("127.0.0.1", "192.0.2.2:9090", {}, False),
            ("127.0.0.1", "", {}, False),
            ("127.0.0.1", "localhost", {"X-Forwarded-For": "127.0.0.1"}, False),
            ("127.0.0.1", "localhost", {"X-Forwarded-Proto": "https"}, False),
            ("127.0.0.1", "localhost", {"Forwarded": "for=192.0.2.9"}, False),
            ("127.0.0.1", "localhost", {"X-Real-IP": "192.0.2.9"}, False),
            ("127.0.0.1", "localhost", {"Via": "1.1 proxy"}, False),
        ],
    )
    def test_without_secrets_only_this_machine_gets_in(
        self, tmp_path: Path, redis_url: str, peer: str, host: str, headers: dict[str, str], inside: bool
    ) -> None:
        """The server may be bound to any address whatever TSAL_HOST says, and a proxy may stand on this machine."""
        client = self.client(tmp_path, redis_url)
        origin = {"REMOTE_ADDR": peer, "HTTP_HOST": host}
        for method, path in (("POST", "/predict"), ("POST", "/webhook?project=7"), ("GET", "/versions")):
            predict = {"tasks": [], "project": "7", "label_config": XML}
            sent: dict[str, Any] = {"json": annotated(1) if "webhook" in path else predict} if method == "POST" else {}
            response = client.open(path, method=method, headers=headers, environ_overrides=origin, **sent)
            if inside:
                assert response.status_code == 200
            else:
                error = error_of(response, 401)
                assert "TSAL_WEBHOOK_SECRET" in error
                assert "TSAL_BASIC_AUTH_PASSWORD" in error
        assert client.get("/health", headers=headers, environ_overrides=origin).status_code == 200

    @pytest.mark.parametrize("configured", [{"webhook_secret": SECRET}, BOTH])
    def test_half_of_the_secrets_open_nothing_to_other_machines(
        self, tmp_path: Path, redis_url: str, configured: dict[str, Any]
    ) -> None:
        client = self.client(tmp_path, redis_url, **configured)
        origin = {"REMOTE_ADDR": "192.0.2.9"}
        for path in ("/predict", "/setup", "/webhook?project=7"):
            error_of(client.post(path, json=annotated(1), environ_overrides=origin), 401)
        right = SECRET_SENT if "webhook_secret" in configured else RIGHT
        sent = client.post("/webhook?project=7", json=annotated(1), headers=right, environ_overrides=origin)
        assert sent.status_code == 200


class TestErrors:
    @pytest.mark.parametrize("route", ["/setup", "/predict", "/webhook"])
    @pytest.mark.parametrize(
        ("body", "content_type"),
        [
            (b"", "application/json"),
            (b"{", "application/json"),
            (b"[]", "application/json"),
            (b"null", "application/json"),
            (b'"text"', "application/json"),
            (b"\xff\xfe", "application/json"),
            (b"[" * 100_000, "application/json"),
            (b'{"a":' * 100_000, "application/json"),
            (b'{"project": ' + b"1" * 5000 + b"}", "application/json"),
            (b'{"action": "START_TRAINING"}', "text/plain"),
            (b"project=7", "application/x-www-form-urlencoded"),
            (b"{}", ""),
        ],
    )
    def test_a_body_that_is_not_a_json_object_is_refused(
        self, client: FlaskClient, route: str, body: bytes, content_type: str
    ) -> None:
        error = error_of(client.post(route, data=body, content_type=content_type), 400)
        assert "Content-Type" in error

    def test_an_unknown_path_is_not_found(self, client: FlaskClient) -> None:
        error_of(client.get("/nowhere"), 404)
        error_of(client.post("/train", json={}), 404)

    def test_a_wrong_method_is_refused_with_the_allowed_ones(self, client: FlaskClient) -> None:
        response = client.get("/predict")
        error_of(response, 405)
        assert "POST" in response.headers["Allow"]
        error_of(client.delete("/health"), 405)

    def test_a_body_that_is_too_large_is_refused_unread(self, client: FlaskClient) -> None:
        content_length = {"CONTENT_LENGTH": str(MAX_BODY_BYTES + 1)}
        response = client.post(
            "/predict", data=b"{}", content_type="application/json", environ_overrides=content_length
        )
        error_of(response, 413)

    @pytest.mark.parametrize("chunks", [b"x\r\n{}\r\n", b"-1\r\n{}\r\n", b"2\r\n{}0\r\n\r\n", b"2\r\n{}\r\n0\r\n"])
    def test_a_body_in_broken_chunks_is_refused(self, client: FlaskClient, chunks: bytes) -> None:
        body = Body(ChunkedReader(None, IterUnreader([chunks])))
        as_gunicorn_does = {"wsgi.input": body, "wsgi.input_terminated": True}
        error_of(client.post("/predict", content_type="application/json", environ_overrides=as_gunicorn_does), 400)

    def test_versions_are_those_of_all_projects(self, client: FlaskClient, services: Services) -> None:
        assert client.get("/versions").get_json() == {"versions": []}
        names = [services.versions(project).create(manifest_of(), write_no_weights).version for project in (7, 12)]
        assert client.get("/versions").get_json() == {"versions": names}


class TestWithoutRedis:
    @pytest.fixture
    def redis(self, tmp_path: Path) -> Iterator[RedisServer]:
        with stopped_redis(tmp_path / "redis") as server:
            yield server

    @pytest.fixture
    def client(self, tmp_path: Path, redis: RedisServer) -> FlaskClient:
        return create_app(settings_in(tmp_path, redis.url)).test_client()

    def health(self, client: FlaskClient) -> str:
        response = client.get("/health")
        assert response.status_code == 200
        assert response.get_json()["status"] == "UP"
        return str(response.get_json()["redis"])

    def works(self, client: FlaskClient) -> None:
        assert client.post("/setup", json={"project": "7", "schema": XML}).status_code == 200
        body = {"tasks": [{"id": 1}], "project": "7", "label_config": XML}
        assert len(client.post("/predict", json=body).get_json()["results"]) == 1

    def test_without_redis_the_rest_works_and_webhooks_recover(self, client: FlaskClient, redis: RedisServer) -> None:
        assert self.health(client) == "DOWN"
        self.works(client)
        assert "Redis does not answer" in error_of(client.post("/webhook", json=annotated(1)), 503)
        redis.start().close()
        assert self.health(client) == "UP"
        assert client.post("/webhook", json=annotated(1)).get_json() == {}
        redis.stop()
        assert self.health(client) == "DOWN"
        self.works(client)
        assert "Redis does not answer" in error_of(client.post("/webhook", json=annotated(2)), 503)
        redis.start().close()
        assert self.health(client) == "UP"
        assert [client.post("/webhook", json=annotated(number)).get_json() for number in (2, 3, 4)][-1] == {"job": JOB}

    def test_without_an_address_the_setting_is_named(self, tmp_path: Path) -> None:
        client = create_app(settings_in(tmp_path)).test_client()
        assert self.health(client) == "DOWN"
        assert "TSAL_REDIS_URL" in error_of(client.post("/webhook", json=annotated(1)), 503)


# Anything at all, and what looks like Label Studio's bodies until one looks closer.
TEXTS = st.text(max_size=20) | st.sampled_from(["", "7", "7.5", "\ud800", "\0", XML, "<View/>", "ANNOTATION_CREATED"])
NUMBERS = st.integers(-(2**70), 2**70) | st.integers(-2, 9) | st.floats()
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(TEXTS, parts, max_size=4),
    max_leaves=12,
)
ANNOTATIONS = JSON | st.fixed_dictionaries({"id": NUMBERS | JSON, "task": NUMBERS | JSON, "was_cancelled": JSON})
TASKS = JSON | st.fixed_dictionaries(
    {}, optional={"id": NUMBERS | JSON, "data": JSON | st.dictionaries(st.just("image"), TEXTS | JSON)}
)
PROJECTS = st.just("7") | JSON | st.fixed_dictionaries({"id": NUMBERS})
CONFIGURATIONS = st.just(XML) | JSON | TEXTS.map(lambda text: XML.replace("symptoms", text))
BODIES = {
    "/setup": JSON | st.fixed_dictionaries({"project": PROJECTS, "schema": CONFIGURATIONS}),
    "/predict": JSON
    | st.fixed_dictionaries(
        {"project": PROJECTS, "label_config": CONFIGURATIONS, "tasks": JSON | st.lists(TASKS, max_size=3)},
        optional={"params": JSON},
    ),
    "/webhook": JSON
    | st.fixed_dictionaries(
        {"action": st.sampled_from([*confirm.ACTIONS, "PROJECT_UPDATED"]) | JSON},
        optional={
            "project": PROJECTS,
            "annotation": ANNOTATIONS | st.lists(ANNOTATIONS, max_size=3),
            "annotations": ANNOTATIONS | st.lists(ANNOTATIONS, max_size=3),
        },
    ),
}


class TestFuzz:
    @pytest.fixture(scope="class")
    def app(self, tmp_path_factory: pytest.TempPathFactory, running_redis: RedisServer) -> Flask:
        """With a version that is active, so that frames are looked for."""
        folder = tmp_path_factory.mktemp("fuzz")
        services = Services(settings_in(folder, running_redis.url))
        version = make_version(services, [task_with_frame(folder, number) for number in (1, 2, 3)], seed=1)
        services.versions(PROJECT).activate(version.version, by="a test")
        return create_app(services.settings)

    @pytest.mark.parametrize("route", list(BODIES))
    @hypothesis_settings(
        max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
    )
    @given(data=st.data())
    def test_no_body_causes_a_server_error(self, app: Flask, route: str, data: st.DataObject) -> None:
        content = json.dumps(data.draw(BODIES[route]))
        project = data.draw(st.sampled_from(["", "", "?project=7", "?project=x", "?project=%ff"]))
        response = app.test_client().post(route + project, data=content, content_type="application/json")
        assert response.status_code in (200, 400), response.get_data(as_text=True)
        assert isinstance(json.loads(response.get_data()), dict)

    @pytest.mark.parametrize("route", ["/", "/health", "/versions", *BODIES, "/nowhere"])
    @hypothesis_settings(max_examples=60, deadline=None)
    @given(
        method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]),
        content=st.binary(max_size=60),
        content_type=st.sampled_from(["application/json", "text/plain", "multipart/form-data", "x", ""]),
    )
    def test_no_request_causes_a_server_error(
        self, app: Flask, route: str, method: str, content: bytes, content_type: str
    ) -> None:
        response = app.test_client().open(route, method=method, data=content, content_type=content_type)
        assert response.status_code < 500
        if response.status_code >= 400:
            error_of(response, response.status_code)


class TestMetrics:
    def figures(self, client: FlaskClient, **headers: str) -> dict[str, float]:
        response = client.get("/metrics", headers=headers)
        assert response.status_code == 200
        families = text_string_to_metric_families(response.get_data(as_text=True))
        return {
            one.name + "".join(f" {value}" for value in one.labels.values()): one.value
            for family in families
            for one in family.samples
        }

    def test_requests_and_predictions_are_counted(self, client: FlaskClient) -> None:
        client.get("/health")
        client.get("/health")
        client.post("/setup", json={})
        client.post("/predict", json={"tasks": [{"id": 1, "data": {}}], "project": SENT_PROJECT, "label_config": XML})
        found = self.figures(client)
        assert found["tsal_request_seconds_count health 200"] == 2
        assert found["tsal_request_seconds_count setup 400"] == 1
        assert found["tsal_request_seconds_count predict 200"] == 1
        assert found["tsal_predictions_total"] == 1
        assert "tsal_request_seconds_count metrics 200" not in found
        client.get("/nowhere")
        assert self.figures(client)["tsal_request_seconds_count none 404"] == 1

    def test_a_project_with_a_version_and_what_waits(self, client: FlaskClient, services: Services) -> None:
        found = self.figures(client)
        assert (found["tsal_redis_up"], found["tsal_queue_jobs queued"]) == (1, 0)
        assert found["tsal_cache_frames_total sidecar and workers hit"] == 0
        assert not any(name.startswith("tsal_versions") for name in found)
        store = services.versions(PROJECT)
        for seen in (1, 2):
            changes = {"batch": {"manual_share_validated": 0.25}, "seconds": {"total": 12.5}, "ticks": AUDITED}
            version = store.create(manifest_of(seen, **changes), write_no_weights).version
        store.activate(version, by="a test")
        for number in (3, 4, 5, 6):
            client.post("/webhook", json=annotated(number))
        found = self.figures(client)
        assert found[f"tsal_versions {PROJECT}"] == 2
        assert found[f"tsal_active_version {PROJECT}"] == 2
        assert found[f"tsal_exact_match {PROJECT}"] == 0.5
        assert found[f"tsal_manual_share {PROJECT}"] == 0.25
        assert found[f"tsal_fine_tune_seconds {PROJECT}"] == 12.5
        assert found[f"tsal_calibration_error {PROJECT}"] == 0.125
        ends = [found[f"tsal_automation_bias{end} {PROJECT}"] for end in ("", "_low", "_high")]
        assert ends == [0.2, -0.05, 0.4]
        unknown = {"calibration_error": None, "automation_bias": {"value": None, "low": -1.0, "high": 1.0}}
        store.activate(store.create(manifest_of(3, ticks=unknown), write_no_weights).version, by="a test")
        assert not any("bias" in name or "calibration" in name for name in self.figures(client))
        assert found[f"tsal_confirmed {PROJECT}"] == 4
        assert found["tsal_queue_jobs queued"] == 1

    def test_what_was_accepted_unseen_is_counted_by_a_poll(
        self, client: FlaskClient, services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        services.folder(PROJECT).mkdir(parents=True)
        assert f"tsal_accepted_unseen {PROJECT}" not in self.figures(client)
        studio = StudioStandIn()
        studio.add(tmp_path, 1, 2, 3)
        for task in (1, 2, 3):
            studio.confirm(task, [1, 0, 0])
        studio.annotations[:2] = [replace(one, accepted_unseen=True) for one in studio.annotations[:2]]
        monkeypatch.setattr(Services, "studio", studio)
        confirm.catch_up(services, PROJECT)
        found = self.figures(client)
        assert (found[f"tsal_accepted_unseen {PROJECT}"], found[f"tsal_confirmed {PROJECT}"]) == (2, 1)

    def test_work_of_sidecar_and_workers_is_counted(self, client: FlaskClient, services: Services) -> None:
        Counters(services.redis).add({"fine-tunes failed": 2, "fine-tune seconds failed": 1.5, "cache hit": 7})
        Services(services.settings).count(pushed=40)
        Services(services.settings).count(pushed=2)
        found = self.figures(client)
        assert found["tsal_fine_tunes_total failed"] == 2
        assert found["tsal_fine_tunes_total trained"] == 0
        assert found["tsal_fine_tunes_seconds_total failed"] == 1.5
        assert found["tsal_pushed_predictions_total"] == 42
        assert found["tsal_cache_frames_total sidecar and workers hit"] == 7

    def test_a_fine_tune_that_fails_is_seen_while_it_waits_for_its_retry(
        self,
        client: FlaskClient,
        services: Services,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        for name, value in environment_of(services.settings).items():
            monkeypatch.setenv(name, value)
        for number in (3, 4, 5, 6):
            client.post("/webhook", json=annotated(number))
        # Nobody listens where these tests say that Label Studio is.
        queue = jobs.queue(services)
        SimpleWorker([queue], connection=services.redis, serializer=JSONSerializer).work(
            burst=True, logging_level="WARNING"
        )
        found = self.figures(client)
        assert found["tsal_fine_tunes_total failed"] == 1
        assert found["tsal_fine_tunes_seconds_total failed"] > 0
        assert found["tsal_queue_jobs waiting for a retry"] == 1
        assert found["tsal_queue_jobs queued"] == 0
        (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
        assert line.startswith(f"fine-tune failed project={PROJECT} job={JOB} retries=3 reason='StudioUnavailable: ")

    def test_a_fine_tune_that_fails_unexpectedly_is_parked_and_says_where(
        self,
        client: FlaskClient,
        services: Services,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def broken(*_: object) -> None:
            raise KeyError("a mistake of ours")

        for name, value in environment_of(services.settings).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(confirm, "recover", broken)
        jobs.enqueue(services, PROJECT, "webhook", "a test")
        SimpleWorker([jobs.queue(services)], connection=services.redis, serializer=JSONSerializer).work(
            burst=True, logging_level="WARNING"
        )
        (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
        assert line.startswith(f"fine-tune parked project={PROJECT} job={JOB} ")
        assert f",web/test_app.py:{broken.__code__.co_firstlineno + 1}" in line
        found = self.figures(client)
        assert found["tsal_fine_tunes_total parked"] == 1
        assert found[f"tsal_parked {PROJECT}"] == 1

    def test_a_damaged_active_version_costs_its_own_figures_and_no_webhook(
        self, client: FlaskClient, services: Services
    ) -> None:
        store = services.versions(PROJECT)
        first, _ = (store.create(manifest_of(seen), write_no_weights).version for seen in (1, 2))
        store.activate(first, by="a test")
        (store.tail(first).parent / "manifest.json").write_text("{}")
        assert client.post("/webhook", json=annotated(3)).status_code == 200
        found = self.figures(client)
        assert (found[f"tsal_versions {PROJECT}"], found[f"tsal_confirmed {PROJECT}"]) == (2, 1)
        assert f"tsal_active_version {PROJECT}" not in found

    def test_frames_from_the_cache_are_hits(self, services: Services) -> None:
        task = task_with_frame(services.settings.data_dir.parent, 5)
        manifest = make_version(services, [task, task_with_frame(services.settings.data_dir.parent, 6)], seed=1)
        services.versions(PROJECT).activate(manifest.version, by="a test")
        client = create_app(services.settings).test_client()
        other = task_with_frame(services.settings.data_dir.parent, 7)
        client.post("/predict", json={"tasks": [task, other], "project": SENT_PROJECT, "label_config": XML})
        found = self.figures(client)
        assert found["tsal_cache_frames_total backend hit"] == 1
        assert found["tsal_cache_frames_total backend miss"] == 1

    def test_without_redis_the_rest_is_there(self, tmp_path: Path) -> None:
        client = create_app(settings_in(tmp_path, "redis://127.0.0.1:1")).test_client()
        found = self.figures(client)
        assert found["tsal_redis_up"] == 0
        assert "tsal_cache_frames_total backend hit" in found
        assert "tsal_cache_frames_total sidecar and workers hit" not in found
        assert not any(name.startswith(("tsal_fine_tunes", "tsal_queue_jobs")) for name in found)

    def test_it_needs_the_password(self, tmp_path: Path) -> None:
        secured = settings_in(tmp_path, basic_auth_user=USER, basic_auth_password=PASSWORD)
        client = create_app(secured).test_client()
        error_of(client.get("/metrics"), 401)
        sent = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        assert "tsal_redis_up" in self.figures(client, Authorization=f"Basic {sent}")
