"""Chromium for the tests: `page` is a person's page, `people` makes more of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page

from scripts.browser import chromium, new_page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium for the tests of one file; skips where none is installed."""
    if shutil.which("chromium") is None:
        pytest.skip("there is no Chromium: install the package chromium")
    with chromium() as browser:
        yield browser


@pytest.fixture
def people(browser: Browser) -> Iterator[Callable[[], Page]]:
    """Makes a page for each person, with cookies of its own; all are closed after the test."""
    made: list[Page] = []

    def person() -> Page:
        made.append(new_page(browser))
        return made[-1]

    yield person
    for page in made:
        page.context.close()


@pytest.fixture
def page(people: Callable[[], Page]) -> Page:
    """The page of one person."""
    return people()
