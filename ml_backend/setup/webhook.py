"""Our webhook in a project: what it must be, and how the one that is there differs."""

from __future__ import annotations

from typing import Any

from ml_backend.settings import Settings
from ml_backend.studio.client import Webhook
from ml_backend.web.access import SECRET_HEADER

ACTIONS = (
    "ANNOTATION_CREATED",
    "ANNOTATIONS_CREATED",
    "ANNOTATION_UPDATED",
    "ANNOTATIONS_DELETED",
    "TASKS_CREATED",
    "TASKS_DELETED",
)


def webhook_url(settings: Settings, project: int) -> str:
    """The address of a project's webhook; the query names the project, since some events do not."""
    return f"{settings.backend_url}/webhook?project={project}"


def secret_header(settings: Settings) -> dict[str, str]:
    """The header that proves a webhook to be ours; empty where no secret is set."""
    return {SECRET_HEADER: settings.webhook_secret.get_secret_value()} if settings.webhook_secret else {}


def wanted_fields(settings: Settings, project: int) -> dict[str, Any]:
    """What our webhook must be, by the names of ``Webhook``'s fields."""
    return {
        "url": webhook_url(settings, project),
        "headers": secret_header(settings),
        "actions": tuple(sorted(ACTIONS)),
        "send_payload": True,
        "send_for_all_actions": False,
        "is_active": True,
    }


def differing_fields(settings: Settings, project: int, webhook: Webhook) -> list[str]:
    """Names of the fields in which a webhook is not as it must be."""
    return [name for name, value in wanted_fields(settings, project).items() if getattr(webhook, name) != value]
