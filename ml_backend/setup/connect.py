"""Connect a project of an existing Label Studio, and report every change."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ml_backend.services import Services
from ml_backend.setup import address, machine, project, release
from ml_backend.setup.checks import checks
from ml_backend.setup.findings import Finding

Say = Callable[[str], None]


def connect(services: Services, number: int, say: Say, *, dry_run: bool = False) -> None:
    """Connect the project; each reported line is ``ok``, ``note``, ``change`` (a dry run: ``would``) or ``missing``.

    Raises:
        ConfigurationUnusable: where the labelling configuration cannot be worked with.
        SettingsError: where Label Studio could not send webhooks to the backend's address.
        StudioRefused: where Label Studio refuses a step, with what to change there.
        BackendUnavailable: where the backend does not take the request for the first fine-tune.
    """

    def tell(findings: Iterable[Finding]) -> None:
        """Report the findings and make each change in its turn; ``missing`` is what only a person can change."""
        for finding in findings:
            state: str = finding.state
            if state == "change":
                state = "missing" if finding.mend is None else "would" if dry_run else "change"
            say(f"{state:8} {finding.text}")
            if finding.mend is not None and not dry_run:
                finding.mend()

    tell(release.checked(services.studio))
    info = services.studio.project(number)
    tell([Finding("project", "ok", f"project {number}: {info.title}")])
    configuration = services.configuration(info.label_config)
    tell(project.symptoms(configuration))
    address.require_dot(services.settings.backend_url)
    tell(machine.model(services.settings, anew=False))
    tell([address.from_here(services.settings)])
    for check in checks(services, number, configuration).values():
        tell(check())
    tell(project.first_fine_tune(services, number, configuration))
