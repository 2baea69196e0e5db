"""`tsal evidence`: show a project's annotators why frames are ticked as they are."""

from __future__ import annotations

from typing import Annotated

import typer

from ml_backend.progress import Progress

Project = Annotated[int, typer.Option(metavar="ID", help="Number of the project in Label Studio.")]
Panel = Annotated[
    bool, typer.Option("--panel", help="Also add the panel to the project's labelling configuration, if missing.")
]


def evidence(project: Project, panel: Panel = False) -> None:
    """Give each task of a project the address of its evidence, a picture that shows why it is ticked as it is.

    `tsal import` does this for new tasks. Label Studio takes one task at a time, about ten per second. Tasks that have
    their address are skipped, so you can stop this command and run it again. Once the labelling configuration has the
    panel, Label Studio refuses to import tasks without the address: import them with `tsal import`.
    """
    from ml_backend.logs import configure
    from ml_backend.services import Services
    from ml_backend.settings import load
    from ml_backend.setup import evidence as setting_up

    configure()
    services = Services(load())
    configuration = services.configuration(services.studio.project(project).label_config)
    key = services.settings.evidence_key
    with Progress(f"project {project}", "task") as progress:
        done = setting_up.address_tasks(services, project, configuration, progress.at)
    print(f"project {project}: {done.changed} tasks were given an evidence address, {done.there} already had one")
    if setting_up.has_panel(configuration.xml, key):
        print(f"The labelling configuration has the panel {setting_up.PANEL!r}.")
    elif panel:
        services.studio.update_project(project, label_config=setting_up.with_panel(configuration, key))
        print(f"The labelling configuration now has the panel {setting_up.PANEL!r}.")
    else:
        print("Add this panel to the labelling configuration, or run this again with --panel:")
        print(setting_up.panel(key))
