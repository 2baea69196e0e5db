"""`tsal audit`: what the answered audit frames say about the ticks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from ml_backend.commands.command import Project, connected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ml_backend.tsal.intervals import Interval
    from ml_backend.tsal.reliability import AuditReport, Share

Json = Annotated[bool, typer.Option("--json", help="Print JSON, to be read by a program.")]


def audit(project: Project = None, as_json: Json = False) -> None:
    """Say how right the ticks are, and whether seeing them sways people.

    Measured on the answered audit frames, which are drawn at random from the whole pool: the share of ticks that are
    right, also by source, how far their confidence can be trusted, and the automation bias. Intervals are 95%.
    """
    from ml_backend.logs import configure
    from ml_backend.loop.audit import audit as audited
    from ml_backend.services import Services
    from ml_backend.settings import load

    configure()
    services = Services(load())
    number = connected(services, project)
    report = audited(services, number)
    if as_json:
        print(json.dumps({"project": number, **report.to_json()}, indent=1))
    else:
        print("\n".join(_lines(number, report)))


def _lines(project: int, report: AuditReport) -> Iterator[str]:
    bias = report.bias
    yield (
        f"project {project}: {report.frames} audit frames of {report.patients} patients are answered, "
        f"{bias.hidden.frames} of them were asked without ticks."
    )
    if not report.frames:
        return
    yield f"Ticks right in every symptom: {_share(report.right)}"
    for source, share in report.sources.items():
        yield f"  by the {source}: {_share(share)}"
    yield f"Changed where people saw the ticks: {_share(bias.shown)}"
    yield f"Different where they did not: {_share(bias.hidden)}"
    if bias.value is None:
        yield "Automation bias: unknown; it takes answered frames with ticks and without"
    else:
        yield f"Automation bias, the difference: {_percent(bias.value)} {_ends(bias.interval)}"
    yield "Confidence  mean  right"
    for one in report.bins:
        yield f"{one.place / 10:.1f} to {(one.place + 1) / 10:.1f}  {_percent(one.confidence):>4}  {_share(one.right)}"
    yield f"Expected calibration error: {report.calibration_error:.3f}"


def _share(share: Share) -> str:
    if share.value is None:
        return "no frames"
    return f"{_percent(share.value)} {_ends(share.interval)}, {share.count} of {share.frames}"


def _ends(interval: Interval) -> str:
    return f"({_percent(interval.low)} to {_percent(interval.high)})"


def _percent(value: float) -> str:
    return f"{100 * value:.0f}%"
