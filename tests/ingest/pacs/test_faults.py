"""What a PACS may do to us that Orthanc does not do on demand: faults, other forms of answer, other ways to sign in."""

from __future__ import annotations

import errno
import io
import itertools
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from pydicom import uid

from ml_backend.errors import (
    ExtraMissing,
    InvalidRequest,
    NotWritten,
    PacsRefused,
    PacsUnavailable,
    SettingsError,
)
from ml_backend.ingest.pacs import server as pacs_module
from ml_backend.ingest.pacs.pull import carry_out_pull, plan_pull
from ml_backend.ingest.pacs.query import Query
from ml_backend.ingest.pacs.server import Pacs
from ml_backend.ingest.report import Report
from ml_backend.settings import load
from tests.commands.test_import_frames import Place
from tests.ingest.pacs.instances import QuickPacs, write_instance
from tests.studio.site import Site, running_site

pytestmark = pytest.mark.integration
STUDY, SERIES = "1.2.826.4711", "1.2.826.4711.1"
UIDS = ("1.2.826.4711.1.1", "1.2.826.4711.1.2")
SERIES_PATH = f"/rs/studies/{STUDY}/series"
INSTANCES_PATH = f"{SERIES_PATH}/{SERIES}/instances"
Page = Callable[[BaseHTTPRequestHandler], object]


class FakePacs:
    """A PACS with one study of two instances, on a site whose pages a test may replace."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.url = f"{site.url}/rs"
        self.says("/rs/studies", [{"0020000D": [STUDY]}])
        self.says(SERIES_PATH, [{"0020000D": [STUDY], "0020000E": [SERIES]}])
        rows = [{"00080018": [one], "00080016": [uid.UltrasoundMultiFrameImageStorage]} for one in UIDS]
        self.says(INSTANCES_PATH, rows)
        self.folder = folder
        self.files = [self.made(one, n) for n, one in enumerate(UIDS)]
        for place, content in zip(UIDS, self.files, strict=True):
            self.gives(place, content)

    def made(self, instance: str, seed: int, **tags: str) -> bytes:
        path = self.folder / f"{instance}.dcm"
        return write_instance(path, STUDY, [seed], **{"SOPInstanceUID": instance, **tags}).read_bytes()

    def gives(self, instance: str, content: bytes) -> None:
        self.serves(instance, b"--x\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--x--")

    def says(self, path: str, rows: list[dict[str, list[str]]]) -> None:
        """Answer a search; like servers that pay no heed to pages, with the same rows each time."""
        self.site.says(path, [{key: {"vr": "UI", "Value": value} for key, value in row.items()} for row in rows])

    def serves(self, instance: str, content: bytes, **headers: str) -> None:
        self.site.serves(
            f"{INSTANCES_PATH}/{instance}",
            content,
            **{"Content_Type": 'multipart/related; type="application/dicom"; boundary=x'} | headers,
        )

    def first(self, path: str, *faults: Page) -> None:
        """Answer a path with these, one after the other, and then as before."""
        sound, coming = self.site.pages[path], list(faults)
        self.site.answers(path, lambda handler: (coming.pop(0) if coming else sound)(handler))

    def always(self, path: str, fault: Page) -> None:
        self.site.answers(path, fault)

    def requests(self, path: str) -> int:
        return sum(asked.partition("?")[0] == path for asked, _ in self.site.asked)


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakePacs]:
    (tmp_path / "made").mkdir()
    with running_site() as site:
        yield FakePacs(site, tmp_path / "made")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def run(place: Place, url: str, **settings: object) -> Report:
    importer, pacs = place.importer(), QuickPacs(url, load(**settings))
    return carry_out_pull(importer, pacs, plan_pull(importer, pacs, [STUDY], ["PatientID=PAT-4711"]))


def status(code: int, body: bytes = b"PAT-4711 DOE^JANE") -> Page:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


def body(content_type: str, content: bytes, length: int | None = None) -> Page:
    """Send a body and close the connection; ``length`` is what the head claims, if anything."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", content_type)
        if length is not None:
            handler.send_header("Content-Length", str(length))
        handler.end_headers()
        handler.wfile.write(content)
        handler.close_connection = True

    return answer


BEGUN = ("multipart/related; boundary=x", b"--x\r\n\r\n" + b"a" * 100)
half = body(*BEGUN, length=5000)
# A proxy that cut the transfer off sends this: no length is wrong, only the closing boundary is missing.
without_end = body(*BEGUN)
page = body("text/html", b"<html>Please sign in, JANE DOE</html>")


def test_the_fake_is_a_pacs(place: Place, fake: FakePacs) -> None:
    assert run(place, fake.url + "/").imported == 2
    queries = [asked for asked, _ in fake.site.asked if asked.startswith("/rs/studies?")]
    assert any("PatientID=PAT-4711" in query for query in queries)
    assert run(place, fake.url).complete == 2


@pytest.mark.parametrize(
    "fault", [status(503), status(500), status(429), status(504), hang_up], ids=["503", "500", "429", "504", "hang up"]
)
@pytest.mark.parametrize("path", ["/rs/studies", SERIES_PATH, INSTANCES_PATH, f"{INSTANCES_PATH}/{UIDS[0]}"])
def test_what_passes_is_waited_for(place: Place, fake: FakePacs, path: str, fault: Page) -> None:
    fake.first(path, fault, fault)
    report = run(place, fake.url)
    assert (report.imported, report.failed) == (2, [])


def half_unwrapped(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/dicom")
    handler.send_header("Content-Length", "5000000")
    handler.end_headers()
    handler.wfile.write(b"a" * 2_500_000)
    handler.close_connection = True


@pytest.mark.parametrize("fault", [half, without_end, half_unwrapped])
def test_a_transfer_that_breaks_off_begins_anew(fake: FakePacs, fault: Page) -> None:
    """Of what came before, nothing is left in the file."""
    fake.first(f"{INSTANCES_PATH}/{UIDS[0]}", fault, fault)
    pacs = QuickPacs(fake.url, load())
    with pacs.fetched(pacs.instances(STUDY, Query())[0]) as path:
        assert path.read_bytes() == fake.files[0]


@pytest.mark.parametrize("fault", [half, without_end, status(500), status(404), status(403), status(406)])
def test_an_instance_that_cannot_be_had_costs_only_itself(
    place: Place, fake: FakePacs, fault: Page, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.always(f"{INSTANCES_PATH}/{UIDS[0]}", fault)
    report = run(place, fake.url)
    assert (report.imported, len(report.failed)) == (1, 1)
    said = "".join(capsys.readouterr()) + str(report)
    assert not any(named in said for named in ("PAT-4711", "1.2.826", "DOE", "aaaaaaaa"))


@pytest.mark.parametrize(
    "tags", [{"SOPInstanceUID": "1.2.826.9"}, {"SOPClassUID": str(uid.UltrasoundImageStorage)}], ids=["UID", "kind"]
)
def test_another_instance_than_asked_for_is_not_taken(place: Place, fake: FakePacs, tags: dict[str, str]) -> None:
    fake.gives(UIDS[0], fake.made(UIDS[0], 7, **tags))
    report = run(place, fake.url)
    assert report.imported == 1
    ((_, reason),) = report.failed
    assert "another instance" in reason
    assert "1.2." not in reason


@pytest.mark.parametrize("fault", [status(500), status(501), without_end], ids=["500", "501", "without end"])
def test_a_pacs_that_gives_no_instance_is_not_asked_for_each(place: Place, fake: FakePacs, fault: Page) -> None:
    many = [f"{SERIES}.{number}" for number in range(3, 12)]
    kind = [uid.UltrasoundMultiFrameImageStorage]
    fake.says(INSTANCES_PATH, [{"00080018": [one], "00080016": kind} for one in many])
    for one in many:
        fake.always(f"{INSTANCES_PATH}/{one}", fault)
    with pytest.raises(PacsRefused, match="5 instances in a row"):
        run(place, fake.url)
    assert sum(bool(fake.requests(f"{INSTANCES_PATH}/{one}")) for one in many) == 5

    fake.gives(many[4], fake.made(many[4], 3))
    report = run(place, fake.url)
    assert (report.imported, len(report.failed)) == (1, 8)


def test_an_instance_that_drips_is_given_up(place: Place, fake: FakePacs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacs_module, "_LONGEST", 0.3)

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/related; boundary=x")
        handler.send_header("Content-Length", "5000")
        handler.end_headers()
        handler.wfile.write(b"--x\r\n\r\n")
        for _ in range(100):
            handler.wfile.write(b"a")
            if fake.site.over.wait(0.05):
                break
        handler.close_connection = True

    fake.always(f"{INSTANCES_PATH}/{UIDS[0]}", drip)
    report = run(place, fake.url)
    assert "longer than 0.3 s" in report.failed[0][1]
    assert fake.requests(f"{INSTANCES_PATH}/{UIDS[0]}") == 1


def test_a_search_without_end_is_given_up(place: Place, fake: FakePacs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacs_module, "_MOST", 20)
    answered = itertools.count()

    def new_each_time(handler: BaseHTTPRequestHandler) -> None:
        number = next(answered)
        rows = [{"0020000D": {"vr": "UI", "Value": [f"1.2.{number}.{row}"]}} for row in range(10)]
        status(200, json.dumps(rows if number < 50 else []).encode())(handler)

    fake.always("/rs/studies", new_each_time)
    with pytest.raises(PacsRefused, match="narrow --query"):
        run(place, fake.url)
    assert next(answered) == 3


@pytest.mark.parametrize(
    "kind", [None, {"vr": "UI"}, *({"vr": "UI", "Value": value} for value in (None, [], [None], ["DOE^JANE 1970"]))]
)
def test_an_instance_may_be_of_no_kind(place: Place, fake: FakePacs, kind: object) -> None:
    rows = [{"00080018": {"vr": "UI", "Value": [UIDS[0]]}, "00080016": kind}]
    fake.always(INSTANCES_PATH, status(200, json.dumps(rows).encode()))
    with pytest.raises(InvalidRequest, match="1 of unknown kind"):
        run(place, fake.url)


@pytest.mark.parametrize("fault", [status(503), hang_up])
@pytest.mark.parametrize("path", ["/rs/studies", f"{INSTANCES_PATH}/{UIDS[1]}"])
def test_tries_are_counted(place: Place, fake: FakePacs, path: str, fault: Page) -> None:
    fake.always(path, fault)
    with pytest.raises(PacsUnavailable, match="tried 3 times"):
        run(place, fake.url)
    assert fake.requests(path) == 3


@pytest.mark.parametrize("path", ["/rs/studies", f"{INSTANCES_PATH}/{UIDS[1]}"])
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (status(401), "TSAL_DICOMWEB_TOKEN"),
        (page, "not DICOMweb"),
        (lambda handler: _send_on(handler), "leads on to another address"),
    ],
)
def test_refusals_are_not_repeated(place: Place, fake: FakePacs, path: str, fault: Page, said: str) -> None:
    fake.always(path, fault)
    with pytest.raises(PacsRefused, match=said) as refused:
        run(place, fake.url)
    assert fake.requests(path) == 1
    assert fake.requests("/elsewhere") == 0
    assert not any(named in str(refused.value) for named in ("PAT-4711", "1.2.826", "DOE"))


def _send_on(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", f"/elsewhere{handler.path}")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


@pytest.mark.parametrize(
    "body",
    [
        '["an", "id"]',
        '{"a": 1}',
        "[{}]",
        "[[]]",
        '[{"0020000D": {"vr": "UI"}}]',
        "7",
        "{",
        '[{"0020000D": {"Value": ["../x"]}}]',
    ],
)
def test_json_that_is_not_dicomwebs(place: Place, fake: FakePacs, body: str) -> None:
    fake.always("/rs/studies", status(200, body.encode()))
    with pytest.raises(PacsRefused, match="not DICOMweb"):
        run(place, fake.url)


def test_a_search_that_finds_nothing_may_have_no_content(place: Place, fake: FakePacs) -> None:
    fake.always("/rs/studies", status(204, b""))
    assert run(place, fake.url).imported == 2
    fake.always(SERIES_PATH, status(404))
    with pytest.raises(InvalidRequest, match="--study number 1 of 1"):
        run(place, fake.url)


def test_rights_are_asked_for(place: Place, fake: FakePacs) -> None:
    fake.always(SERIES_PATH, status(403))
    with pytest.raises(PacsRefused, match="right"):
        run(place, fake.url)


def test_an_instance_may_come_without_wrapping(place: Place, fake: FakePacs) -> None:
    fake.serves(UIDS[0], fake.files[0], Content_Type="application/dicom")
    report = run(place, fake.url)
    assert (report.imported, report.failed) == (2, [])


def test_an_answer_in_time_is_not_waited_for_for_ever(
    place: Place, fake: FakePacs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacs_module, "_TIMEOUT", (0.5, 0.5))
    fake.always("/rs/studies", lambda handler: fake.site.over.wait(60))
    with pytest.raises(PacsUnavailable, match="in time"):
        run(place, fake.url)


def test_no_pacs_at_all(place: Place) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/rs"
        with pytest.raises(PacsUnavailable, match=f"{url} does not answer.*--dicomweb"):
            run(place, url)
    with pytest.raises(PacsUnavailable):
        run(place, "http://pacs.invalid/rs")


@pytest.mark.parametrize(
    "url", ["", "pacs", "ftp://pacs/rs", "http://", "http://u:secret@pacs/rs", "http://pacs/rs?a=1", "http://pacs:x/rs"]
)
def test_addresses_that_cannot_be_used(url: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Pacs(url, load())
    assert "secret" not in str(refused.value)


def test_the_scheme_may_be_written_large(place: Place, fake: FakePacs) -> None:
    assert run(place, fake.url.replace("http", "HTTP")).imported == 2


# Signing in


def test_a_token_is_sent_whatever_netrc_says(
    place: Place, fake: FakePacs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login other password other")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    run(place, fake.url, dicomweb_token="secret-token\n")
    assert {signed for _, signed in fake.site.asked} == {"Bearer secret-token"}


@pytest.mark.parametrize("token", ["secret\ntoken", "secret-tökén", "secret-\u2026"])
def test_a_token_that_cannot_be_sent_is_not_shown(place: Place, fake: FakePacs, token: str) -> None:
    with pytest.raises(SettingsError, match="TSAL_DICOMWEB_TOKEN") as refused:
        run(place, fake.url, dicomweb_token=token)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("names", ["user", "password", "user password token", "user token"])
def test_half_a_way_to_sign_in_is_refused(names: str) -> None:
    settings = {f"dicomweb_{name}": "secret" for name in names.split()}
    with pytest.raises(SettingsError, match="TSAL_DICOMWEB_USER") as refused:
        Pacs("http://pacs/rs", load(**settings))
    assert "secret" not in str(refused.value)


def test_certificates(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    key, path, both = (tmp_path / name for name in ("key.pem", "certificate.pem", "both.pem"))
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(path)]
    subprocess.run([*command, *names], check=True, capture_output=True)
    both.write_bytes(path.read_bytes() + key.read_bytes())
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "made").mkdir()
    with running_site(both) as site:
        fake = FakePacs(site, tmp_path / "made")
        with pytest.raises(PacsUnavailable, match="REQUESTS_CA_BUNDLE"):
            run(place, fake.url)
        assert site.asked == []
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
            with monkeypatch.context() as patched:
                patched.setenv(name, str(path))
                assert run(place, fake.url).failed == []
                patched.setenv(name, str(tmp_path / "absent.pem"))
                with pytest.raises(SettingsError, match=name):
                    run(place, fake.url)


# This machine


def test_a_full_disk_is_said(place: Place, fake: FakePacs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Full(io.FileIO):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ml_backend.ingest.pacs.server.tempfile.TemporaryFile", lambda: Full(tmp_path / "full", "w+"))
    with pytest.raises(NotWritten, match="TMPDIR"):
        run(place, fake.url)
    assert fake.requests(f"{INSTANCES_PATH}/{UIDS[0]}") == 1


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dicomweb_client.api", None)
    with pytest.raises(ExtraMissing, match="dicomweb-client"):
        Pacs("http://pacs/rs", load())


# How it is asked


def test_queries_are_coded_as_little_as_may_be(place: Place, fake: FakePacs) -> None:
    pacs = QuickPacs(fake.url, load())
    pacs.studies({"PatientName": "D*E, J+A&N=E^ü%2A", "StudyID": "a/b"})
    asked = fake.site.asked[0][0].partition("?")[2]
    assert "PatientName=D*E,%20J%2BA%26N%3DE%5E%C3%BC%252A&" in f"{asked}&"
    assert "StudyID=a/b&" in f"{asked}&"


def test_the_host_is_named_with_its_port(place: Place, fake: FakePacs) -> None:
    hosts = []
    sound = fake.site.pages["/rs/studies"]

    def answer(handler: BaseHTTPRequestHandler) -> None:
        hosts.append(handler.headers["Host"])
        sound(handler)

    fake.always("/rs/studies", answer)
    run(place, fake.url)
    assert set(hosts) == {fake.site.host}
