from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from ml_backend.errors import BackendError
from ml_backend.launch.processes import Processes
from scripts import browser as module
from scripts.browser import Browser, browser
from scripts.screenshots import LARGEST_BYTES, save

PAGE = """<body style="margin: 0; background: #f0f">
<button id="covered">covered</button>
<div id="over" style="position: fixed; inset: 0" onclick="this.remove()">over</div>
<input onchange="document.title = this.value"></body>"""


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Browser]:
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("there is no Chromium")
    (tmp_path / "page.html").write_text(PAGE)
    with Processes(lambda name, line: None) as processes, browser(processes, tmp_path / "profile") as page:
        page.open((tmp_path / "page.html").as_uri())
        yield page


def test_a_picture_has_the_fixed_size_and_colours(page: Browser, tmp_path: Path) -> None:
    save(page.picture(), tmp_path / "pictures" / "one.png")
    with Image.open(tmp_path / "pictures" / "one.png") as picture:
        assert picture.size == (module.WIDTH, module.HEIGHT)
        assert picture.convert("RGB").getpixel((700, 800)) == (255, 0, 255)


def test_only_what_is_not_covered_can_be_clicked(page: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.5)
    with pytest.raises(BackendError, match="intercepted"):
        page.click("//button")
    page.click("//div")
    page.click("//button")
    page.type("//input", "typed\n")
    page.wait("return document.title === 'typed'")
    with pytest.raises(BackendError, match="no //table within"):
        page.find("//table")


def test_a_picture_that_is_too_large_is_refused(tmp_path: Path) -> None:
    noise = io.BytesIO()
    Image.effect_noise((1400, 900), 90).save(noise, "PNG")
    with pytest.raises(BackendError, match=f"more than {LARGEST_BYTES}"):
        save(noise.getvalue(), tmp_path / "noise.png")
    assert not list(tmp_path.iterdir())
