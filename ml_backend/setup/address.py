"""The backend's address: whether it answers from here, and from Label Studio."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx

from ml_backend.errors import SettingsError
from ml_backend.settings import Settings
from ml_backend.setup.findings import Finding
from ml_backend.studio.client import Studio
from ml_backend.studio.reach import Reach, reach

SECONDS = 5.0
MODEL_CLASS = "LungUltrasoundModel"
PRIVATE_ADDRESS = (
    "for a private or loopback address start Label Studio with USE_DEFAULT_BANNED_SUBNETS=false, or with "
    "SSRF_PROTECTION_ENABLED=false and ML_BLOCK_LOCAL_IP=false together"
)


def require_dot(url: str) -> None:
    """Refuse a host without a dot, to which Label Studio sends no webhook.

    Raises:
        SettingsError: naming the setting to change.
    """
    host = urlsplit(url).hostname or ""
    if not set(".:") & set(host) and host != "localhost":
        raise SettingsError(
            "Label Studio sends no webhook to a host without a dot: set TSAL_BACKEND_URL to an IP address or a dotted "
            f"name instead of {url}"
        )


def from_here(settings: Settings) -> Finding:
    """Say whether our backend answers at TSAL_BACKEND_URL, and whether it can build its model."""
    url, subject = settings.backend_url, "backend from here"
    try:
        answer = httpx.get(f"{url}/health", timeout=SECONDS)
        told = answer.json() if answer.is_success else {}
    except httpx.HTTPError as error:
        return Finding(
            subject,
            "change",
            f"no backend answers at {url} ({type(error).__name__}): start it with `tsal serve`, or correct "
            "TSAL_BACKEND_URL",
        )
    except ValueError:
        told = {}
    if not isinstance(told, dict) or told.get("model_class") != MODEL_CLASS:
        return Finding(subject, "change", f"what answers at {url} is not this backend: correct TSAL_BACKEND_URL")
    model = str(told.get("model", "UP"))
    if model not in ("UP", "UNKNOWN"):  # unknown until the backend has looked once
        return Finding(subject, "change", f"the backend at {url} says of its model: {model}")
    return Finding(subject, "ok", f"the backend answers at {url}")


def from_label_studio(studio: Studio, project: int, url: str) -> Iterator[Finding]:
    """Say whether Label Studio can reach the backend; nothing is stored there."""
    subject = "backend from Label Studio"
    found = reach(studio, project, url)
    if found is Reach.REACHED:
        yield Finding(subject, "ok", f"Label Studio reaches {url}")
    elif found is Reach.REFUSED:
        yield Finding(subject, "change", f"Label Studio refuses the address {url}: {PRIVATE_ADDRESS}")
    elif found is Reach.UNREACHABLE:
        yield Finding(
            subject,
            "change",
            f"Label Studio cannot reach {url}: set TSAL_BACKEND_URL to the backend's address as Label Studio's machine "
            "or container sees it, and see that no firewall is between",
        )
    else:
        yield Finding(subject, "note", f"whether Label Studio reaches {url} cannot be known before it is tried")
