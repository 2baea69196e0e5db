"""What a project must have in Label Studio and here, and how to give it what it lacks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from ml_backend.errors import StudioRefused
from ml_backend.loop.confirm import parked_now
from ml_backend.loop.push import SAMPLING
from ml_backend.services import Services
from ml_backend.setup import address, buckets, evidence, project, tabs
from ml_backend.setup.findings import Check, Finding
from ml_backend.store.format import mark
from ml_backend.studio.client import Webhook
from ml_backend.studio.configuration import Configuration
from ml_backend.web.access import secret_header

TITLE = "Lung ultrasound annotator"
CONNECTED = "CO"
"""Label Studio's code for a backend that answered."""
ACTIONS = (
    "ANNOTATION_CREATED",
    "ANNOTATIONS_CREATED",
    "ANNOTATION_UPDATED",
    "ANNOTATIONS_DELETED",
    "TASKS_CREATED",
    "TASKS_DELETED",
)
"""What our webhook reports."""


def checks(services: Services, number: int, configuration: Configuration) -> dict[str, Check]:
    """The checks of one project by subject, in the order in which `connect` makes its changes."""
    return {
        "backend from Label Studio": partial(_backend, services, number),
        "webhook": partial(_webhook, services, number),
        "fields": partial(_fields, services, number),
        "buckets": partial(buckets.checked, services, number, configuration),
        "frames": partial(project.frames, services, number, configuration),
        "evidence": partial(evidence.checked, services, number, configuration),
        "data keys": partial(project.data_keys, services, number, configuration),
        "answers": partial(project.answers, services, number, configuration),
        "sidecar's list": partial(_watched, services, number),
        "tabs": partial(tabs.checked, services, number),
        "annotations per task": partial(_maximum_annotations, services, number),
        "versions": partial(_versions, services, number),
    }


def _backend(services: Services, number: int) -> Iterator[Finding]:
    studio, settings = services.studio, services.settings
    url, user = settings.backend_url, settings.basic_auth_user
    password = settings.basic_auth_password.get_secret_value() if settings.basic_auth_password else None
    registered = studio.backends(number)
    ours = next((one for one in registered if one.url.rstrip("/") == url), None)

    def register() -> None:
        try:
            if ours is None:
                studio.create_backend(number, url, TITLE, user, password)
            else:
                studio.update_backend(number, ours.id, url, TITLE, user, password)
        except StudioRefused as error:
            raise StudioRefused(
                f"{error}. Is the backend running at {url} (`tsal serve`), and can Label Studio reach it? "
                f"{address.PRIVATE_ADDRESS}"
            ) from None

    subject = "backend from Label Studio"
    if ours is None:
        yield address.from_label_studio(studio, number, url)
        yield Finding("backend registered", "change", f"register the backend {url}", register)
    elif ours.basic_auth_user != user:
        text = f"correct the user name that Label Studio sends to the backend {url}"
        yield Finding(subject, "change", text, register)
    elif ours.state != CONNECTED:
        # The password cannot be read back; a new one shows only in the backend's refusal.
        reason = (ours.error or "no reason given").strip().splitlines()[0][:200]
        text = f"connect the backend {url} again, which Label Studio cannot reach as it is registered ({reason})"
        yield Finding(subject, "change", text, register)
    else:
        yield Finding(subject, "ok", f"Label Studio reaches the backend {url}")
    if registered and registered[0] != ours:
        yield Finding(
            "first backend",
            "change",
            f"Label Studio uses only the first backend, {registered[0].url}, for predictions: remove it (Settings, "
            "Model) if that is not intended",
        )
    if settings.webhook_secret and not user:
        yield Finding(
            "start training",
            "change",
            "the button Start Training does not work, because Label Studio presses it without our secret: set "
            "TSAL_BASIC_AUTH_USER and TSAL_BASIC_AUTH_PASSWORD, for the backend too, and connect again",
        )


def _webhook(services: Services, number: int) -> Iterator[Finding]:
    """Our webhook belongs in the place of the one that Label Studio makes, which has no secret and sends everything."""
    studio, settings = services.studio, services.settings
    # The query names the project, since some events do not.
    url, headers = f"{settings.backend_url}/webhook?project={number}", secret_header(settings)
    wanted = {
        "url": url,
        "headers": headers,
        "actions": tuple(sorted(ACTIONS)),
        "send_payload": True,
        "send_for_all_actions": False,
        "is_active": True,
    }
    ours: Webhook | None = None
    for one in studio.webhooks(number):
        if one.url == url and ours is None:
            ours = one
        elif one.url.startswith(f"{settings.backend_url}/webhook"):
            text = f"remove the webhook {one.url} that Label Studio made"
            yield Finding("webhook", "change", text, partial(studio.delete_webhook, one.id))
    if ours is None:
        create = partial(studio.create_webhook, number, url, ACTIONS, headers)
        yield Finding("webhook", "change", f"add the webhook {url}", create)
        return
    differing = [name for name, value in wanted.items() if getattr(ours, name) != value]
    if differing:
        correct = partial(studio.update_webhook, ours.id, **wanted)
        yield Finding("webhook", "change", f"correct the webhook {url}: {', '.join(differing)}", correct)
    else:
        yield Finding("webhook", "ok", f"the webhook {url} is there and active")


def _fields(services: Services, number: int) -> Iterator[Finding]:
    """What the project itself must have; registering a backend sets ``model_version`` to the backend's title."""
    studio = services.studio
    info = studio.project(number)
    order = services.orders(number).current_name()
    wanted: dict[str, Any] = {"sampling": SAMPLING, "show_collab_predictions": True}
    if order is not None and order in studio.model_versions(number):
        wanted["model_version"] = order
    for name, value in wanted.items():
        if getattr(info, name) == value:
            yield Finding(name, "ok", f"{name} is {value}")
        else:
            update = partial(studio.update_project, number, **{name: value})
            yield Finding(name, "change", f"set {name} to {value} (it is {getattr(info, name)})", update)


def _watched(services: Services, number: int) -> Iterator[Finding]:
    folder = services.folder(number)

    def watch() -> None:
        mark(services.settings.data_dir)
        folder.mkdir(parents=True)

    if not folder.is_dir():
        yield Finding("sidecar's list", "change", f"let the sidecar watch the project ({folder})", watch)


def _maximum_annotations(services: Services, number: int) -> Iterator[Finding]:
    maximum = services.studio.project(number).maximum_annotations
    if maximum > 1:
        yield Finding(
            "annotations per task",
            "change",
            f"Annotations per task is {maximum}: set it to 1, because second annotations are asked for in random order",
        )


def _versions(services: Services, number: int) -> Iterator[Finding]:
    for name in services.versions(number).damaged():
        yield Finding("versions", "change", f"version {name} was damaged and set aside: look at it, then remove it")
    parked = parked_now(services, number)
    if parked is not None:
        yield Finding("parked", "change", f"a fine-tune has been parked since {parked.at[:16]}: {parked.reason}")
