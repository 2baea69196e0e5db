from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts.render_speed import BEGIN, END, curves, main, number

PAGE = f"# Speed\n\nBy hand.\n\n{BEGIN}\nold figures\n{END}\n\n## Also by hand\n"


def row(what: str, median: float, spread: float = 0.0) -> dict[str, Any]:
    return {"what": what, "unit": "s", "median": median, "spread": spread, "note": "simplified"}


@pytest.fixture
def bench() -> dict[str, Any]:
    return {
        "quick": False,
        "when": {"growth": "2026-11-29T23:00:00+00:00", "import": "2026-11-30T01:00:00+00:00"},
        "machine": {"processor": "Example 9000", "cores": 2},
        "versions": {"python": "3.11.7"},
        "measured": [
            row("import of 10,000 frames", 30.0),
            row("import of 1,000 frames", 3.0, 0.5),
            row("import of 100 clips", 1.0),
        ],
        "bars": [
            {"name": "start", "value": 2.5, "bar": 5, "at_least": False, "holds": True, "earlier": 9.0},
            {"name": "times faster", "value": 7.0, "bar": 10, "at_least": True, "holds": False, "earlier": None},
        ],
    }


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "speed.md").write_text(PAGE)
    return tmp_path / "docs"


def rendered(docs: Path, bench: dict[str, Any]) -> str:
    path = docs.parent / "bench.json"
    path.write_text(json.dumps(bench))
    assert main(["--bench", str(path), "--docs", str(docs)]) == 0
    return (docs / "speed.md").read_text()


def test_figures_replace_those_between_the_marks_and_nothing_else(docs: Path, bench: dict[str, Any]) -> None:
    page = rendered(docs, bench)
    assert "old figures" not in page
    assert page.startswith("# Speed\n\nBy hand.\n")
    assert page.endswith("## Also by hand\n")
    assert "Measured on 2026-11-29 and 2026-11-30 on 2 cores (Example 9000), with" in page
    assert "| start | 9 | 2.5 | ≤ 5 | yes |" in page
    assert "| times faster |  | 7 | ≥ 10 | **no** |" in page
    assert "| import of 1,000 frames | 3 | 0.25 | s | simplified |" in page
    assert (docs / "images" / "speed-growth.png").is_file()
    assert rendered(docs, bench) == page


def test_without_curves_there_is_no_picture(docs: Path, bench: dict[str, Any]) -> None:
    assert "images" not in rendered(docs, bench | {"measured": [row("import of 100 clips", 1.0)]})
    assert not (docs / "images").exists()


def test_a_quick_run_or_none_leaves_the_page(docs: Path, bench: dict[str, Any]) -> None:
    assert rendered(docs, bench | {"quick": True}) == PAGE
    assert main(["--bench", str(docs / "nowhere.json"), "--docs", str(docs)]) == 0
    assert (docs / "speed.md").read_text() == PAGE


def test_curves_are_in_the_order_of_the_frames(bench: dict[str, Any]) -> None:
    assert curves(bench) == {"import": [(1000, 3.0), (10_000, 30.0)]}


@pytest.mark.parametrize(
    ("value", "text"), [(0.01234, "0.0123"), (2.5, "2.5"), (99.96, "100"), (1234.5, "1,234"), (-0.5, "-0.5")]
)
def test_a_figure_has_three_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text


def test_the_page_of_this_clone_has_its_marks() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "speed.md").read_text()
    assert page.count(BEGIN) == page.count(END) == 1
