"""`tsal suspects`: list confirmed frames that deserve a second look."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ml_backend.commands.command import Project, connected
from ml_backend.progress import Progress

if TYPE_CHECKING:
    from ml_backend.loop.suspects import Suspect

First = Annotated[int, typer.Option("--first", metavar="N", min=1, help="How many to list, the most suspect first.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, to be read by a program.")]

InTab = Annotated[bool, typer.Option("--tab", help="Also list the frames in a tab of Label Studio's Data Manager.")]


def suspects(project: Project = None, first: First = 20, as_json: Json = False, tab: InTab = False) -> None:
    """List confirmed frames that deserve a second look.

    These are frames whose labels contradict those of the confirmed frames most like them, and the network. Each comes
    with the reasons and a link. No answer is changed: review them in Label Studio and correct what is wrong.
    """
    from ml_backend.logs import configure
    from ml_backend.loop.suspects import suspects as found_in
    from ml_backend.services import Services
    from ml_backend.settings import load
    from ml_backend.setup.tabs import put_suspects

    configure()
    services = Services(load())
    number = connected(services, project)
    with Progress(f"project {number}", "frame") as progress:
        found = found_in(services, number, lambda stage, done, total: progress.at(done, total, stage))
    if tab:
        put_suspects(services, number, [one.task for one in found[:first]])
    if as_json:
        print(json.dumps([asdict(one) for one in found[:first]], indent=1))
        return
    print(f"project {number}: {len(found)} confirmed frames are contradicted" + (":" if found else ""))
    for one in found[:first]:
        print(_line(one))
    standing = services.finishes(number).standing()
    if found and standing is not None:
        print(f"Certificate {standing.number} stands: it becomes void when an answer that it rests on is corrected.")


def _line(one: Suspect) -> str:
    witnesses = ", ".join(map(str, one.witnesses))
    return f"task {one.task}: {one.words}. Most like it: tasks {witnesses}. {one.link}"
