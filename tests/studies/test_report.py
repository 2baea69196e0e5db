from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from studies import figures, report
from tests.studies import made_up


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("report")
    study = made_up.study()
    (folder / "figures").mkdir()
    Image.new("RGB", (4, 4), "red").save(folder / "figures" / "map.png")
    study["maps"] = [
        {
            "data": "made",
            "place": "most informative",
            "rank": 1,
            "clip": "a",
            "time": 0.0,
            "symptoms": {},
            "margin": 0.012,
        }
        | {"truth": ["B-line"], "figure": "figures/map.png"}
    ]
    figures.write(study, folder)
    path = report.write(study, folder)
    return path, path.read_text(encoding="utf-8")


def row_of(text: str, first: str) -> list[str]:
    """The cells of the first row that begins so."""
    for row in re.findall(r"<tr.*?</tr>", text, re.DOTALL):
        cells = re.findall(r"<td.*?>(.*?)</td>", row, re.DOTALL)
        if cells and cells[0] == first:
            return cells
    raise AssertionError(f"no row {first}")


def test_means_and_deviations_over_the_seeds(page: tuple[Path, str]) -> None:
    # Final rounds 0.6 and 0.8: mean 70%, deviation 10; specificity is half of it; sensitivity is undefined.
    cells = row_of(page[1], "MSML + TSAL (mlm)")
    assert cells[1:5] == ["70±10 / – / 35±5"] * 4
    assert cells[5:] == ["70.0±10.0", "20.0%", "2"]


def test_the_papers_numbers_stand_beside_ours(page: tuple[Path, str]) -> None:
    cells = row_of(page[1], "MSML + TSAL (MLM), the paper")
    assert cells[1:5] == ["100 / 92.38 / 100", "98.5 / 98.79 / 92.49", "83.26 / 76.77 / 96.36", "89.45 / 0 / 100"]
    assert cells[6] == "14.7%"
    assert '<tr class="paper">' in page[1]


def test_manual_shares_by_iteration(page: tuple[Path, str]) -> None:
    # By hand first; then 0.2 and 0.4; then nothing.
    assert row_of(page[1], "mlm, table")[1:4] == ["100±0", "30±10", "–"]
    assert row_of(page[1], "table, the paper")[1:6] == ["100", "2", "1", "0", "0"]


def test_other_sections_have_their_figures(page: tuple[Path, str]) -> None:
    text = page[1]
    assert row_of(text, "augmentation") == ["augmentation", "on", "made", "patients", "0.600±0.100", "0.600±0.000", "–"]
    assert row_of(text, "positive weights")[3] == "0.250"
    assert row_of(text, "NNBD-style (trained from scratch)")[5] == "30.0"
    assert "VGG16 – no weights &amp; no internet" in text
    assert "leaks near-duplicates" in text
    assert "margin 0.01" in text


def test_words_tell_what_was_reached_and_missed(page: tuple[Path, str]) -> None:
    assert row_of(page[1], "reached")[1:4] == ["0.100", "at least 0.08", "reached"]
    assert row_of(page[1], "missed")[1:] == ["–", "at most 0.08", "MISSED", "few &lt;clips&gt;"]


def test_everything_is_escaped_and_inside(page: tuple[Path, str]) -> None:
    text = page[1]
    assert "python scripts/study.py &lt;made&gt;" in text
    assert "mlm &lt; adaptive &amp; random" in text
    assert "<script" not in text
    assert not re.findall(r"(?:src|href)=\"(?!data:image/png;base64,)", text)
    assert "url(" not in text
    assert len(re.findall("<img", text)) == 4 + 4 + 1 + 1 + 1  # curves, manual, calibration, ablation, map


def test_what_was_not_run_is_said(tmp_path: Path) -> None:
    study = made_up.study()
    for name in ("runs", "full", "methods", "ablation", "rare", "calibration", "maps", "targets", "summary"):
        study[name] = []
    study["not_run"] = []
    figures.write(study, tmp_path)
    assert report.write(study, tmp_path).read_text().count("Not run.") == 5


def test_it_opens_in_a_browser_without_a_network(page: tuple[Path, str], tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium to open the report with")
    subprocess.run(
        [
            *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", "--proxy-server=127.0.0.1:9", "--window-size=1200,3000"),
            *(f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={tmp_path / 'page.png'}", page[0].as_uri()),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    with Image.open(tmp_path / "page.png") as picture:
        colours = picture.convert("RGB").getcolors(1 << 24)
    assert colours is not None
    assert len(colours) > 100  # text and figures, not a blank page
