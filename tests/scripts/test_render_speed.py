from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts.render_speed import BEGIN, END, curves, main, number

PAGE = f"# Speed\n\nBy hand.\n\n{BEGIN}\nold figures\n{END}\n\n## Also by hand\n"


def row(part: str, what: str, median: float, spread: float = 0.0) -> dict[str, Any]:
    return {"part": part, "what": what, "unit": "s", "median": median, "spread": spread, "note": "simplified"}


def circumstances(ended: str, instructions: str = "AVX512") -> dict[str, Any]:
    machine = {"processor": "Example 9000", "instructions": instructions, "cores": 2}
    return {"ended": ended, "machine": machine, "versions": {"python": "3.11.7", "torch": "2.14.1"}}


def bar(
    part: str, name: str, value: float, most: float, earlier: float | None, at_least: bool = False
) -> dict[str, Any]:
    holds = value >= most if at_least else value <= most
    row = {"part": part, "name": name, "value": value, "bar": most, "at_least": at_least}
    return row | {"holds": holds, "earlier": earlier}


@pytest.fixture
def bench() -> dict[str, Any]:
    return {
        "quick": False,
        "parts": {
            "growth": circumstances("2026-11-29T23:00:00+00:00"),
            "import": circumstances("2026-11-30T01:00:00+00:00"),
            "loop": circumstances("2026-12-02T01:00:00+00:00", "AVX2"),
        },
        "measured": [
            row("growth", "import of 10,000 frames", 30.0),
            row("growth", "import of 1,000 frames", 3.0, 0.5),
            row("import", "import of 100 clips", 1.0),
            row("loop", "a batch", 20.0),
        ],
        "bars": [
            bar("import", "start", 2.5, 5, 9.0),
            bar("import", "times faster", 7.0, 10, None, at_least=True),
            bar("loop", "batch", 20.0, 30, None),
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
    assert "Measured on 2026-11-29 and 2026-11-30 on 2 cores (Example 9000, AVX512), with" in page
    assert "| start | 9 | 2.5 | ≤ 5 | yes |" in page
    assert "| times faster |  | 7 | ≥ 10 | **no** |" in page
    assert "| import of 1,000 frames | 3 | 0.25 | s | simplified |" in page
    assert (docs / "images" / "speed-growth.png").is_file()
    assert rendered(docs, bench) == page


def test_parts_of_another_machine_have_tables_of_their_own(docs: Path, bench: dict[str, Any]) -> None:
    first, second = rendered(docs, bench).split("Measured on 2026-12-02 on 2 cores (Example 9000, AVX2)")
    assert ("| start |" in first, "| a batch |" in first) == (True, False)
    assert ("| start |" in second, "| batch |  | 20 |" in second, "| a batch | 20 |" in second) == (False, True, True)
    assert first.count("![") == 1
    assert "![" not in second


def test_a_run_of_one_part_leaves_the_figures_of_the_others(docs: Path, bench: dict[str, Any]) -> None:
    before = rendered(docs, bench)
    alone = {
        "quick": False,
        "parts": {"import": circumstances("2026-11-30T02:00:00+00:00")},
        "measured": [row("import", "import of 100 clips", 4.0)],
        "bars": [bar("import", "start", 8.0, 5, 9.0)],
    }
    after = rendered(docs, alone)
    assert set(after.splitlines()) ^ set(before.splitlines()) == {
        "| start | 9 | 2.5 | ≤ 5 | yes |",
        "| start | 9 | 8 | ≤ 5 | **no** |",
        "| times faster |  | 7 | ≥ 10 | **no** |",
        "| import of 100 clips | 1 |  | s | simplified |",
        "| import of 100 clips | 4 |  | s | simplified |",
    }
    assert rendered(docs, bench) == before


def test_without_curves_there_is_no_picture(docs: Path, bench: dict[str, Any]) -> None:
    assert "images" not in rendered(docs, bench | {"measured": [row("import", "import of 100 clips", 1.0)]})
    assert not (docs / "images").exists()


def test_a_quick_run_or_none_leaves_the_page(docs: Path, bench: dict[str, Any]) -> None:
    assert rendered(docs, bench | {"quick": True}) == PAGE
    assert main(["--bench", str(docs / "nowhere.json"), "--docs", str(docs)]) == 0
    assert (docs / "speed.md").read_text() == PAGE


def test_curves_are_in_the_order_of_the_frames(bench: dict[str, Any]) -> None:
    assert curves(bench["measured"]) == {"import": [(1000, 3.0), (10_000, 30.0)]}


@pytest.mark.parametrize(
    ("value", "text"), [(0.01234, "0.0123"), (2.5, "2.5"), (99.96, "100"), (1234.5, "1,234"), (-0.5, "-0.5")]
)
def test_a_figure_has_three_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text


def test_the_page_of_this_clone_has_its_marks() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "speed.md").read_text()
    assert page.count(BEGIN) == page.count(END) == 1
