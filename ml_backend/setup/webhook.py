"""What our webhook in a project must be."""

from __future__ import annotations

from typing import Any

from ml_backend.settings import Settings
from ml_backend.web.access import SECRET_HEADER

ACTIONS = (
    "ANNOTATION_CREATED",
    "ANNOTATIONS_CREATED",
    "ANNOTATION_UPDATED",
    "ANNOTATIONS_DELETED",
    "TASKS_CREATED",
    "TASKS_DELETED",
)


def secret_header(settings: Settings) -> dict[str, str]:
    """The header that proves a webhook to be ours; empty where no secret is set."""
    return {SECRET_HEADER: settings.webhook_secret.get_secret_value()} if settings.webhook_secret else {}


def wanted_fields(settings: Settings, project: int) -> dict[str, Any]:
    """What our webhook must be, by the names of ``Webhook``'s fields."""
    return {
        # The query names the project, since some events do not.
        "url": f"{settings.backend_url}/webhook?project={project}",
        "headers": secret_header(settings),
        "actions": tuple(sorted(ACTIONS)),
        "send_payload": True,
        "send_for_all_actions": False,
        "is_active": True,
    }
