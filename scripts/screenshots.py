"""Pictures of the pages that people see, taken in a demo with drawn frames and saved into docs/images."""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Locator, Page, expect

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ml_backend.commands.command import run
from ml_backend.errors import BackendError
from ml_backend.launch.demo_state import DemoState
from ml_backend.launch.label_studio import EMAIL, PASSWORD, wait_until
from ml_backend.launch.processes import SUPERVISOR_SECONDS, Processes, tsal
from ml_backend.loop.drawing import WIDTH
from ml_backend.setup.evidence import PANEL
from ml_backend.store.files import written_aside
from scripts.browser import FRAME_SHOWN, SECONDS, chromium, label_all_tasks, log_in, new_page

LARGEST_BYTES = 200_000
COLOURS = 128
OPEN_SECONDS = 600.0
READY = "Ctrl-C stops everything"


def main(arguments: list[str] | None = None) -> None:
    """Take screenshots of an earlier demo, or of a new one in which a simulated annotator confirmed three batches."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--folder", type=Path, help="folder of an earlier demo (a new one is made and removed)")
    parser.add_argument("--output", type=Path, default=Path("docs/images"), help="for the pictures (docs/images)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="tsal-screenshots-") as made:
        folder = options.folder or Path(made) / "demo"
        if options.folder is None:
            report = Path(made) / "report.json"
            command = tsal("demo", "--unattended", "--folder", str(folder), "--report", str(report))
            if subprocess.run(command, check=False).returncode:  # noqa: S603  the command is ours
                raise BackendError("the demo did not come to its end: see above")
        with opened(folder) as (studio, project), chromium() as browser:
            page = new_page(browser)
            log_in(page, studio, EMAIL, PASSWORD)
            for name, show in PICTURES.items():
                show(page, studio, project)
                save(page.screenshot(), options.output / f"{name}.png")
            lead = _lead(page, folder, project)
            for name, look in LEAD.items():
                look(page, lead)
                save(page.screenshot(), options.output / f"{name}.png")


@contextmanager
def opened(folder: Path) -> Iterator[tuple[str, int]]:
    """Open a demo again until the block ends; gives Label Studio's address and the project's number."""
    lines: list[str] = []

    def on_line(name: str, line: str) -> None:
        if name == "demo":
            print(line, flush=True)
            lines.append(line)

    with Processes(on_line) as processes:
        processes.start("demo", tsal("demo", "--folder", str(folder)), {}, SUPERVISOR_SECONDS)
        wait_until(lambda: any(READY in line for line in lines), OPEN_SECONDS, "the demo does not come up", processes)
        state = DemoState.read(folder)
        assert state is not None
        assert state.project is not None
        yield f"http://127.0.0.1:{state.studio_port}", state.project


def save(picture: bytes, path: Path) -> None:
    """Save a picture small enough for the documentation."""
    made = io.BytesIO()
    with Image.open(io.BytesIO(picture)) as image:
        image.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE).save(made, "PNG", optimize=True)
    size = made.tell()
    if size > LARGEST_BYTES:
        raise BackendError(f"{path.name} would have {size} bytes, more than {LARGEST_BYTES}: use fewer colours")
    with written_aside(path) as file:
        file.write(made.getvalue())
    print(f"{path}  {size / 1000:.0f} kB", flush=True)


def _data_manager(page: Page, studio: str, project: int) -> None:
    """Label Studio's list of tasks."""
    page.goto(f"{studio}/projects/{project}/data")
    page.get_by_role("button", name="Label All Tasks").wait_for()
    page.wait_for_function(
        "[...document.images].filter(one => one.src.includes('/data/') && one.naturalWidth).length > 5"
    )


def _labelling(page: Page, studio: str, project: int) -> None:
    """The first frame of the queue, with its ticks."""
    label_all_tasks(page, studio, project)
    page.locator("input[type=checkbox]:checked").first.wait_for(state="attached")
    page.wait_for_function(FRAME_SHOWN)


def _evidence(page: Page, studio: str, project: int) -> None:
    """Why the first frame of the queue is ticked as it is."""
    _labelling(page, studio, project)
    page.get_by_text(PANEL).click()
    page.wait_for_function(f"[...document.images].some(one => one.naturalWidth === {WIDTH} && one.clientWidth)")
    page.evaluate(f"[...document.images].find(one => one.naturalWidth === {WIDTH}).scrollIntoView()")


def _model(page: Page, studio: str, project: int) -> None:
    """The project's models in its settings."""
    page.goto(f"{studio}/projects/{project}/settings/ml")
    page.get_by_text("Connected").first.wait_for()


def _lead(page: Page, folder: Path, project: int) -> str:
    """Log in to the lead's page; return its address for the project."""
    state = DemoState.read(folder)
    assert state is not None
    lead = f"http://127.0.0.1:{state.port}/lead"
    page.goto(f"{lead}/login?next=/lead/{project}/standing")
    page.get_by_label("Name").fill(EMAIL)
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Labels").wait_for()
    return f"{lead}/{project}"


def _standing(page: Page, lead: str) -> None:
    """Where the project stands."""
    page.goto(f"{lead}/standing")


def _clip(page: Page, lead: str) -> None:
    """The contact sheet of the clip whose label changes most."""
    page.goto(f"{lead}/clips?by=changes")
    page.locator("tbody a").first.click()
    _shown(page.locator("img").first)
    page.wait_for_load_state("networkidle")


def _map(page: Page, lead: str) -> None:
    """The map of the pool, with the frame under the mouse."""
    deadline = time.monotonic() + OPEN_SECONDS
    page.goto(f"{lead}/map")
    while not page.locator(".map").count():  # it is drawn in the background
        if time.monotonic() > deadline:
            raise BackendError("the map does not come")
        time.sleep(1)
        page.reload()
    page.locator(".map use[id]").nth(7).hover(force=True)
    _shown(page.locator(".map figure img"))


def _shown(image: Locator) -> None:
    """Wait for a picture of the lead's page, whose security policy lets no other script look."""
    expect(image).not_to_have_js_property("naturalWidth", 0, timeout=1000 * SECONDS)


PICTURES: dict[str, Callable[[Page, str, int], None]] = {
    "labelling": _labelling,
    "evidence": _evidence,
    "data-manager": _data_manager,
    "model": _model,
}
LEAD: dict[str, Callable[[Page, str], None]] = {"lead": _standing, "lead-clip": _clip, "lead-map": _map}


if __name__ == "__main__":
    run(main)
