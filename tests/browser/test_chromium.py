from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page

from ml_backend.errors import BackendError
from scripts import browser as driver
from scripts.screenshots import LARGEST_BYTES, save
from tests.browser.accessibility import violations

WELL = '<html lang="en"><title>A page</title><body style="margin: 0; background: #f0f"><main>{}</main></body></html>'


def test_a_picture_has_the_fixed_size_and_colours(page: Page, tmp_path: Path) -> None:
    page.set_content(WELL.format(""))
    save(page.screenshot(), tmp_path / "pictures" / "one.png")
    with Image.open(tmp_path / "pictures" / "one.png") as picture:
        assert picture.size == (driver.WIDTH, driver.HEIGHT)
        assert picture.convert("RGB").getpixel((700, 800)) == (255, 0, 255)


def test_a_picture_that_is_too_large_is_refused(tmp_path: Path) -> None:
    noise = io.BytesIO()
    Image.effect_noise((1400, 900), 90).save(noise, "PNG")
    with pytest.raises(BackendError, match=f"more than {LARGEST_BYTES}"):
        save(noise.getvalue(), tmp_path / "noise.png")
    assert not list(tmp_path.iterdir())


def test_what_breaks_a_rule_of_accessibility_is_named(page: Page) -> None:
    page.set_content(WELL.format('<label>Name <input name="name"></label>'))
    assert violations(page) == []
    page.set_content(WELL.format('<input name="name"><p style="color: #aaa; background: #fff">pale</p>'))
    assert [one.split(" ")[0] for one in violations(page)] == ["color-contrast", "label"]


def test_each_person_has_cookies_of_their_own(people: Callable[[], Page]) -> None:
    one, other = people(), people()
    one.context.add_cookies([{"name": "who", "value": "one", "url": "http://127.0.0.1"}])
    assert one.context.cookies()
    assert not other.context.cookies()


def test_a_missing_chromium_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendError, match="install the package chromium"), driver.chromium():
        pass
