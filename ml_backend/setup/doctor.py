"""Check everything that a new team stumbles over; of each thing report that it is right, or what to change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from ml_backend.errors import DataTooNew, SettingsError
from ml_backend.services import Services
from ml_backend.settings import load
from ml_backend.setup import address, machine, project, release
from ml_backend.setup.checks import checks
from ml_backend.setup.findings import Finding, run
from ml_backend.store.format import require_readable
from ml_backend.studio.client import Studio
from ml_backend.studio.configuration import Configuration

SECONDS = 30.0
"""The longest that a check may take; Label Studio's calls have shorter limits of their own."""
MODEL_SECONDS = 300.0
"""Building the network may begin with a download of 100 MB."""
CALL_SECONDS = 10.0


def findings(only: int | None = None) -> Iterator[Finding]:
    """Check the settings, this machine, Label Studio, and project ``only`` or every connected one, in that order.

    Changes nothing, except that the network's weights are downloaded where they are missing, as the backend would.
    Never hangs.
    """
    try:
        settings = load()
        require_readable(settings.data_dir)
        settings.token()
        settings.require_authentication()
        address.require_dot(settings.backend_url)
    except (SettingsError, DataTooNew) as error:
        yield Finding("settings", "change", str(error))
        return
    yield Finding("settings", "ok", "the settings are valid")
    yield from run("disk", partial(machine.disk, settings), SECONDS)
    yield from run("redis", partial(machine.redis, settings), SECONDS)
    yield from run("model", partial(machine.model, settings), MODEL_SECONDS)
    yield from run("backend from here", lambda: [address.from_here(settings)], SECONDS)
    yield from run("sdk", machine.sdk, SECONDS)
    services = Services(settings)
    services.studio = Studio(settings.label_studio_url, settings.token(), timeout=CALL_SECONDS, slow=SECONDS)
    there = list(run("label studio", partial(release.checked, services.studio), SECONDS))
    yield from there
    if any(finding.state == "change" for finding in there):
        return
    numbers = [only] if only is not None else services.projects()
    if not numbers:
        yield Finding("project", "note", "no project is connected yet: run `tsal connect --project ID`")
    for number in numbers:
        yield from _project(services, number)


def _project(services: Services, number: int) -> Iterator[Finding]:
    """Check one project; without its settings and its labelling configuration nothing else can be checked."""
    readable: list[Configuration] = []

    def read() -> Iterator[Finding]:
        info = services.studio.project(number)
        yield Finding("project", "ok", f"project {number}: {info.title}")
        readable.append(services.configuration(info.label_config))
        yield from project.symptoms(readable[0])

    yield from run("project", read, SECONDS)
    if not readable:
        return
    of_project = checks(services, number, readable[0])
    of_project["right to predict"] = partial(project.rights, services.studio, number)
    for subject, check in of_project.items():
        for finding in run(subject, check, SECONDS):
            remedy = f": run `tsal connect --project {number}`" if finding.mend else ""
            yield replace(finding, text=finding.text + remedy)
