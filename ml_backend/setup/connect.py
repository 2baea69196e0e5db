"""Connect a project of an existing Label Studio, and report every change."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from ml_backend.errors import StudioRefused
from ml_backend.loop.queue import SAMPLING
from ml_backend.services import Services
from ml_backend.setup import address, machine
from ml_backend.setup import project as found_in_project
from ml_backend.setup.address import require_dot
from ml_backend.setup.findings import Finding
from ml_backend.setup.webhook import ACTIONS, differing_fields, secret_header, wanted_fields, webhook_url
from ml_backend.studio.client import Webhook

TITLE = "Lung ultrasound annotator"
CONNECTED = "CO"  # Label Studio's code
Say = Callable[[str], None]


def connect(services: Services, project: int, say: Say, *, dry_run: bool = False) -> None:
    """Connect the project; each reported line is ``ok``, ``change`` or ``missing``.

    Raises:
        ConfigurationUnusable: where the labelling configuration cannot be worked with.
        SettingsError: where Label Studio could not send webhooks to the backend's address.
        StudioRefused: where Label Studio refuses a step, with what to change there.
    """
    tell = _Telling(say, dry_run)
    studio = services.studio
    info = studio.project(project)
    tell.ok(f"Label Studio {studio.version()}, project {project}: {info.title}")
    configuration = services.configuration(info.label_config)
    tell.found(found_in_project.symptoms(configuration))
    require_dot(services.settings.backend_url)
    tell.found(machine.model(services.settings))
    _backend(services, project, tell)
    _webhook(services, project, tell)
    _fields(services, project, tell)
    tell.found(found_in_project.frames(services, project, configuration))
    tell.found(found_in_project.data_keys(services, project))
    tell.found(found_in_project.answers(services, project))
    if services.settings.webhook_secret and not services.settings.basic_auth_user:
        tell.missing(
            "the button Start Training: Label Studio presses it without our secret, so set TSAL_BASIC_AUTH_USER and "
            "TSAL_BASIC_AUTH_PASSWORD, for the backend too, and connect again"
        )
    folder = services.folder(project)
    if not folder.is_dir():
        tell.change(f"let the sidecar watch the project ({folder})", lambda: folder.mkdir(parents=True))
    if info.maximum_annotations > 1:
        tell.missing(
            f"the computed order of second annotations: {info.maximum_annotations} a task are asked for, which Label "
            "Studio serves in random order; ask for 1"
        )


class _Telling:
    """Reports what is right, what is missing and each change, and makes the change unless this is a dry run."""

    def __init__(self, say: Say, dry_run: bool) -> None:
        self._say = say
        self.dry_run = dry_run

    def ok(self, what: str) -> None:
        self._say(f"ok       {what}")

    def missing(self, what: str) -> None:
        self._say(f"missing  {what}")

    def found(self, findings: Iterable[Finding]) -> None:
        """Report a check's findings; ``missing`` is what only a person can change."""
        for finding in findings:
            self._say(f"{'missing' if finding.state == 'change' else finding.state:8} {finding.text}")

    def change(self, what: str, make: Callable[[], Any]) -> None:
        self._say(f"{'would' if self.dry_run else 'change':8} {what}")
        if not self.dry_run:
            make()


def _backend(services: Services, project: int, tell: _Telling) -> None:
    studio, settings = services.studio, services.settings
    url, user = settings.backend_url, settings.basic_auth_user
    password = settings.basic_auth_password.get_secret_value() if settings.basic_auth_password else None
    registered = studio.backends(project)
    ours = next((backend for backend in registered if backend.url.rstrip("/") == url), None)

    def register() -> None:
        try:
            if ours is None:
                studio.create_backend(project, url, TITLE, user, password)
            else:
                studio.update_backend(project, ours.id, url, TITLE, user, password)
        except StudioRefused as error:
            raise StudioRefused(f"{error}. {_backend_hint(url)}") from None

    if tell.dry_run:
        tell.found([address.from_here(settings)])
    if ours is None:
        if tell.dry_run:
            tell.found(address.from_label_studio(studio, project, url))
        tell.change(f"register the backend {url}", register)
    elif ours.basic_auth_user != user:
        tell.change(f"correct the user name that Label Studio sends to the backend {url}", register)
    elif ours.state != CONNECTED:
        # The password cannot be read back; a new one shows only in the backend's refusal.
        tell.change(f"connect the backend {url} again, which Label Studio cannot reach as it is registered", register)
    else:
        tell.ok(f"the backend {url} is registered")
    if registered and registered[0] != ours:
        tell.missing(
            f"the first place among the project's backends: Label Studio asks {registered[0].url} alone for "
            "predictions; remove it (Settings, Model) if that is not meant"
        )


def _backend_hint(url: str) -> str:
    return f"Is the backend running at {url} (`tsal serve`), and can Label Studio reach it? {address.PRIVATE_ADDRESS}"


def _webhook(services: Services, project: int, tell: _Telling) -> None:
    """Put our webhook in the place of the one that Label Studio makes, which has no secret and sends everything."""
    studio, settings = services.studio, services.settings
    url, headers = webhook_url(settings, project), secret_header(settings)
    ours: Webhook | None = None
    for webhook in studio.webhooks(project):
        if webhook.url == url and ours is None:
            ours = webhook
        elif webhook.url.startswith(f"{settings.backend_url}/webhook"):
            tell.change(
                f"remove the webhook {webhook.url} that Label Studio made", partial(studio.delete_webhook, webhook.id)
            )
    if ours is None:
        tell.change(f"add the webhook {url}", partial(studio.create_webhook, project, url, ACTIONS, headers))
        return
    differing = differing_fields(settings, project, ours)
    if not differing:
        tell.ok(f"the webhook {url} is there")
    else:
        tell.change(
            f"correct the webhook {url}: {', '.join(differing)}",
            partial(studio.update_webhook, ours.id, **{**wanted_fields(settings, project), "actions": list(ACTIONS)}),
        )


def _fields(services: Services, project: int, tell: _Telling) -> None:
    """Set what the project must have; registering a backend has set ``model_version`` to the backend's title."""
    studio = services.studio
    info = studio.project(project)
    order = services.orders(project).current_name()
    wanted: dict[str, Any] = {"sampling": SAMPLING, "show_collab_predictions": True}
    if order is not None and order in studio.model_versions(project):
        wanted["model_version"] = order
    for name, value in wanted.items():
        if getattr(info, name) == value:
            tell.ok(f"{name} is {value}")
        else:
            tell.change(
                f"set {name} to {value} (it is {getattr(info, name)})",
                partial(studio.update_project, project, **{name: value}),
            )
