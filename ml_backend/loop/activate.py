"""Activate a version at a person's request."""

from __future__ import annotations

import logging
from types import EllipsisType

from ml_backend.errors import VersionUnknown
from ml_backend.logs import event
from ml_backend.loop import order as ordering
from ml_backend.services import Services
from ml_backend.store.versions import Manifest

logger = logging.getLogger(__name__)


def activate(
    services: Services,
    project: int,
    version: Manifest,
    by: str,
    expected: str | EllipsisType | None = ...,
    undo: bool = False,
) -> None:
    """Activate a version for the project; the queue follows at the next refresh.

    ``expected`` names the version that was active when the person decided; by default, it is the one active now.
    ``undo`` marks a rollback.

    Raises:
        VersionUnknown: if the version does not fit the project as it is now; the active version then stays.
        ActiveVersionChanged: if a version other than ``expected`` is active.
    """
    store = services.versions(project)
    wanted = store.active() if expected is ... else expected
    configuration = services.configuration(services.studio.project(project).label_config)
    difference = ordering.unfit(services, version, configuration)
    if difference:
        # An active version that cannot be used leaves annotators without pseudo-labels until the next fine-tune.
        raise VersionUnknown(
            f"{version.version} cannot be used because {difference}; undo that change, or activate another version"
        )
    # Only loading reveals the same backbone with other weights, or a damaged file.
    services.predictor.network(len(version.label_names)).load_tail(store.tail(version.version))
    store.activate(version.version, by=by, expected=wanted, undo=undo)
    event(logger, "version active", project=project, version=version.version, by=by)
