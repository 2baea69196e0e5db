"""The sidecar: keeps Label Studio's queue in the order of informativeness, with validated pseudo-labels as defaults."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from tqdm import tqdm

from ml_backend.errors import InvalidRequest
from ml_backend.logs import configure
from ml_backend.loop import order as ordering
from ml_backend.loop.queue import Report
from ml_backend.loop.watch import watch
from ml_backend.services import Services
from ml_backend.settings import load
from ml_backend.store.orders import Order


def main(arguments: list[str] | None = None) -> int:
    """Score the unlabelled frames with the active version, push order and pseudo-labels, switch to them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--once", action="store_true", help="put the queue in order now and end")
    mode.add_argument(
        "--watch",
        action="store_true",
        help="go on: react to new versions and new frames, and poll for what webhooks did not tell",
    )
    parser.add_argument(
        "--project", type=int, action="append", help="project id; may be repeated (default: every connected project)"
    )
    options = parser.parse_args(arguments)
    configure()
    services = Services(load())
    if options.once:
        projects = options.project or services.projects()
        if not projects:
            raise InvalidRequest("no project is connected: name one with --project, or run scripts/connect.py first")
        for project in projects:
            refresh_with_bar(services, project, ordering.refresh)
        return 0
    watch(services, options.project)
    return 0


def refresh_with_bar(
    services: Services, project: int, refresh: Callable[[Services, int, Report], Order | None]
) -> None:
    """Put a project's queue in order, by ``refresh``, and show how far it is."""
    with tqdm(unit="frame", desc=f"project {project}", disable=None) as bar:

        def report(stage: str, done: int, total: int) -> None:
            bar.set_description(f"project {project}: {stage}")
            bar.total = total
            bar.n = done
            bar.refresh()

        order = refresh(services, project, report)
    print(
        f"project {project}: {len(order.tasks)} frames in the order {order.about.name}"
        if order
        else f"project {project}: no frame is left to annotate"
    )
