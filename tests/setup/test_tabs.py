"""The Data Manager's tabs in a real Label Studio."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ml_backend.services import Services
from ml_backend.setup.findings import Finding
from ml_backend.setup.label_configuration import render
from ml_backend.setup.tabs import MARK, MOST, SUSPECTS, checked, put_suspects, wanted
from ml_backend.store.orders import About, Order, Told
from ml_backend.studio.tabs import Tab
from tests.installation import connected_settings
from tests.studio_server import StudioServer


@pytest.fixture
def services(studio_server: StudioServer, tmp_path: Path) -> Services:
    return Services(connected_settings(studio_server, tmp_path))


@pytest.fixture
def project(services: Services) -> int:
    return services.studio.create_project("Tabs", render())


def made(services: Services, project: int) -> list[Finding]:
    """Check the tabs and mend them, as `connect` does."""
    found = list(checked(services, project))
    for finding in found:
        if finding.mend is not None:
            finding.mend()
    return found


def listed(services: Services, project: int, title: str) -> list[int]:
    """Return the tasks that Label Studio lists in a tab, in order."""
    number, _ = services.studio.tabs(project)[title]
    answer = services.studio._calls.request("GET", "api/tasks", params={"project": project, "view": number})
    return [task["id"] for task in answer["tasks"]]


def served(services: Services, project: int, tasks: list[int], confidence: list[float]) -> None:
    """Save and activate an order as if it had been pushed."""
    about = About(
        version=None, strategy="cover", name="diversity.1", created_at="now", seed=0, unreadable={}, seconds={}
    )
    told = Told(np.zeros((len(tasks), 4), np.uint8), np.array(confidence, np.float32), {})
    orders = services.orders(project)
    orders.save(Order(about, np.array(tasks, np.int64), np.arange(len(tasks), dtype=np.float64), (), told))
    orders.activate(about.name)


def test_a_lead_gets_tabs_once_and_keeps_his_own(services: Services, project: int) -> None:
    own = Tab("mine", order="-tasks:id")
    services.studio.put_tab(project, own, None)
    tasks = services.studio.import_tasks(project, [{"image": f"/data/{n}.png", "clip": f"c{9 - n}"} for n in range(4)])
    predictions = [
        {"task": task, "model_version": "v", "score": score, "result": []}
        for task, score in zip(tasks, (0.5, 0.1, 0.7, 0.3), strict=True)
    ]
    services.studio.import_predictions(project, predictions)
    services.studio.update_project(project, model_version="v")
    services.studio.submit(tasks[0], [], lead_time=1.0)
    before = services.studio.tabs(project)

    assert {finding.state for finding in made(services, project)} == {"change"}
    assert {finding.state for finding in made(services, project)} == {"ok"}
    there = services.studio.tabs(project)
    assert set(there) - set(before) == {tab.title for tab in wanted(services, project)}
    assert all(title.startswith(MARK) for title in set(there) - set(before))
    assert {title: there[title] for title in before} == before
    assert listed(services, project, f"{MARK}next in the queue") == [tasks[1], tasks[3], tasks[2]]
    assert listed(services, project, f"{MARK}by clip") == tasks[::-1]
    assert listed(services, project, f"{MARK}accepted unseen") == []


def test_the_least_sure_follow_the_order(services: Services, project: int) -> None:
    tasks = services.studio.import_tasks(project, [{"image": f"/data/{n}.png"} for n in range(MOST + 3)])
    confidence = [float("nan"), *np.linspace(1, 0.5, MOST + 2).tolist()]
    served(services, project, tasks, confidence)
    made(services, project)
    assert set(listed(services, project, f"{MARK}least sure")) == set(tasks[-MOST:])
    served(services, project, tasks[:3], [0.9, 0.8, float("nan")])
    states = {finding.state for finding in made(services, project)}
    assert states == {"ok", "note"}
    assert listed(services, project, f"{MARK}least sure") == tasks[:2]


def test_suspects_have_a_tab_that_is_written_anew(services: Services, project: int) -> None:
    tasks = services.studio.import_tasks(project, [{"image": f"/data/{n}.png"} for n in range(3)])
    put_suspects(services, project, [tasks[2], tasks[0]])
    put_suspects(services, project, [tasks[1]])
    assert listed(services, project, SUSPECTS) == [tasks[1]]
    assert sum(title == SUSPECTS for title in services.studio.tabs(project)) == 1
