"""Run the tests of what users rely on against several releases of Label Studio, on SQLite and on PostgreSQL."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ml_backend.commands.command import run
from ml_backend.errors import InvalidRequest
from ml_backend.launch.label_studio_environment import cached_program
from ml_backend.store.files import write_aside
from ml_backend.studio.releases import TESTED
from soak.capabilities import CAPABILITIES, INTERFACES, STORIES

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "label-studio.md"
DATABASES = ("sqlite", "postgresql")
FRAMEWORK = "label-studio-ml"
"""The name under which the file holds what came of `INTERFACES`."""
Cells = dict[str, dict[str, Any]]


def main(arguments: list[str] | None = None) -> int:
    """Run the tests against each release and each database, add what came of them to the file of results, and put
    the table of that file into the documentation; ends with 1 if a test failed.
    """
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument(
        "releases",
        nargs="*",
        default=(FRAMEWORK, *TESTED),
        help=f"releases of Label Studio, and {FRAMEWORK} for the interface of our model (all in the table)",
    )
    parser.add_argument("--databases", nargs="+", choices=DATABASES, default=DATABASES, help="databases (both)")
    parser.add_argument("--rows", nargs="+", choices=CAPABILITIES, metavar="ROW", help="rows of the table (all)")
    parser.add_argument(
        "--output", type=Path, default=Path("runs/studios.json"), help="where the results go (runs/studios.json)"
    )
    options = parser.parse_args(arguments)
    results: dict[str, Cells] = json.loads(options.output.read_text()) if options.output.is_file() else {}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    rows = {row: CAPABILITIES[row] for row in options.rows or CAPABILITIES}
    for name, cells in _measured(options.releases, options.databases, rows):
        results[name] = results.get(name, {}) | cells
        write_aside(options.output, json.dumps(results, indent=1) + "\n")
        for failure in _failures(cells):
            print(f"{name}: {failure}", flush=True)
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")
    return 1 if any(any(_failures(cells)) for cells in results.values()) else 0


def _measured(
    releases: Iterable[str], databases: Iterable[str], rows: Mapping[str, tuple[str, ...]]
) -> Iterator[tuple[str, Cells]]:
    for release in releases:
        if release == FRAMEWORK:
            yield FRAMEWORK, _run(FRAMEWORK, INTERFACES, {})
            continue
        program = cached_program(release, lambda line: print(f"install  {line}", flush=True))
        for database in databases:
            name = _name(release, database)
            yield (
                name,
                _run(name, CAPABILITIES, {"TSAL_TEST_LABEL_STUDIO": str(program), "TSAL_TEST_DATABASE": database}),
            )


def _run(name: str, rows: Mapping[str, tuple[str, ...]], environment: Mapping[str, str]) -> Cells:
    """Run the tests of all rows once, and give each row its results."""
    tests = arguments_of(rows)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tsal-studios-") as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "--quiet", f"--junitxml={report}", f"--basetemp={folder}/tests"]
        # Two files at once: most of the tests wait for servers.
        command += ["--numprocesses=2", "--dist=loadfile", "--no-loadscope-reorder", *tests]
        subprocess.run(  # noqa: S603  the command is ours
            command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, check=False
        )
        if not report.is_file():
            raise InvalidRequest(f"{name}: the tests did not run")
        cells = cells_of(report.read_text(encoding="utf-8"), rows)
    print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    return cells


def arguments_of(rows: Mapping[str, tuple[str, ...]]) -> list[str]:
    """pytest's arguments for the tests of all rows: each once, in the order that they depend on."""
    tests = [test for row in rows.values() for test in row]
    return list(dict.fromkeys(file if (file := test.partition("::")[0]) in STORIES else test for test in tests))


def cells_of(report: str, rows: Mapping[str, tuple[str, ...]]) -> Cells:
    """Give each row what came of its tests, by the report (JUnit's XML) of the run that had them all."""
    found = [(_node(case), *_outcome(case)) for case in ElementTree.fromstring(report).iter("testcase")]  # noqa: S314
    cells: Cells = {}
    for row, tests in rows.items():
        cell: dict[str, Any] = {"passed": 0, "failed": 0, "skipped": 0, "why": {}}
        for test in tests:
            of_test = [one for one in found if one[0] == test or one[0].startswith((f"{test}[", f"{test}::"))]
            for node, outcome, why in of_test or [(test, "failed", "it did not run")]:
                cell[outcome] += 1
                cell["why"] |= {node: why} if why else {}
        cells[row] = cell
    return cells


def with_tables(page: str, results: Mapping[str, Cells]) -> str:
    """Put the tables of the results between the marks of the page."""
    pattern = r"(?s)(<!-- studios: begin.*?-->\n).*?(<!-- studios: end -->)"
    return re.sub(pattern, lambda match: match[1] + "".join(_tables(results)) + match[2], page, count=1)


def _tables(results: Mapping[str, Cells]) -> Iterator[str]:
    yield f"| | {' | '.join(TESTED)} |\n|---|{'---|' * len(TESTED)}\n"
    for row in CAPABILITIES:
        cells = [
            ", ".join(_told(results.get(_name(release, database), {}).get(row)) for database in DATABASES)
            for release in TESTED
        ]
        yield f"| {row} | {' | '.join(cells)} |\n"
    yield "\n| how Label Studio's calls reach the model | |\n|---|---|\n"
    for row in INTERFACES:
        yield f"| {row} | {_told(results.get(FRAMEWORK, {}).get(row))} |\n"


def _told(cell: Mapping[str, Any] | None) -> str:
    if cell is None or not cell["passed"] + cell["failed"]:
        return "not run"
    passed, tried = cell["passed"], cell["passed"] + cell["failed"]
    return str(passed) if passed == tried else f"**{passed} of {tried}**"


def _node(case: ElementTree.Element) -> str:
    """The node ID: JUnit's XML has the module and the class in one dotted name."""
    names = case.get("classname", "").split(".")
    module = [name for name in names if not name[:1].isupper()]
    return "::".join([f"{'/'.join(module)}.py", *names[len(module) :], case.get("name", "")])


def _outcome(case: ElementTree.Element) -> tuple[str, str]:
    for tag, outcome in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
        said = case.find(tag)
        if said is not None:
            return outcome, said.get("message", "").strip()[:500] or outcome
    return "passed", ""


def _failures(cells: Cells) -> Iterator[str]:
    for row, cell in cells.items():
        if cell["failed"]:
            yield f"{row}: {cell['failed']} failed: {'; '.join(f'{node} ({why})' for node, why in cell['why'].items())}"


def _name(release: str, database: str) -> str:
    return f"{release} {database}"


if __name__ == "__main__":
    run(main)
