"""`tsal versions`: look at the model versions, activate one, go back, remove old ones."""

from __future__ import annotations

import getpass
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ml_backend.commands.command import Project, connected
from ml_backend.commands.order import show_refresh
from ml_backend.errors import DataTooNew, VersionUnknown
from ml_backend.logs import configure

if TYPE_CHECKING:
    from ml_backend.services import Services
    from ml_backend.store.versions import Manifest, VersionStore

SIDECAR_SECONDS = 3.0  # by then a running sidecar has begun

app = typer.Typer(
    name="versions", no_args_is_help=True, help="Look at model versions, activate one, undo that, remove old ones."
)
Version = Annotated[str, typer.Argument(metavar="VERSION", help="Its name, or its number.")]


@app.callback()
def _project_for_all(context: typer.Context, project: Project = None) -> None:
    context.obj = project


@app.command("list")
def list_versions(context: typer.Context, project: Project = None) -> None:
    """List every version: what it was trained on, how it compares with its parent, who made it active."""
    from ml_backend.loop import confirm

    services, number, store = _opened(context, project)
    print(listed(store))
    parked = confirm.parked_now(services, number)
    if parked:
        print(f"fine-tune parked since {parked.at}: {parked.reason}")
    for name in store.damaged():
        print(f"set aside as damaged: {name}")


@app.command()
def show(
    context: typer.Context,
    version: Annotated[
        str | None, typer.Argument(metavar="[VERSION]", help="Its name, or its number.", show_default="the active one")
    ] = None,
    project: Project = None,
) -> None:
    """Show all that is known about one version."""
    _, _, store = _opened(context, project)
    print(described(store, chosen(store, version or store.active())))


@app.command()
def activate(context: typer.Context, version: Version, project: Project = None) -> None:
    """Make a version the one that serves, and put the queue in its order."""
    services, number, store = _opened(context, project)
    _activate(services, number, chosen(store, version))


@app.command()
def rollback(context: typer.Context, project: Project = None) -> None:
    """Undo the last activation, whoever made it: the version that served before serves again.

    Repeat it to go further back. Use `activate` for any other version.
    """
    services, number, store = _opened(context, project)
    before = store.before()
    if before is None:
        raise VersionUnknown("no other version served before the active one: there is nothing to go back to")
    _activate(services, number, store.get(before), undo=True)


@app.command()
def prune(
    context: typer.Context,
    keep: Annotated[int, typer.Option(metavar="N", min=1, help="How many of the newest versions to keep.")] = 10,
    project: Project = None,
) -> None:
    """Remove old versions, but not those in use or the one that `rollback` would go back to."""
    _, _, store = _opened(context, project)
    removed = store.prune(keep)
    print("\n".join(f"removed {name}" for name in removed) or "nothing to remove")


def _opened(context: typer.Context, project: int | None) -> tuple[Services, int, VersionStore]:
    """What every subcommand works on; the project may be named before or after the subcommand."""
    from ml_backend.services import Services
    from ml_backend.settings import load

    configure()
    services = Services(load())
    number = connected(services, context.obj if project is None else project)
    return services, number, services.versions(number)


def listed(store: VersionStore) -> str:
    """One line per version, oldest first, in columns."""
    active = store.active()
    rows = [("", "version", "created", "parent", "trained on", "held out", "exact match", "parent's", "made active")]
    for name in store.names():
        try:
            one = store.get(name)
        except (VersionUnknown, DataTooNew) as error:
            rows.append(("", name, "", "", "", "", "", "", str(error)))
            continue
        rows.append(
            (
                "*" if name == active else "",
                name,
                one.created_at[:16],
                one.parent or "none",
                str(len(one.trained_on)),
                str(len(one.held_out)),
                _shown(one.metrics.get("exact_match")),
                _shown(one.metrics.get("exact_match_parent")),
                _made_active(store, one),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines if len(rows) > 1 else ["no version yet: the first batch has to be confirmed"])


def described(store: VersionStore, one: Manifest) -> str:
    """One version, one fact per line."""
    facts = {
        "version": one.version + (" (active)" if one.version == store.active() else ""),
        "created": one.created_at,
        "made active": _made_active(store, one),
        "parent": one.parent or "none: a new line of versions",
        "symptoms": ", ".join(one.label_names),
        "network": f"{one.backbone}, {one.weights}",
        "trained on": f"{len(one.trained_on)} frames",
        "held out": f"{len(one.held_out)} frames never trained on",
        "left out": f"{len(one.left_out)} frames that could not be read",
        "accepted unseen": f"{one.accepted} annotations that nobody looked at",
        "judged on": f"{one.metrics.get('frames', 0)} frames, {one.metrics.get('judged_on', 'held-out patients')}",
        "sample": one.metrics.get("sample") or "none",
        "exact match": f"{_shown(one.metrics.get('exact_match'))}, the parent's on the same frames "
        f"{_shown(one.metrics.get('exact_match_parent'))}",
    }
    for symptom, figures in one.metrics.get("symptoms", {}).items():
        facts[symptom] = ", ".join(f"{name} {_shown(value)}" for name, value in figures.items())
    facts |= {
        "labelled by hand": f"{_figure(one.batch.get('manual_share_validated'))} of the newest batch, plain "
        f"pseudo-labels {_figure(one.batch.get('manual_share_plain'))}",
        "ticks that stood": f"{_shown(one.ticks.get('stood'))} of the audit frames with a tick",
        "next batch": "; ".join(one.choice.get("reasons", ())) or "as set",
        "settings": ", ".join(f"{name} {value}" for name, value in one.settings.items()),
        "seed": str(one.seed),
        "seconds": ", ".join(f"{name} {value}" for name, value in one.seconds.items()),
        "notes": "; ".join(one.notes) or "none",
    }
    width = max(map(len, facts))
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in facts.items())


def _activate(services: Services, project: int, version: Manifest, undo: bool = False) -> None:
    """Activate a version and push its predictions; ``undo`` if this is a rollback."""
    from ml_backend.loop import order as ordering
    from ml_backend.loop.activate import activate as activated

    activated(services, project, version, by=getpass.getuser(), undo=undo)
    print(f"{version.version} is active")
    # A running sidecar sees this within a second and can read the trunk's activations from the cache, so it goes first.
    # The command then waits until the queue is in order, or puts it in order itself if no sidecar runs.
    time.sleep(SIDECAR_SECONDS)
    show_refresh(services, project, ordering.refresh_if_needed)


def chosen(store: VersionStore, named: str | None) -> Manifest:
    """The version that a command names by its name or its number; VersionUnknown where there is none."""
    if named is None:
        raise VersionUnknown("no version is active yet: name one")
    if named.isdigit():
        # By the names alone, so that a damaged version does not stop anybody who asks for another.
        found = [name for name in store.names() if int(name.split("-")[1]) == int(named)]
        if len(found) != 1:
            raise VersionUnknown(f"there is no version {named}; `tsal versions list` shows them all")
        return store.get(found[0])
    return store.get(named)


def _made_active(store: VersionStore, one: Manifest) -> str:
    entries = [entry for entry in store.activations() if entry.version == one.version]
    if not entries:
        return f"held back: {one.held_back}" if one.held_back else "never"
    return f"{entries[-1].at[:16]} by {entries[-1].by}" + (", held back first" if one.held_back else "")


def _shown(content: Any) -> str:
    from ml_backend.tsal.judgement import Figure

    found = Figure.read(content)
    return "–" if found is None else str(found) if found.patients else _figure(found.value)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
