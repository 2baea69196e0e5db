"""The lead's page as people use it: by keyboard alone, light and dark, on a tablet, and without JavaScript."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Literal
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect
from werkzeug.serving import make_server

from ml_backend.loop import asked
from ml_backend.services import Services
from ml_backend.web.app import create_app
from tests.browser.accessibility import violations
from tests.installation import PROJECT, manifest_of, settings_in, task_with_frame, write_no_weights
from tests.web.overviews import DRAWN, SCRIPT, counted, made_up
from tests.web.test_lead import LEAD, OURS, READER, SECRETS, certified

CLIP = f"clip?name={quote(f'first {SCRIPT}')}"
VIEWS = (
    "standing",
    "learning",
    "versions",
    "people",
    "again",
    "clips",
    CLIP,
    "finish",
    "confirm?what=rollback",
    "confirm?what=begin",
)


@pytest.fixture
def services(tmp_path: Path, redis_url: str) -> Services:
    """Return an installation with one project and a complete overview."""
    services = Services(settings_in(tmp_path, redis_url, **SECRETS))
    store = services.versions(PROJECT)
    for number in (1, 2):
        store.activate(store.create(manifest_of(number), write_no_weights).version, by="a test")
    services.overviews(PROJECT).write(made_up())
    services.census(PROJECT).write(counted(SCRIPT))
    services.pool_map(PROJECT).write(DRAWN)
    return services


@pytest.fixture
def address(services: Services) -> Iterator[str]:
    """Serve the page on a free port, and yield its address."""
    server = make_server("127.0.0.1", 0, create_app(services.settings), threaded=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/lead/"
    server.shutdown()
    thread.join()
    server.server_close()


def log_in(page: Page, address: str, pair: tuple[str, str] = LEAD) -> None:
    """Log in by keyboard: the first field has the focus."""
    page.goto(address)
    page.locator("#name:focus").wait_for()  # it gets the focus when it is first drawn, after the page is loaded
    page.keyboard.type(pair[0])
    page.keyboard.press("Tab")
    page.keyboard.type(pair[1])
    page.keyboard.press("Enter")
    page.wait_for_url(address)


def tab_to(page: Page, words: str) -> None:
    """Press Tab until a link or button with these words has the focus, and check that the focus is visible."""
    for _ in range(60):
        page.keyboard.press("Tab")
        focus = page.locator(":focus")
        if focus.evaluate("one => one.tagName") in ("A", "BUTTON") and words in (focus.text_content() or ""):
            assert focus.evaluate("one => getComputedStyle(one).outlineStyle") == "solid"
            return
    pytest.fail(f"Tab never reaches {words!r}")


@pytest.mark.parametrize("width", [768, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_keeps_to_the_rules_and_to_the_width(
    browser: Browser, address: str, scheme: Literal["light", "dark"], width: int
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 1000}, color_scheme=scheme)
    page = context.new_page()
    page.goto(address)
    assert violations(page) == []
    log_in(page, address)
    assert violations(page) == []
    for view in VIEWS:
        page.goto(f"{address}{PROJECT}/{view}")
        assert violations(page) == [], view
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), view
    context.close()


def test_a_version_is_made_active_by_keyboard_alone(page: Page, address: str, services: Services) -> None:
    store = services.versions(PROJECT)
    first, second = store.names()
    services.overviews(PROJECT).write(
        made_up().model_copy(
            update={"versions": tuple(one.model_copy(update={"version": first}) for one in made_up().versions[:1])}
        )
    )
    log_in(page, address)
    tab_to(page, f"{PROJECT}: Lungs")
    page.keyboard.press("Enter")
    page.wait_for_url("**/standing")
    tab_to(page, "Versions")
    page.keyboard.press("Enter")
    page.wait_for_url("**/versions")
    tab_to(page, "Make active")
    page.keyboard.press("Enter")
    page.wait_for_url("**/confirm?*")
    tab_to(page, "Yes")
    page.keyboard.press("Enter")
    page.wait_for_url("**/versions")
    assert page.get_by_role("status").is_visible()
    (job,) = services.queue(asked.QUEUE).jobs
    assert job.args == [PROJECT, "activate", "lead (page)", {"version": first, "expected": second}]
    tab_to(page, "Log out")
    page.keyboard.press("Enter")
    page.wait_for_url("**/login")


def test_a_finish_is_begun_by_keyboard_alone(page: Page, address: str, services: Services) -> None:
    log_in(page, address)
    page.goto(f"{address}{PROJECT}/finish")
    page.locator("#error").focus()
    page.keyboard.press("Control+a")
    page.keyboard.type("5")
    page.keyboard.press("Enter")
    page.wait_for_url("**/confirm?*")
    tab_to(page, "Yes")
    page.keyboard.press("Enter")
    page.wait_for_url("**/finish")
    (job,) = services.queue(asked.QUEUE).jobs
    assert job.args[3] == {"epsilon": 0.05, "confidence": 0.95}


def test_the_first_tab_skips_the_navigation(page: Page, address: str) -> None:
    log_in(page, address)
    page.goto(f"{address}{PROJECT}/standing")
    page.keyboard.press("Tab")
    assert page.locator(":focus").get_attribute("href") == "#content"


def test_it_is_read_without_javascript(browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    log_in(page, address, READER)
    page.goto(f"{address}{PROJECT}/learning")
    assert page.locator(".chart svg .dots").count() == 10
    assert page.get_by_role("table").count() == 2
    context.close()


def test_a_point_of_the_map_shows_its_frame_and_opens_its_task(page: Page, address: str, services: Services) -> None:
    folder = services.settings.document_root
    assert folder is not None
    task_with_frame(folder.parent, 2)
    log_in(page, address)
    page.goto(f"{address}{PROJECT}/map")
    figure = page.locator(".map figure")
    assert figure.is_hidden()
    page.locator("#t2").hover()
    figure.wait_for()
    expect(figure.locator("img")).not_to_have_js_property("naturalWidth", 0)
    assert figure.inner_text() == "Task 2: Healthy; 90% sure · from similar confirmed frames"
    with page.expect_request("**/data?task=2") as asked_for:
        page.locator("#t2").click()
    assert asked_for.value.url.startswith(services.settings.label_studio_url)


def test_names_with_markup_do_nothing(people: Callable[[], Page], address: str, services: Services) -> None:
    services.overviews(PROJECT).write(made_up(SCRIPT))
    certified(services)
    page = people()
    ran: list[str] = []
    page.add_init_script("window.alert = () => { document.title = 'it ran' }")
    page.on("console", lambda said: ran.append(said.text))
    log_in(page, address)
    for view in (*VIEWS, "certificate/1"):
        page.goto(f"{address}{PROJECT}/{view}")
        assert page.locator(f"script:not([src='{OURS}']), img[src=x]").count() == 0, view
        assert page.title() != "it ran"
    assert not [text for text in ran if "Content Security Policy" in text]
