"""Tabs of a real Label Studio's Data Manager that only their address holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from ml_backend.services import Services
from ml_backend.studio.tabs import Tab
from scripts.browser import log_in
from tests.installation import XML, connected_settings
from tests.studio_server import StudioServer

CLIPS = ("clip 1", "clip 10", "Clip 1", 'a "b" & <b>/é #1?', "clip 1", "clip 2")


@pytest.mark.parametrize(
    ("tab", "wanted"),
    [
        (Tab("clip 1", having=("clip", CLIPS[0])), [0, 4]),
        (Tab("markup", having=("clip", CLIPS[3])), [3]),
        (Tab("one", only=(1,)), [1]),
    ],
)
def test_the_address_of_a_tab_lists_exactly_its_tasks(
    page: Page, studio_server: StudioServer, tmp_path: Path, tab: Tab, wanted: list[int]
) -> None:
    services = Services(connected_settings(studio_server, tmp_path))
    project = services.studio.create_project("Tabs", XML)
    own = Tab("a person's own", unlabelled=True)
    services.studio.put_tab(project, own, None)
    tasks = services.studio.import_tasks(
        project, [{"image": f"/data/{number}.png", "clip": clip} for number, clip in enumerate(CLIPS)]
    )
    if tab.only:
        tab = Tab(tab.title, only=tuple(tasks[place] for place in tab.only))
    log_in(page, studio_server.url, studio_server.username, studio_server.password)
    with page.expect_response(lambda answer: "/api/tasks" in answer.url) as answer:
        page.goto(tab.address(studio_server.url, project))
    assert [task["id"] for task in answer.value.json()["tasks"]] == [tasks[place] for place in wanted]
    expect(page.get_by_text(f"Tasks: {len(wanted)} / {len(CLIPS)}")).to_be_visible()
    assert services.studio.tabs(project).keys() == {own.title}
