"""An imported label in the browser: it is ticked, and whoever updates it makes it an answer of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, expect

from ml_backend.setup.label_configuration import render
from ml_backend.studio.client import Studio
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.payloads import Imported, imported_result, labels_of
from scripts.browser import FRAME_SHOWN, log_in
from tests.studio_server import StudioServer


def test_who_updates_an_imported_label_answers_it(studio_server: StudioServer, page: Page) -> None:
    studio = Studio(studio_server.url, studio_server.token)
    project, configuration = studio.create_project("Imported", render()), Configuration.parse(render())
    folder: Path = studio_server.files / f"imported-{project}"
    folder.mkdir()
    Image.fromarray(np.full((64, 64), 90, np.uint8)).save(folder / "frame.png")
    studio.create_local_storage(project, str(folder), "Frames")
    data = {"image": f"/data/local-files/?d={folder.name}/frame.png", "caption": "a frame"}
    (task,) = studio.import_tasks(project, [data])
    labels = np.array([1, 0, 0, 0], np.uint8)
    studio.submit(task, imported_result(labels, configuration, Imported("older.csv", "2026-01-01T00:00:00+00:00")))

    log_in(page, studio_server.url, studio_server.username, studio_server.password)
    page.goto(f"{studio_server.url}/projects/{project}/data?task={task}")
    page.wait_for_url("**tab=*")  # until it has its tab, the Data Manager may load the task once more
    page.wait_for_load_state("networkidle")
    page.locator("button", has_text="Update").wait_for()
    expect(page.locator(".symptoms input:checked")).to_have_count(1)
    page.wait_for_function(FRAME_SHOWN)
    (before,) = studio.confirmed_annotations(project)
    assert before.imported is not None
    page.keyboard.press("2")
    expect(page.locator(".symptoms input:checked")).to_have_count(2)
    with page.expect_response(lambda answer: answer.request.method == "PATCH" and "/annotations/" in answer.url):
        page.keyboard.press("Control+Enter")
    (after,) = studio.confirmed_annotations(project)
    assert labels_of(after.result, configuration)[0].tolist() == [1, 1, 0, 0]
    assert after.by_person
