"""`tsal finish`: certify that at most a given share of the labels of a pool is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ml_backend.commands.command import Project, connected
from ml_backend.progress import Progress

if TYPE_CHECKING:
    from ml_backend.services import Services
    from ml_backend.store.finishes import Finish

Error = Annotated[float, typer.Option("--error", metavar="SHARE", help="Largest share of wrong labels to allow.")]
Confidence = Annotated[float, typer.Option("--confidence", metavar="SHARE", help="How sure that must be.")]
Budget = Annotated[
    int | None, typer.Option("--budget", metavar="N", min=0, help="Also say what this many more answers can certify.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and draw nothing.")]
GiveUp = Annotated[bool, typer.Option("--give-up", help="Give up the standing certificate, so that the loop goes on.")]


def finish(
    project: Project = None,
    error: Error = 0.03,
    confidence: Confidence = 0.95,
    budget: Budget = None,
    dry_run: DryRun = False,
    give_up: GiveUp = False,
) -> None:
    """Finish a pool with a guarantee.

    Draws frames at random and asks them first. When they are answered, it says how many frames keep the machine's
    label with at most the given error, and how many go to people. Run it again to see the progress.
    """
    from ml_backend.logs import configure
    from ml_backend.loop import finish as finishing
    from ml_backend.services import Services
    from ml_backend.settings import load

    configure()
    services = Services(load())
    number = connected(services, project)
    if give_up:
        _show(services, number, finishing.give_up(services, number))
        return
    standing = finishing.advance(services, number)
    if standing is not None and standing.state != "void":
        _show(services, number, standing)
        return
    if standing is not None:
        _show(services, number, standing)
    with Progress(f"project {number}", "frame") as progress:
        offered = finishing.offer(
            services, number, error, confidence, budget, lambda stage, done, total: progress.at(done, total, stage)
        )
    print(
        f"project {number}: {offered.finish.people} of {offered.finish.pool} frames are answered. To certify at most "
        f"{100 * error:g}% wrong labels with {100 * confidence:g}% confidence takes an audit of "
        f"{offered.forecast.size} frames, and about {offered.forecast.answers:.0f} answers in all."
    )
    if offered.affordable is not None:
        print(
            f"{budget} answers can certify at most about {100 * offered.affordable.epsilon:.1f}% wrong labels, with an "
            f"audit of {offered.affordable.size} frames."
        )
    if not dry_run:
        _show(services, number, finishing.begin(services, number, offered))


def _show(services: Services, project: int, finish: Finish) -> None:
    from ml_backend.loop import finish as finishing
    from ml_backend.loop.certificate_page import summary_of

    print(f"certificate {finish.number}: {summary_of(finish)}")
    if finish.state == "open":
        done = finishing.answered(services, project, finish)
        print(f"{done} of {len(finish.drawn)} audit frames are answered; the others come first in the queue.")
    else:
        store = services.finishes(project)
        print(f"the record: {store.path(finish.number)}\nthe page: {store.page(finish.number)}")
