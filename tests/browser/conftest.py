"""Fixtures for tests in Chromium: `page` is one person's page, `people` makes pages for several."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from scripts.browser import SECONDS, chromium, new_page

expect.set_options(timeout=1000 * SECONDS)  # no test may fail for being slow on a busy machine


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start Chromium for the tests of one file; skip them if it is not installed."""
    if shutil.which("chromium") is None:
        pytest.skip("Chromium is missing: install the package chromium")
    with chromium() as browser:
        yield browser


@pytest.fixture
def people(browser: Browser) -> Iterator[Callable[[], Page]]:
    """Return a function that makes a page for another person, with its own cookies. Close all pages after the test."""
    made: list[Page] = []

    def person() -> Page:
        made.append(new_page(browser))
        return made[-1]

    yield person
    for page in made:
        page.context.close()


@pytest.fixture
def page(people: Callable[[], Page]) -> Page:
    """Make a page for one person."""
    return people()
