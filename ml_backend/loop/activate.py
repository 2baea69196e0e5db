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
    """Activate a version that can serve the project; the queue follows at the next refresh.

    ``expected`` names the version that was active when the person decided, the present one if it is left out; ``undo``
    if this is a rollback.

    Raises:
        VersionUnknown: if it cannot serve the project as it is now; the active version then stays.
        ActiveVersionChanged: if another version than ``expected`` is active.
    """
    store = services.versions(project)
    wanted = store.active() if expected is ... else expected
    configuration = services.configuration(services.studio.project(project).label_config)
    difference = ordering.unfit(services, version, configuration)
    if difference:
        # Active but unused, it would leave the annotators without pseudo-labels until the next batch is trained on.
        raise VersionUnknown(
            f"{version.version} cannot serve, {difference}: change that back first, or activate another version"
        )
    # The same backbone with other weights, or a damaged file, shows only here.
    services.predictor.network(len(version.label_names)).load_tail(store.tail(version.version))
    store.activate(version.version, by=by, expected=wanted, undo=undo)
    event(logger, "version active", project=project, version=version.version, by=by)
