"""Label Studio as this backend uses it: bulk reads and writes; every failure is StudioUnavailable or StudioRefused."""

from __future__ import annotations

from ml_backend.studio.annotations import Annotations, ConfirmedAnnotation
from ml_backend.studio.calls import Calls
from ml_backend.studio.connections import Connections, Webhook
from ml_backend.studio.predictions import Predictions
from ml_backend.studio.projects import Counts, ProjectInfo
from ml_backend.studio.storages import Storages
from ml_backend.studio.tabs import Tabs
from ml_backend.studio.tasks import Task

__all__ = ["ConfirmedAnnotation", "Counts", "ProjectInfo", "Studio", "Task", "Webhook"]


class Studio(Annotations, Predictions, Connections, Storages, Tabs):
    """One Label Studio, as the user of an access token (legacy or personal).

    ``timeout`` in seconds holds for an ordinary call, ``slow`` for a bulk one. Safe to use from several threads.
    Every method raises StudioUnavailable where Label Studio does not answer and StudioRefused where it refuses; the
    message says which call, why, and what to change, and never contains a token.
    """

    def __init__(self, url: str, token: str, timeout: float = 30.0, slow: float = 600.0) -> None:
        super().__init__(Calls(url, token, timeout, slow))

    def __repr__(self) -> str:
        return f"Studio({self._calls.url!r}, {self._calls.credentials!r})"

    def authorization(self) -> str:
        """Value of the Authorization header, for fetching files; valid for a minute at least."""
        return self._calls.credentials.header()

    def version(self) -> str:
        """Label Studio's release, such as ``1.23.2``."""
        return str(self._calls.read("asking for the version", self._sdk.versions.get).release)

    def me(self) -> str:
        """The e-mail address of the token's user."""
        return str(self._calls.read("asking who the token belongs to", self._sdk.users.whoami).email)

    def people(self) -> dict[int, str]:
        """Return the names of the organization's users by ID; users without a name have their e-mail address."""
        found = self._calls.read("listing the users", self._sdk.users.list)
        return {one.id: f"{one.first_name or ''} {one.last_name or ''}".strip() or str(one.email) for one in found}
