"""Evidence as an annotator sees it, with a real Label Studio, backend and browser."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page

from ml_backend.loop import order as ordering
from ml_backend.services import Services
from ml_backend.setup.evidence import PANEL, with_panel
from ml_backend.web.app import create_app
from scripts.browser import log_in
from tests.installation import CONFIGURATION, connected_settings, task_with_frame
from tests.loop.installed import silent
from tests.setup.test_connect import answering
from tests.studio_server import StudioServer

LOADED = "() => [...document.images].some(one => one.naturalWidth === 920 && one.clientWidth > 300)"


def test_an_annotator_opens_the_panel_and_sees_why(page: Page, studio_server: StudioServer, tmp_path: Path) -> None:
    folder = studio_server.files / "evidence"
    settings = connected_settings(studio_server, tmp_path, document_root=studio_server.files, audit=0)
    services = Services(settings)
    studio = services.studio
    project = studio.create_project("Evidence", with_panel(CONFIGURATION, settings.evidence_key))
    folder.mkdir(parents=True)
    studio.create_local_storage(project, str(folder), "Frames")
    tasks = [task_with_frame(folder, number)["data"] for number in range(1, 5)]
    rows = [{**one, "image": one["image"].replace("?d=", "?d=evidence/files/")} for one in tasks]
    addresses = services.evidence_addresses
    ids = studio.import_tasks(project, [{**row, "evidence": addresses.of(project, row["image"])} for row in rows])
    result = {"from_name": "symptoms", "to_name": "image", "type": "choices", "value": {"choices": ["A-line"]}}
    studio.submit(ids[0], [result], lead_time=1.0)
    ordering.refresh(services, project, silent)
    with answering(settings.port, create_app(settings)):
        log_in(page, studio_server.url, studio_server.username, studio_server.password)
        page.goto(f"{studio_server.url}/projects/{project}/data?task={ids[1]}")
        panel = page.get_by_text(PANEL)
        panel.wait_for()
        panel.click()
        page.wait_for_function(LOADED)
