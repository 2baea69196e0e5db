"""The backend's address: whether it answers from here, and from Label Studio."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import httpx

from ml_backend.errors import BackendUnavailable, SettingsError, StudioRefused
from ml_backend.loop.confirm import TRAIN
from ml_backend.settings import Settings
from ml_backend.setup.findings import Finding
from ml_backend.studio.client import Studio
from ml_backend.web.access import secret_header

SECONDS = 5.0
NOWHERE = "not-a-backend"
"""A path that no backend of ours answers, so that Label Studio's check always fails and nothing is stored."""
MODEL_CLASS = "LungUltrasoundModel"
PRIVATE_ADDRESS = (
    "for a private or loopback address start Label Studio with USE_DEFAULT_BANNED_SUBNETS=false, or with "
    "SSRF_PROTECTION_ENABLED=false and ML_BLOCK_LOCAL_IP=false together"
)


def require_dot(url: str) -> None:
    """Raise SettingsError for a host without a dot, to which Label Studio sends no webhook."""
    host = urlsplit(url).hostname or ""
    if not set(".:") & set(host) and host != "localhost":
        raise SettingsError(
            "Label Studio sends no webhook to a host without a dot: set TSAL_BACKEND_URL to an IP address or a dotted "
            f"name instead of {url}"
        )


def from_here(settings: Settings) -> Finding:
    """Say whether our backend answers at TSAL_BACKEND_URL, has our secrets, and can build its model."""
    url, subject = settings.backend_url, "backend from here"
    try:
        told = _told(httpx.get(f"{url}/health", auth=_login(settings), timeout=SECONDS))
        ours = told.get("model_class") == MODEL_CLASS
        other = _other_secrets(settings) if ours else []
    except httpx.HTTPError as error:
        return Finding(
            subject,
            "change",
            f"no backend answers at {url} ({type(error).__name__}): start it with `tsal serve`, or correct "
            "TSAL_BACKEND_URL",
        )
    if not ours:
        return Finding(subject, "change", f"what answers at {url} is not this backend: correct TSAL_BACKEND_URL")
    if other:
        text = f"the backend was started with other secrets: {' and '.join(other)} must be the same there and here"
        return Finding("secrets", "change", text)
    model = str(told.get("model", "UP"))
    if model not in ("UP", "UNKNOWN"):  # unknown until the backend has looked once
        return Finding(subject, "change", f"the backend at {url} reports a problem with its model: {model}")
    return Finding(subject, "ok", f"the backend answers at {url}")


def start_training(settings: Settings, project: int) -> None:
    """Ask the backend for a fine-tune, as Label Studio's button Start Training does.

    Raises:
        BackendUnavailable: if it does not answer or refuses.
    """
    url = f"{settings.backend_url}/webhook"
    asked = {"action": TRAIN, "project": {"id": project}}
    try:
        httpx.post(url, headers=secret_header(settings), json=asked, timeout=SECONDS).raise_for_status()
    except httpx.HTTPError as error:
        raise BackendUnavailable(
            f"the backend at {settings.backend_url} did not take the request for a fine-tune ({error}): see that "
            "`tsal serve` runs and has its Redis, and connect again"
        ) from None


def _told(answer: httpx.Response) -> dict[str, Any]:
    try:
        told = answer.json() if answer.is_success else {}
    except ValueError:
        told = {}
    return told if isinstance(told, dict) else {}


def _login(settings: Settings) -> tuple[str, str] | None:
    user, password = settings.basic_auth_user, settings.basic_auth_password
    return (user, password.get_secret_value()) if user and password else None


def _other_secrets(settings: Settings) -> list[str]:
    """The settings whose values the backend refuses; neither question changes anything there."""
    url = settings.backend_url
    # A webhook without content is always refused, but with 401 only where its secret is wrong.
    webhook = httpx.post(f"{url}/webhook", headers=secret_header(settings), timeout=SECONDS)
    versions = httpx.get(f"{url}/versions", auth=_login(settings), timeout=SECONDS)
    answers = {"TSAL_WEBHOOK_SECRET": webhook, "TSAL_BASIC_AUTH_USER and TSAL_BASIC_AUTH_PASSWORD": versions}
    return [names for names, answer in answers.items() if answer.status_code == httpx.codes.UNAUTHORIZED]


def from_label_studio(studio: Studio, project: int, url: str) -> Finding:
    """Say whether Label Studio can reach the backend; nothing is stored there.

    Label Studio is asked to register ``url``/not-a-backend. It first compares the address with the networks that it
    refuses, then asks for ``/health`` there, which our backend answers with 404.
    """
    subject, answer = "backend from Label Studio", ""
    try:
        # Whatever takes this path for a backend is not ours.
        studio.delete_backend(studio.create_backend(project, f"{url}/{NOWHERE}", "reachable?"))
    except StudioRefused as error:
        answer = str(error)
    if "reserved network address" in answer or "private address" in answer:
        return Finding(subject, "change", f"Label Studio refuses the address {url}: {PRIVATE_ADDRESS}")
    # Label Studio repeats the words of the HTTP library, such as "404 Client Error: NOT FOUND for url".
    if "404 Client Error" in answer:
        return Finding(subject, "ok", f"Label Studio can reach {url}")
    if answer and not re.search(r"\b[45]\d\d (Client|Server) Error|connect", answer):
        return Finding(subject, "note", f"only connecting will show whether Label Studio can reach {url}")
    return Finding(
        subject,
        "change",
        f"Label Studio cannot reach the backend at {url}: set TSAL_BACKEND_URL to its address as Label Studio's "
        "machine or container sees it, and see that no firewall or proxy answers in its place",
    )
