"""Make the documentation's screenshots from a real Label Studio, with Debian's Chromium.

A demo with one trained version is made first, then opened again and photographed. Needs the packages chromium and
playwright (`make install`).
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, ViewportSize, sync_playwright

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
SIZE: ViewportSize = {"width": 1280, "height": 860}
DEMO = [sys.executable, "-m", "ml_backend", "demo"]


def main() -> int:
    """Make a demo with one version, open it again and take every picture."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--output", type=Path, default=IMAGES, metavar="DIR", help="where the pictures go")
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tsal-screenshots-") as place:
        folder = str(Path(place) / "demo")
        subprocess.run([*DEMO, "--folder", folder, "--unattended", "--rounds", "1", "--batch", "20"], check=True)  # noqa: S603
        demo = subprocess.Popen([*DEMO, "--folder", folder], stdout=subprocess.PIPE, text=True)  # noqa: S603
        try:
            address, email, password = _welcome(demo)
            _take(address, email, password, output)
        finally:
            demo.send_signal(signal.SIGINT)
            demo.wait(60)
    return 0


def _welcome(demo: subprocess.Popen[str]) -> tuple[str, str, str]:
    """Read what the demo prints until it says where to go: address, user and password."""
    assert demo.stdout is not None
    said = ""
    for line in demo.stdout:
        said += line
        found = re.search(r"Open +(\S+)[\s\S]*?Log in +(\S+) +password (\S+)", said)
        if found:
            return found[1], found[2], found[3]
    raise SystemExit(f"the demo ended before it said where to go:\n{said}")


def _take(address: str, email: str, password: str, output: Path) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        _log_in(page, address, email, password)
        page.goto(address)
        page.wait_for_load_state("networkidle")
        page.screenshot(path=output / "data-manager.png")
        page.get_by_role("button", name="Label All Tasks").click()
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(2000)  # the picture is drawn on a canvas, which has no event to wait for
        page.screenshot(path=output / "labelling.png")
        browser.close()


def _log_in(page: Page, address: str, email: str, password: str) -> None:
    page.goto(address)
    page.fill("input[name=email]", email)
    page.fill("input[name=password]", password)
    page.keyboard.press("Enter")
    page.wait_for_url("**/projects/**")


if __name__ == "__main__":
    sys.exit(main())
