"""What the matrix of releases makes of a report, without running any test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ml_backend.studio.releases import TESTED
from soak import studios
from soak.capabilities import CAPABILITIES, INTERFACES, LOOP

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "label-studio.md").read_text(encoding="utf-8")
REPORT = """<testsuites><testsuite>
<testcase classname="tests.test_one" name="test_a" />
<testcase classname="tests.test_one" name="test_a[x]"><failure message="it broke">...</failure></testcase>
<testcase classname="tests.test_one" name="test_ab"><failure message="another">...</failure></testcase>
<testcase classname="tests.sub.test_two.TestClass" name="test_c"><skipped message="no such thing" /></testcase>
<testcase classname="tests.sub.test_two.TestClass" name="test_d"><error message="no server" /></testcase>
</testsuite></testsuites>"""
ROWS = {
    "whole": ("tests/test_one.py::test_a",),
    "a case": ("tests/test_one.py::test_a[x]",),
    "class": ("tests/sub/test_two.py::TestClass",),
    "absent": ("tests/test_three.py::test_gone",),
}


def results(**changes: int) -> dict[str, studios.Cells]:
    """The results of a matrix with three tests in each cell; ``changes`` are made to the first row."""
    first = next(iter(CAPABILITIES))
    made = {
        f"{release} {database}": {
            row: {"passed": 3, "failed": 0, "skipped": 0, "why": {}} | (changes if row == first else {})
            for row in CAPABILITIES
        }
        for release in TESTED
        for database in studios.DATABASES
    }
    return made | {studios.FRAMEWORK: {row: {"passed": 2, "failed": 0, "skipped": 1, "why": {}} for row in INTERFACES}}


def test_a_row_has_what_came_of_its_tests_and_of_no_others() -> None:
    cells = studios.cells_of(REPORT, ROWS)
    counts = {row: (cell["passed"], cell["failed"], cell["skipped"]) for row, cell in cells.items()}
    assert counts == {"whole": (1, 1, 0), "a case": (0, 1, 0), "class": (0, 1, 1), "absent": (0, 1, 0)}
    assert cells["whole"]["why"] == {"tests/test_one.py::test_a[x]": "it broke"}
    assert set(cells["class"]["why"].values()) == {"no such thing", "no server"}


def test_tests_that_build_on_each_other_run_whole_and_each_other_one_once() -> None:
    rows = {
        "one": (f"{LOOP}::test_last", "tests/test_a.py::test_a"),
        "two": (f"{LOOP}::test_first", "tests/test_a.py::test_a"),
    }
    assert studios.arguments_of(rows) == [LOOP, "tests/test_a.py::test_a"]


def test_every_row_names_tests_that_are_there() -> None:
    for test in {test for row in (CAPABILITIES | INTERFACES).values() for test in row}:
        path, *names = re.split("::|\\[", test)
        text = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"^(    )?(def|class) {names[0]}\b", text, flags=re.MULTILINE), test


def test_the_table_tells_passed_of_tried_and_the_page_stays_otherwise() -> None:
    page = studios.with_tables(PAGE, results(passed=1, failed=2))
    begin, end = page.index("<!-- studios: begin"), page.index("<!-- studios: end")
    table = page[begin:end]
    assert table.count("**1 of 3**") == len(TESTED) * len(studios.DATABASES)
    assert len(re.findall(r"^\|", table, flags=re.MULTILINE)) == len(CAPABILITIES) + len(INTERFACES) + 4
    assert studios.with_tables(page, results()) == studios.with_tables(PAGE, results())
    assert studios.with_tables(PAGE, {}).count("not run") == len(CAPABILITIES) * len(TESTED) * 2 + len(INTERFACES)
    assert (page[:begin], page[end:]) == (
        PAGE[: PAGE.index("<!-- studios: begin")],
        PAGE[PAGE.index("<!-- studios: end") :],
    )
    assert "not run" in studios.with_tables(PAGE, results(passed=0, skipped=1))


def test_the_documentation_shows_the_releases_and_rows_that_there_are() -> None:
    table = PAGE[PAGE.index("<!-- studios: begin") : PAGE.index("<!-- studios: end")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    assert tuple(rows[0][1:]) == TESTED
    assert [row[0] for row in rows if row[0] in CAPABILITIES] == list(CAPABILITIES)
    assert [row[0] for row in rows if row[0] in INTERFACES] == list(INTERFACES)


def test_the_newest_release_is_the_one_that_every_test_runs_against() -> None:
    pinned = (ROOT / "requirements" / "label-studio.txt").read_text(encoding="utf-8")
    assert f"label-studio=={TESTED[-1]}" in pinned.splitlines()


@pytest.mark.parametrize("release", TESTED)
def test_the_documentation_says_what_each_release_needs(release: str) -> None:
    minor = ".".join(release.split(".")[:2])
    needs = PAGE[PAGE.index("## Which Label Studio") : PAGE.index("<!-- studios: begin")]
    assert re.search(rf"\b{re.escape(minor)}\b", needs)
