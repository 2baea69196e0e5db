"""Write evidence for the head of the queue into the folder that Label Studio serves (TSAL_EVIDENCE_FILES).

This is for annotators whose browsers cannot reach the backend. A picture's file name is its signature, which cannot be
guessed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from ml_backend.errors import SettingsError
from ml_backend.logs import changed, event
from ml_backend.loop.evidence import Gatherer
from ml_backend.services import Services
from ml_backend.settings import Settings
from ml_backend.store.evidence_addresses import FOLDER, SUFFIX, name_of
from ml_backend.store.files import remove_leftovers, written_aside
from ml_backend.store.grounds import Grounds

logger = logging.getLogger(__name__)


def folder_of(settings: Settings, project: int) -> Path:
    """Return the folder of a project's pictures.

    Raises:
        SettingsError: if the folder that Label Studio serves is not set.
    """
    if settings.document_root is None:
        raise SettingsError("TSAL_EVIDENCE_FILES needs TSAL_DOCUMENT_ROOT, the folder that Label Studio serves")
    return settings.document_root / FOLDER / str(project)


def write_pictures(services: Services, project: int, written: str | None) -> str | None:
    """Write pictures for the frames at the head of the queue and remove all others.

    Nothing is done if ``written`` is the current order. Returns the order whose pictures are in the folder now. Errors
    are logged; at worst, pictures are missing.
    """
    settings, orders = services.settings, services.orders(project)
    if not (settings.evidence and settings.evidence_files) or orders.current_name() in (None, written):
        return written
    order = orders.current()
    if order is None:
        return written
    grounds = services.grounds(project).get(order.about.name)
    if grounds is None:
        return written
    try:
        folder = folder_of(settings, project)
        first = order.tasks[: settings.evidence_files].tolist()
        shown = [grounds.frames[row] for row in grounds.frames.rows_of(first).tolist()]
        url_of = {one.task: one.url for one in reversed(shown)}
        head = [url_of[task] for task in first if task in url_of]
        kept = {_file(services, project, url).name for url in head}
        _remove(folder, lambda name: name not in kept)
        remove_leftovers(folder, deep=False)
        gatherer = Gatherer(services)
        for url in head:
            with written_aside(_file(services, project, url), durable=False) as file:
                file.write(gatherer.picture(project, name_of(url)))
    except (OSError, SettingsError) as error:
        changed(logger, "evidence not written", level=logging.WARNING, project=project, reason=error)
        return written
    event(logger, "evidence written", project=project, order=order.about.name, frames=len(head))
    return order.about.name


def remove_blind(services: Services, project: int, grounds: Grounds) -> None:
    """Remove existing pictures of the frames that the new order asks blind; they belong to the previous order."""
    if services.settings.evidence_files and services.settings.document_root is not None:
        rows = grounds.frames.rows_of(grounds.blind).tolist()
        names = {_file(services, project, grounds.frames[row].url).name for row in rows}
        _remove(folder_of(services.settings, project), lambda name: name in names)


def _file(services: Services, project: int, url: str) -> Path:
    root = services.settings.document_root
    assert root is not None
    return root / services.evidence_addresses.file(project, url)


def _remove(folder: Path, unwanted: Callable[[str], bool]) -> None:
    for path in folder.glob(f"*{SUFFIX}"):
        if unwanted(path.name):
            path.unlink(missing_ok=True)
