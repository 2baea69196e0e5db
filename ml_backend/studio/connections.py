"""A project's connections: webhooks and ML backends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ml_backend.studio.calls import Resource


@dataclass(frozen=True)
class Webhook:
    """A project's webhook; its headers hold our secret and stay out of its repr."""

    id: int
    url: str
    actions: tuple[str, ...]
    send_for_all_actions: bool
    send_payload: bool
    is_active: bool
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Backend:
    """An ML backend that is registered in a project; ``state`` is Label Studio's code: CO connected, ER error, …

    ``basic_auth_user`` is None where Label Studio sends no password.
    """

    id: int
    url: str
    state: str
    error: str | None
    basic_auth_user: str | None


class Connections(Resource):
    """Lists, makes, changes and deletes connections."""

    def webhooks(self, project: int) -> list[Webhook]:
        """List a project's webhooks."""
        found = self._calls.read(
            f"listing the webhooks of project {project}", lambda: self._sdk.webhooks.list(project=str(project))
        )
        return [
            Webhook(
                id=one.id,
                url=one.url,
                actions=tuple(sorted(one.actions or ())),
                send_for_all_actions=bool(one.send_for_all_actions),
                send_payload=bool(one.send_payload),
                is_active=bool(one.is_active),
                headers=one.headers or {},
            )
            for one in found
        ]

    def create_webhook(self, project: int, url: str, actions: Sequence[str], headers: Mapping[str, str]) -> int:
        """Make a webhook for some actions and return its ID."""
        what = {"url": url, "actions": list(actions), "headers": dict(headers)}
        return self._make(
            f"making a webhook in project {project}",
            lambda: self._sdk.webhooks.create(project=project, send_for_all_actions=False, send_payload=True, **what),
        )

    def update_webhook(self, webhook: int, **fields: Any) -> None:
        """Change a webhook; ``fields`` are those of Label Studio's webhook."""
        self._calls.write(
            f"changing webhook {webhook}",
            lambda: self._calls.request("PATCH", f"api/webhooks/{webhook}/", json=fields),
        )

    def switch_on(self, webhook: Webhook) -> None:
        """Switch a webhook on again; later releases of Label Studio switch one off after repeated failures."""
        self.update_webhook(webhook.id, is_active=True)

    def delete_webhook(self, webhook: int) -> None:
        """Delete a webhook."""
        self._calls.write(f"deleting webhook {webhook}", lambda: self._sdk.webhooks.delete(webhook))

    def backends(self, project: int) -> list[Backend]:
        """List a project's ML backends; Label Studio calls each of them for it."""
        found = self._calls.read(
            f"listing the ML backends of project {project}", lambda: self._sdk.ml.list(project=project)
        )
        return [
            Backend(
                id=one.id,
                url=one.url,
                state=str(one.state),
                error=one.error_message,
                basic_auth_user=one.basic_auth_user or None,
            )
            for one in found
        ]

    def create_backend(
        self, project: int, url: str, title: str, user: str | None = None, password: str | None = None
    ) -> int:
        """Register an ML backend, which must answer at once, and return its ID."""
        fields = _backend_fields(url, title, user, password)
        return self._make(
            f"registering the ML backend {url} in project {project}",
            lambda: self._sdk.ml.create(project=project, **fields),
        )

    def update_backend(
        self, project: int, backend: int, url: str, title: str, user: str | None = None, password: str | None = None
    ) -> None:
        """Change an ML backend, which must answer at once."""
        fields = _backend_fields(url, title, user, password)
        self._calls.write(
            f"changing the ML backend {url} of project {project}",
            lambda: self._sdk.ml.update(backend, project=project, **fields),
        )

    def delete_backend(self, backend: int) -> None:
        """Remove an ML backend; the webhook that Label Studio made with it stays."""
        self._calls.write(f"removing ML backend {backend}", lambda: self._sdk.ml.delete(backend))


def _backend_fields(url: str, title: str, user: str | None, password: str | None) -> dict[str, Any]:
    fields = {"url": url, "title": title}
    if user is None:
        # Label Studio sends the password whenever a user name is there, whatever the method says.
        return {**fields, "auth_method": "NONE", "basic_auth_user": ""}
    return {**fields, "auth_method": "BASIC_AUTH", "basic_auth_user": user, "basic_auth_pass": password}
