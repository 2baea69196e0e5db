"""A headless Chromium, the system's own, for the screenshots and for the tests of what people see."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, sync_playwright

from ml_backend.errors import BackendError

WIDTH, HEIGHT = 1400, 900
SECONDS = 60.0
FRAME_SHOWN = """() => [...document.images].some(
    one => one.naturalWidth && (one.src.startsWith("blob:") || one.src.includes("/data/") && one.clientWidth > 200)
)"""
"""Whether the labelling page has its picture; releases before 1.23 load it from its own address."""
_ARGUMENTS = ("--disable-gpu", "--no-first-run", "--disable-background-networking")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run Chromium until the block ends; each of its contexts is a person with a profile of their own.

    Raises BackendError where no Chromium is installed.
    """
    program = shutil.which("chromium")
    if program is None:
        raise BackendError("there is no Chromium: install the package chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_ARGUMENTS, chromium_sandbox=False)
        with browser:
            yield browser


def new_page(browser: Browser) -> Page:
    """A page of ``WIDTH`` × ``HEIGHT`` pixels for a person of its own; what is asked for is waited for ``SECONDS``."""
    context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT})
    context.set_default_timeout(1000 * SECONDS)
    return context.new_page()


def log_in(page: Page, studio: str, email: str, password: str) -> None:
    """Log a person in to the Label Studio at the address ``studio``."""
    page.goto(f"{studio}/user/login")
    page.locator("input[name=email]").fill(email)
    page.locator("input[name=password]").fill(password)
    page.locator("form button[type=submit]").click()
    page.wait_for_url(lambda url: "/user/login" not in url)


def label_all_tasks(page: Page, studio: str, project: int) -> None:
    """Open the first frame of the queue, as the button Label All Tasks does."""
    page.goto(f"{studio}/projects/{project}/data")
    page.get_by_role("button", name="Label All Tasks").click()
    page.locator("button", has_text="Submit").first.wait_for()  # older releases have "Submit and exit" too
