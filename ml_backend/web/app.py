"""The Flask app: Label Studio's ML-backend protocol. Its routes parse, call and map errors, nothing else."""

from __future__ import annotations

import json
import logging
import time
from typing import Any, TypeVar

from flask import Flask, Response, g, jsonify, request
from gunicorn.http.errors import ParseException
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from redis.exceptions import RedisError
from werkzeug.exceptions import HTTPException

from ml_backend.errors import BackendError, InvalidRequest, RedisUnavailable, Unauthorized
from ml_backend.logs import configure, event
from ml_backend.model import LungUltrasoundModel, project_number
from ml_backend.services import Services
from ml_backend.settings import Settings, load
from ml_backend.store.embedded import redis_url
from ml_backend.store.pending import connect, unanswered
from ml_backend.web.access import has_access, require_access
from ml_backend.web.attempts import Attempts
from ml_backend.web.evidence import answer_evidence
from ml_backend.web.health import Health
from ml_backend.web.lead.views import answer_lead
from ml_backend.web.metrics import Monitoring

logger = logging.getLogger(__name__)
MAX_BODY_BYTES = 64_000_000
HEALTH_SECONDS = 0.5  # Label Studio waits one second for /health
Body = TypeVar("Body", bound=BaseModel)


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)


class _Setup(_Body):
    project: str
    label_config: str = Field(alias="schema", min_length=1)


class _Predict(_Body):
    tasks: list[dict[str, Any]]
    project: str
    label_config: str = Field(min_length=1)


class _Project(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    id: int


class _Webhook(BaseModel):
    model_config = ConfigDict(extra="allow")

    action: str
    project: _Project | None = None


def create_app(settings: Settings | None = None) -> Flask:
    """Build the app. Raises SettingsError where a setting cannot be used, or one that safety needs is missing."""
    settings = settings or load()
    settings.require_authentication()
    configure()
    services = Services(settings)
    monitoring, health = Monitoring(services), Health(services)
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    _measure(app, monitoring)
    attempts = Attempts()
    app.before_request(lambda: require_access(request, settings, attempts))
    _answer_status(app, services, monitoring, health, attempts)
    answer_lead(app, services, health)
    _answer_label_studio(app, services, monitoring)
    answer_evidence(app, services)
    _answer_errors(app, services)
    return app


def _measure(app: Flask, monitoring: Monitoring) -> None:
    """Measure the time of every request, refused ones included."""

    @app.before_request
    def begin() -> None:
        g.started = time.perf_counter()

    @app.after_request
    def measure(response: Response) -> Response:
        endpoint = request.endpoint or "none"
        seconds = time.perf_counter() - g.started
        monitoring.requests.labels(endpoint, str(response.status_code)).observe(seconds)
        return response


def _answer_status(app: Flask, services: Services, monitoring: Monitoring, health: Health, attempts: Attempts) -> None:
    """Answer those who watch the backend."""

    @app.get("/", endpoint="health")
    @app.get("/health", endpoint="health")
    def answer_health() -> Response:
        # Label Studio takes any other status than 200 for a backend that is gone, and it can predict without Redis.
        trusted = has_access(request, services.settings, attempts)
        states = {"redis": _redis_state(services.settings), **health.known(trusted)}
        return jsonify(status="UP", model_class=LungUltrasoundModel.__name__, **states)

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(monitoring.registry), content_type=CONTENT_TYPE_LATEST)


def _answer_label_studio(app: Flask, services: Services, monitoring: Monitoring) -> None:
    """Answer what Label Studio asks an ML backend."""

    @app.post("/setup")
    def setup() -> Response:
        body = _parse(_Setup)
        return jsonify(model_version=_model(services, body.project, body.label_config).served_version)

    @app.post("/predict")
    def predict() -> Response:
        body = _parse(_Predict)
        results = _model(services, body.project, body.label_config).predict(body.tasks)
        monitoring.predicted.inc(len(results))
        return jsonify(results=results)

    @app.post("/webhook")
    def webhook() -> Response:
        body = _parse(_Webhook)
        model = _model(services, _project_of(body))
        return jsonify(model.fit(body.action, body.model_extra))

    @app.get("/versions")
    def versions() -> Response:
        names = [name for project in services.projects() for name in services.versions(project).names()]
        return jsonify(versions=names)


def _answer_errors(app: Flask, services: Services) -> None:
    """Turn every error into JSON that says what to change and nothing of our insides."""

    @app.errorhandler(BackendError)
    def refused(error: BackendError) -> tuple[Response, int]:
        if isinstance(error, Unauthorized):  # Label Studio does not show its users why a request was refused
            event(logger, "request refused", level=logging.WARNING, path=request.path, reason=error)
        return jsonify(error=str(error)), error.http_status

    @app.errorhandler(RedisError)
    def no_redis(error: RedisError) -> tuple[Response, int]:
        logger.error("%s", unanswered(redis_url(services.settings), error))
        return jsonify(error="Redis does not answer"), RedisUnavailable.http_status

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        response = Response(json.dumps({"error": error.description or error.name}), error.code or 500)
        response.headers.extend([pair for pair in error.get_headers() if pair[0] != "Content-Type"])
        response.content_type = "application/json"
        return response

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> tuple[Response, int]:
        logger.exception("unexpected error")
        return jsonify(error="unexpected error; the backend's log has the details"), 500


def _model(services: Services, project: str, label_config: str | None = None) -> LungUltrasoundModel:
    return LungUltrasoundModel(str(project_number(project)), label_config, services)


def _parse(shape: type[Body]) -> Body:
    try:
        content = request.get_json(silent=True)
    except (RecursionError, ParseException):  # nested too deeply; or in chunks that are none
        content = None
    if not isinstance(content, dict):
        raise InvalidRequest("the body must be a JSON object, and Content-Type must say application/json")
    try:
        return shape.model_validate(content)
    except ValidationError as error:
        raise InvalidRequest.of(error) from None


def _project_of(body: _Webhook) -> str:
    """Find the project that a webhook is about, by its address or its payload."""
    named = request.args.get("project")
    sent = str(body.project.id) if body.project else None
    if named and sent and named != sent:
        raise InvalidRequest(f"the webhook's address names project {named!r}, its payload project {sent}")
    return named or sent or ""


def _redis_state(settings: Settings) -> str:
    try:
        connect(redis_url(settings), HEALTH_SECONDS).close()
    except RedisUnavailable:
        return "DOWN"
    return "UP"
