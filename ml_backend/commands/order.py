"""`tsal order`: put the queue in order once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ml_backend.commands.processes import Projects
from ml_backend.errors import InvalidRequest
from ml_backend.progress import Progress

if TYPE_CHECKING:
    from ml_backend.loop.queue import Report
    from ml_backend.services import Services
    from ml_backend.store.orders import Order


def order(project: Projects = None) -> None:
    """Put the queue in order once, and end.

    Scores the unlabelled frames with the active version, sends order and pseudo-labels, and switches to them.
    """
    from ml_backend.logs import configure
    from ml_backend.loop.order import refresh
    from ml_backend.services import Services
    from ml_backend.settings import load

    configure()
    services = Services(load())
    projects = project or services.projects()
    if not projects:
        raise InvalidRequest("no project is connected: name one with --project, or run `tsal connect` first")
    for number in projects:
        show_refresh(services, number, refresh)


def show_refresh(services: Services, project: int, refresh: Callable[[Services, int, Report], Order | None]) -> None:
    """Put a project's queue in order, by ``refresh``, and show the progress."""
    with Progress(f"project {project}", "frame") as progress:
        order = refresh(
            services, project, lambda stage, done, total: progress.at(done, total, f"project {project}: {stage}")
        )
    print(
        f"project {project}: {len(order.tasks)} frames in the order {order.about.name}"
        if order
        else f"project {project}: no frame is left to annotate"
    )
