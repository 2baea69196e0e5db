from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from ml_backend.launch.demo_state import Options
from ml_backend.settings import SECTIONS, Settings
from scripts import browser, render_docs, screenshots

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_rendered_files_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert render_docs.main(["--check"]) == 0, capsys.readouterr().out


def test_a_stale_file_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    page = ROOT / "docs" / "settings.md"
    monkeypatch.setattr(render_docs, "rendered", lambda: iter([(page, "other")]))
    assert render_docs.main(["--check"]) == 1
    assert "docs/settings.md" in capsys.readouterr().out


def test_every_setting_belongs_to_a_section() -> None:
    assert set(SECTIONS.values()) <= set(Settings.model_fields)
    assert next(iter(Settings.model_fields)) in SECTIONS.values()


def test_only_the_lines_between_the_marks_change() -> None:
    text = "before\n  # settings: begin (x)\n  OLD:\n  # settings: end\nafter\n"
    expected = "before\n  # settings: begin (x)\n  NEW:\n  # settings: end\nafter\n"
    assert render_docs.between_marks(text, "  NEW:\n") == expected


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_only_what_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for path in set(re.findall(r"(?:scripts|label_config|ml_backend|tests)/[\w/]+\.\w+", text)):
        assert (ROOT / path).exists(), path
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"^ {4}make (\w+)", text, flags=re.MULTILINE)) <= targets
    settings = {f"TSAL_{name.upper()}" for name in Settings.model_fields} | {"TSAL_SECRETS_DIR"}
    assert set(re.findall(r"\bTSAL_[A-Z0-9_]+\b", text)) <= settings


def test_every_picture_is_shown_and_small() -> None:
    shown = {(page.parent / found).resolve() for page in PAGES for found in _pictures(page)}
    there = set((ROOT / "docs" / "images").iterdir())
    assert shown == there
    for path in there:
        assert path.stat().st_size <= screenshots.LARGEST_BYTES
        if not path.name.startswith(("method-", "speed-")):  # those are drawn, the others are screenshots
            with Image.open(path) as picture:
                assert picture.size == (browser.WIDTH, browser.HEIGHT)


def _pictures(page: Path) -> list[str]:
    return re.findall(r"!\[[^]]+\]\(([^)]+)\)", page.read_text(encoding="utf-8"))


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.integration
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        # Pages are read where there is no internet: nothing is loaded from outside.
        assert not re.findall(r'(?:src|<link[^>]* href)="https?://', page.read_text(encoding="utf-8")), page


def test_the_makefile_passes_only_options_that_the_demo_has() -> None:
    options = re.search(r"DEMO_OPTIONS := (.*?)\n\n", (ROOT / "Makefile").read_text(), re.DOTALL)
    assert options
    passed = set(re.findall(r"--[a-z-]+", options[1]))
    assert passed <= {f"--{name.replace('_', '-')}" for name in Options.__annotations__}
    assert {"--clips", "--labels", "--unattended", "--rounds", "--batch", "--report"} <= passed
