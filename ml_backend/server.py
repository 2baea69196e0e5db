"""The Flask app: Label Studio's ML-backend protocol. Its routes parse, call and map errors, nothing else."""

from __future__ import annotations

import hmac
import logging
from typing import Any

from flask import Flask, Response, jsonify, request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from redis.exceptions import RedisError
from werkzeug.exceptions import HTTPException

from ml_backend.errors import BackendError, InvalidRequest, RedisUnavailable, Unauthorized
from ml_backend.logs import configure
from ml_backend.model import LungUltrasoundModel, project_number
from ml_backend.services import Services
from ml_backend.settings import Settings, load
from ml_backend.studio.configuration import Configuration

logger = logging.getLogger(__name__)
SECRET_HEADER = "X-TSAL-Secret"  # noqa: S105  the header's name, no secret
MAX_BODY_BYTES = 64_000_000


class _Setup(BaseModel):
    model_config = ConfigDict(extra="ignore")

    project: str | int = ""
    label_config: str = Field("", alias="schema")


class _Predict(BaseModel):
    model_config = ConfigDict(extra="ignore")

    tasks: list[dict[str, Any]]
    project: str | int = ""
    label_config: str = ""
    params: dict[str, Any] | None = None


class _Webhook(BaseModel):
    model_config = ConfigDict(extra="allow")

    action: str
    project: dict[str, Any] | None = None


def create_app(settings: Settings | None = None) -> Flask:
    """Build the app.

    Raises:
        SettingsError: where a setting cannot be used, or one that safety needs is missing.
    """
    settings = settings or load()
    settings.require_authentication()
    configure()
    services = Services(settings)
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES

    @app.before_request
    def authenticate() -> None:
        if request.endpoint in ("health", None):
            return
        if request.endpoint == "webhook" and _secret_matches(settings):
            return
        _require_basic_auth(settings)

    @app.get("/")
    @app.get("/health")
    def health() -> Response:
        return jsonify(status="UP", model_class=LungUltrasoundModel.__name__, redis=_redis_state(services))

    @app.post("/setup")
    def setup() -> Response:
        body = _parse(_Setup)
        if body.label_config:
            Configuration.parse(body.label_config)
        return jsonify(model_version=_model(services, body.project, body.label_config).served_version)

    @app.post("/predict")
    def predict() -> Response:
        body = _parse(_Predict)
        model = _model(services, body.project, body.label_config)
        context = (body.params or {}).get("context")
        return jsonify(results=model.predict(body.tasks, context=context if isinstance(context, dict) else None))

    @app.post("/webhook")
    def webhook() -> tuple[Response, int]:
        body = _parse(_Webhook)
        project = request.args.get("project") or (body.project or {}).get("id")
        model = LungUltrasoundModel(project_id=str(project_number(project)), services=services)
        return jsonify(model.fit(body.action, body.model_extra or {})), 200

    @app.get("/versions")
    def versions() -> Response:
        names = [name for project in services.projects() for name in services.versions(project).names()]
        return jsonify(versions=names)

    @app.errorhandler(BackendError)
    def refused(error: BackendError) -> tuple[Response, int]:
        return jsonify(error=str(error)), error.http_status

    @app.errorhandler(RedisError)
    def no_redis(error: RedisError) -> tuple[Response, int]:
        logger.error("redis does not answer: %s", type(error).__name__)
        return jsonify(error="Redis does not answer"), RedisUnavailable.http_status

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> tuple[Response, int]:
        return jsonify(error=error.description or error.name), error.code or 500

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> tuple[Response, int]:
        logger.exception("unexpected error")
        return jsonify(error="unexpected error; the backend's log has the details"), 500

    return app


def _model(services: Services, project: str | int, label_config: str) -> LungUltrasoundModel:
    return LungUltrasoundModel(str(project_number(project)), label_config or None, services)


def _parse(shape: type[Any]) -> Any:
    content = request.get_json(silent=True)
    if not isinstance(content, dict):
        raise InvalidRequest("the body must be a JSON object")
    try:
        return shape.model_validate(content)
    except ValidationError as error:
        problem = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise InvalidRequest(f"field {where}: {problem['msg']}") from None


def _secret_matches(settings: Settings) -> bool:
    """Whether the webhook carries our secret; without one configured (loopback only) every webhook does."""
    if settings.webhook_secret is None:
        return True
    sent = request.headers.get(SECRET_HEADER, "")
    return hmac.compare_digest(sent.encode(), settings.webhook_secret.get_secret_value().encode())


def _require_basic_auth(settings: Settings) -> None:
    """Compare in constant time.

    Raises:
        Unauthorized: where user or password differ.
    """
    if settings.basic_auth_user is None or settings.basic_auth_password is None:
        if request.endpoint == "webhook" and settings.webhook_secret is not None:
            raise Unauthorized(f"the webhook needs the header {SECRET_HEADER} with the backend's secret")
        return
    sent = request.authorization
    user = (sent.username or "") if sent else ""
    password = (sent.password or "") if sent else ""
    right_user = hmac.compare_digest(user.encode(), settings.basic_auth_user.encode())
    right_password = hmac.compare_digest(password.encode(), settings.basic_auth_password.get_secret_value().encode())
    if not (right_user and right_password):
        raise Unauthorized("the backend needs its user name and password (Label Studio: Settings, Model, Basic auth)")


def _redis_state(services: Services) -> str:
    try:
        services.redis.ping()
    except (RedisError, RedisUnavailable):
        return "DOWN"
    return "UP"
