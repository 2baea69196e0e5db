from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from ml_backend.commands.command import run
from ml_backend.launch.processes import free_port
from scripts import audit

DJANGO = {audit.KNOWN.lower(): ["PYSEC-2018-5"]}


class _Osv(BaseHTTPRequestHandler):
    """Speaks OSV's protocol, which pip-audit can be pointed at; ``server.answer`` says what of a package."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, content = self.server.answer(f"{asked['package']['name']}=={asked['version']}")  # type: ignore[attr-defined]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


class Service:
    """A service of known vulnerabilities, and what `make lint` would say with it."""

    def __init__(self, server: HTTPServer, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.server, self.folder, self.capsys = server, folder, capsys
        self.url = f"http://127.0.0.1:{server.server_port}/v1/query"
        self.knows(DJANGO)

    def answers(self, answer: Callable[[str], tuple[int, bytes]]) -> None:
        self.server.answer = answer  # type: ignore[attr-defined]

    def knows(self, vulnerable: dict[str, list[str]]) -> None:
        self.answers(lambda package: (200, json.dumps(known(package, vulnerable.get(package, []))).encode()))

    def lint(self, *options: str) -> tuple[int, str, str]:
        """Exit code, what is said and which errors."""
        with pytest.raises(SystemExit) as ended:
            run(
                lambda: audit.main(
                    ["--requirements", str(self.folder), "-s", "osv", "--osv-url", self.url, "--timeout", "5", *options]
                )
            )
        assert isinstance(ended.value.code, int)
        return ended.value.code, *self.capsys.readouterr()


def known(package: str, names: list[str]) -> dict[str, Any]:
    """OSV's answer: a vulnerability, all names of which are given, mended in 9.9."""
    if not names:
        return {}
    where = {"package": {"name": package.split("==")[0], "ecosystem": "PyPI"}}
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "9.9"}]}]
    return {"vulns": [{"id": names[0], "aliases": names[1:], "affected": [where | {"ranges": ranges}]}]}


@pytest.fixture
def service(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Service]:
    """One that knows nothing against our three pins."""
    (tmp_path / "runtime.txt").write_text('flask==3.1.3  # why\nscipy==1.17.1\nnever==1 ; python_version < "3"\n')
    (tmp_path / "development.txt").write_text("scipy==1.17.1\npytest==9.0.3\n")
    (tmp_path / audit.EXCEPTIONS).write_text("# none\n\n")
    with HTTPServer(("127.0.0.1", 0), _Osv) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield Service(server, tmp_path, capsys)
        server.shutdown()


def test_pins_without_known_vulnerabilities_are_reported_in_one_line(service: Service) -> None:
    assert service.lint() == (0, "audit: 3 packages, 0 vulnerabilities, 0 exceptions\n", "")


def test_a_known_vulnerability_fails_and_is_named(service: Service) -> None:
    service.knows(DJANGO | {"flask==3.1.3": ["PYSEC-1-1", "CVE-1-1"]})
    code, said, errors = service.lint()
    assert (code, said) == (1, "audit: 3 packages, 1 vulnerabilities, 0 exceptions\n")
    first, last = errors.splitlines()
    assert first == "flask 3.1.3: PYSEC-1-1, CVE-1-1; mended in 9.9"
    assert last.startswith("error: ")
    assert audit.EXCEPTIONS in last


@pytest.mark.parametrize("named", ["PYSEC-1-1", "CVE-1-1"])
def test_only_the_listed_exception_is_accepted(service: Service, named: str) -> None:
    (service.folder / audit.EXCEPTIONS).write_text(f"{named}  # we never call it\n")
    service.knows(DJANGO | {"flask==3.1.3": ["PYSEC-1-1", "CVE-1-1"]})
    assert service.lint() == (0, "audit: 3 packages, 0 vulnerabilities, 1 exceptions\n", "")
    service.knows(DJANGO | {"flask==3.1.3": ["PYSEC-1-1", "CVE-1-1"], "scipy==1.17.1": ["PYSEC-2-2"]})
    code, _, errors = service.lint()
    assert code == 1
    assert "scipy 1.17.1: PYSEC-2-2" in errors
    assert "flask" not in errors


@pytest.mark.parametrize("line", ["PYSEC-1-1", "PYSEC-1-1 #", "PYSEC-1-1 because", "# a\nPYSEC 1 # because"])
def test_an_exception_without_a_reason_is_refused(service: Service, line: str) -> None:
    (service.folder / audit.EXCEPTIONS).write_text(f"{line}\n")
    code, _, errors = service.lint()
    assert code == 2
    assert "why the vulnerability is put up with" in errors


@pytest.mark.parametrize(
    "answer",
    [(404, b"{}"), (503, b"later"), (200, b"<html>log in</html>"), (200, b"{}"), None],
    ids=["not there", "out of order", "another page", "a mirror that knows none", "no network"],
)
def test_an_unreachable_service_is_reported_and_does_not_fail(
    service: Service, answer: tuple[int, bytes] | None
) -> None:
    if answer is None:
        service.url = f"http://127.0.0.1:{free_port()}/v1/query"
    else:
        service.answers(lambda package: answer)
    code, said, errors = service.lint()
    assert (code, errors) == (0, "")
    assert said.startswith("audit: left out, the service of known vulnerabilities cannot be asked: ")
    assert said.count("\n") == 1


def test_a_service_that_ends_halfway_fails(service: Service) -> None:
    service.answers(
        lambda package: (200, json.dumps(known(package, DJANGO[package])).encode())
        if package in DJANGO
        else (503, b"later")
    )
    code, said, errors = service.lint()
    assert (code, said) == (1, "")
    assert errors.startswith("error: pip-audit ended without a report: ")


def test_our_own_errors_fail_with_and_without_the_service(service: Service) -> None:
    service.url = f"http://127.0.0.1:{free_port()}/v1/query"
    code, _, errors = service.lint("--no-such-option")
    assert code == 1
    assert "--no-such-option" in errors
    for content, reason in (
        ("flask>=3\n", "flask is not pinned"),
        ("flask==3.1.3\n@@@\n", "invalid specifier at line 2"),
    ):
        (service.folder / "runtime.txt").write_text(content)
        code, _, errors = service.lint()
        assert code == 1
        assert reason in errors


def test_our_own_pins_and_exceptions_can_be_read() -> None:
    audit.audited(sorted(audit.PINNED.glob("*.txt")), ["--dry-run"])
    audit.exceptions(audit.PINNED / audit.EXCEPTIONS)
