"""Fetching frames: from disk, from Label Studio, from allowed hosts, and from nowhere else."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_backend.errors import FrameUnreadable, SettingsError, StudioRefused, StudioUnavailable
from ml_backend.studio import images
from ml_backend.studio.client import Studio
from ml_backend.studio.images import FrameFetcher
from tests.studio.site import PICTURE, Site, running_site
from tests.studio_server import StudioServer, free_port

SECRET = "Token 00secret00"


@pytest.fixture
def studio() -> Iterator[Site]:
    with running_site() as site:
        yield site


@pytest.fixture
def other() -> Iterator[Site]:
    with running_site() as site:
        yield site


def fetcher(
    studio: Site,
    *allowed: Site,
    document_root: Path | None = None,
    max_bytes: int = 1_000_000,
    seconds: float = 20.0,
) -> FrameFetcher:
    return FrameFetcher(
        studio.url,
        lambda: SECRET,
        document_root=document_root,
        allowed_hosts=[site.host for site in allowed],
        max_bytes=max_bytes,
        seconds=seconds,
    )


def refused(fetch: FrameFetcher, url: str, task: int | None = None) -> str:
    with pytest.raises(FrameUnreadable) as caught:
        fetch.fetch(url, task)
    return shown(caught.value)


def away(fetch: FrameFetcher, url: str) -> str:
    with pytest.raises(StudioUnavailable) as caught:
        fetch.fetch(url)
    return shown(caught.value)


def shown(error: Exception) -> str:
    message = str(error)
    assert "00secret00" not in message
    assert "signature" not in message
    return message


# Local files


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A document root with ways out of it; all content inside begins with ``inside``, all outside with ``outside``."""
    top = tmp_path_factory.mktemp("tree")
    root, outside = top / "root", top / "root-but-longer"
    (root / "a" / "deep").mkdir(parents=True)
    outside.mkdir()
    (root / "x.png").write_bytes(b"inside x")
    (root / "a" / "ä b+c.png").write_bytes(b"inside a")
    (root / "%2e%2e").write_bytes(b"inside odd")
    (outside / "x.png").write_bytes(b"outside x")
    (top / "x.png").write_bytes(b"outside top")
    (root / "link").symlink_to(outside)
    (root / "file-link").symlink_to(outside / "x.png")
    (root / "inner-link").symlink_to(root / "a")
    (root / "a" / "up").symlink_to("../..")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "pipe")
    return root


def local(name: str) -> str:
    return f"/data/local-files/?d={name}"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.png", b"inside x"),
        (quote("a/ä b+c.png", safe=""), b"inside a"),
        ("inner-link/" + quote("ä b+c.png"), b"inside a"),
        ("a/deep/../../x.png", b"inside x"),
        ("%252e%252e", b"inside odd"),
    ],
)
def test_reads_local_files_from_disk(studio: Site, tree: Path, name: str, content: bytes) -> None:
    assert fetcher(studio, document_root=tree).fetch(local(name)) == content
    assert studio.asked == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../x.png", "leads out"),
        ("%2e%2e%2fx.png", "leads out"),
        ("../root-but-longer/x.png", "leads out"),
        ("a/../../x.png", "leads out"),
        ("link/x.png", "leads out"),
        ("file-link", "leads out"),
        ("a/up/x.png", "leads out"),
        ("/etc/passwd", "absolute path"),
        ("%2Fetc%2Fpasswd", "absolute path"),
        ("a", "IsADirectoryError"),
        ("pipe", "is not a file"),
        ("loop", "cannot be read"),
        ("missing.png", "LOCAL_FILES_DOCUMENT_ROOT"),
        ("x.png%00", "names no file"),
        ("", "names no file"),
        ("x.png&d=../x.png", "names no file"),
        ("a" * 5000, "cannot be read"),
    ],
)
def test_local_files_stay_in_the_document_root(studio: Site, tree: Path, name: str, reason: str) -> None:
    assert reason in refused(fetcher(studio, document_root=tree), local(name))
    assert studio.asked == []


SEGMENTS = st.sampled_from(
    [
        "..",
        ".",
        "",
        "a",
        "deep",
        "up",
        "link",
        "inner-link",
        "x.png",
        "%2e%2e",
        "%2F",
        "..%2f",
        "root",
        "~",
        "\\..",
        "%00",
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(SEGMENTS, max_size=8))
def test_no_path_leads_out(studio: Site, tree: Path, segments: list[str]) -> None:
    try:
        content = fetcher(studio, document_root=tree).fetch(local("/".join(segments)))
    except FrameUnreadable:
        return
    assert content.startswith(b"inside")


def test_limits_the_size_of_local_files(studio: Site, tree: Path) -> None:
    assert fetcher(studio, document_root=tree, max_bytes=8).fetch(local("x.png")) == b"inside x"
    assert "larger than the 7 bytes" in refused(fetcher(studio, document_root=tree, max_bytes=7), local("x.png"))


def test_a_document_root_that_is_not_there(studio: Site, tree: Path) -> None:
    assert "LOCAL_FILES_DOCUMENT_ROOT" in refused(fetcher(studio, document_root=tree / "nothing"), local("x.png"))


# Label Studio


@pytest.mark.parametrize(
    "path", ["/data/local-files/?d=a%2Fx.png", "/data/upload/1/x.png", "/storage-data/uploaded/?filepath=x"]
)
def test_asks_label_studio_with_the_token(studio: Site, path: str) -> None:
    studio.serves(path)
    assert fetcher(studio).fetch(path) == PICTURE
    assert fetcher(studio).fetch(studio.url + path) == PICTURE
    assert studio.asked == [(path, SECRET)] * 2


def test_label_studio_below_a_path(studio: Site) -> None:
    studio.serves("/ls/data/upload/1/x.png")
    fetch = FrameFetcher(f"{studio.url}/ls/", lambda: SECRET)
    assert fetch.fetch("/data/upload/1/x.png") == PICTURE
    assert fetch.fetch(f"{studio.url}/ls/data/upload/1/x.png") == PICTURE


def test_spaces_and_umlauts_in_an_address(studio: Site) -> None:
    studio.serves("/data/upload/1/%C3%A4%20b.png?d=%C3%B6%20%2F")
    assert fetcher(studio).fetch("/data/upload/1/ä b.png?d=ö %2F") == PICTURE


@pytest.mark.parametrize("scheme", ["s3", "gs", "azure-blob"])
def test_cloud_storage_goes_through_label_studio(studio: Site, other: Site, scheme: str) -> None:
    url = f"{scheme}://bucket/ä/x.png"
    name = {
        "s3": "czM6Ly9idWNrZXQvw6QveC5wbmc%3D",
        "gs": "Z3M6Ly9idWNrZXQvw6QveC5wbmc%3D",
        "azure-blob": "YXp1cmUtYmxvYjovL2J1Y2tldC_DpC94LnBuZw%3D%3D",
    }[scheme]
    place = other.serves("/x.png?signature=abc")
    studio.sends_on(f"/tasks/7/resolve/?fileuri={name}", place, 303)
    assert fetcher(studio, other).fetch(url, 7) == PICTURE
    assert studio.asked == [(f"/tasks/7/resolve/?fileuri={name}", SECRET)]
    assert other.asked == [("/x.png?signature=abc", None)]
    assert f"the host {other.host} is not allowed" in refused(fetcher(studio), url, 7)
    assert "only with its task" in refused(fetcher(studio), url)


@pytest.mark.parametrize(
    "path", ["/api/projects/1/export", "/", "/logout", "/data/upload/../../api/x", "/data/upload/%2e%2e/%2E./api/x"]
)
def test_the_token_serves_no_other_page_of_label_studio(studio: Site, path: str) -> None:
    assert "not among the files of Label Studio" in refused(fetcher(studio), studio.url + path)
    assert studio.asked == []


def test_says_what_label_studio_answered(studio: Site) -> None:
    assert "answered 404; it is not there" in refused(fetcher(studio), "/data/upload/1/x.png")
    studio.answers("/data/upload/1/x.png", lambda handler: handler.send_error(401))
    assert "answered 401; check the access token" in refused(fetcher(studio), "/data/upload/1/x.png")
    studio.serves("/data/upload/1/x.png", b"<html>Log in", Content_Type="text/html; charset=utf-8")
    assert "is a web page" in refused(fetcher(studio), "/data/upload/1/x.png")


def test_a_frame_needs_a_token(studio: Site) -> None:
    def authorization() -> str:
        raise StudioRefused("the token is old")

    studio.serves("/data/upload/1/x.png")
    # No fault of the frame: what goes on without it would leave it out for good.
    with pytest.raises(StudioRefused, match="the token is old"):
        FrameFetcher(studio.url, authorization).fetch("/data/upload/1/x.png")
    assert studio.asked == []


# Other hosts


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x.png",
        "/etc/passwd",
        "/api/projects/1",
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
        "ftp://127.0.0.1/x.png",
        "//127.0.0.1/x.png",
        "http:///x.png",
        "http:x.png",
        "http://[::1/x.png",
        "http://127.0.0.1:99999/x.png",
        "http://user:00secret00@127.0.0.1/x.png",
        "javascript:alert(1)",
        "S3:x",
    ],
)
def test_refuses_what_is_not_an_address_of_a_frame(studio: Site, url: str) -> None:
    assert refused(fetcher(studio), url)
    assert studio.asked == []


def test_hosts_must_be_allowed_with_their_port(studio: Site, other: Site) -> None:
    url = other.serves("/x.png?signature=abc")
    assert f"the host {other.host} is not allowed" in refused(fetcher(studio), url)
    on_usual_ports = FrameFetcher(studio.url, lambda: SECRET, allowed_hosts=["127.0.0.1"])
    assert f"the host {other.host} is not allowed" in refused(on_usual_ports, url)
    assert "the host localhost:" in refused(fetcher(studio, other), url.replace("127.0.0.1", "localhost"))
    assert other.asked == []
    assert fetcher(studio, other).fetch(url) == PICTURE
    assert other.asked == [("/x.png?signature=abc", None)]


def test_a_host_allowed_without_port_is_reached_on_its_usual_port(studio: Site) -> None:
    fetch = FrameFetcher(studio.url, lambda: SECRET, allowed_hosts=["frames.invalid", "OTHER.invalid.:8443"])
    for url in ("http://frames.invalid/x", "https://Frames.invalid:443/x", "https://other.invalid:8443/x"):
        assert "does not answer (gaierror)" in refused(fetch, url)
    for url in ("http://frames.invalid:443/x", "https://other.invalid/x", "http://sub.frames.invalid/x"):
        assert "is not allowed" in refused(fetch, url)


@pytest.mark.parametrize("entry", ["", "http://x", "a b/c", "x:y", "x:0", "u@x", "x/path", ":80"])
def test_an_invalid_allowed_host_is_refused(studio: Site, entry: str) -> None:
    with pytest.raises(SettingsError, match="must be of the form HOST or HOST:PORT"):
        FrameFetcher(studio.url, lambda: SECRET, allowed_hosts=[entry])


@pytest.mark.parametrize("url", ["", "127.0.0.1:8080", "ftp://x", "http://", "http://user@x"])
def test_an_invalid_address_of_label_studio_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="address of Label Studio"):
        FrameFetcher(url, lambda: SECRET)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_follows_redirects_to_allowed_hosts_without_the_token(studio: Site, other: Site, status: int) -> None:
    other.serves("/x.png")
    studio.sends_on("/data/upload/1/x.png", f"{other.url}/x.png", status)
    assert fetcher(studio, other).fetch("/data/upload/1/x.png") == PICTURE
    assert other.asked == [("/x.png", None)]


def test_no_redirect_leads_to_a_forbidden_place(studio: Site, other: Site) -> None:
    with running_site() as third:
        third.serves("/x.png")
        first = other.sends_on("/a", f"{third.url}/x.png?signature=abc")
        assert f"the host {third.host} is not allowed" in refused(fetcher(studio, other), first)
        other.sends_on("/a", f"//{third.host}/x.png")
        assert f"the host {third.host} is not allowed" in refused(fetcher(studio, other), first)
        other.sends_on("/a", f"{studio.url}/api/projects/")
        assert "not among the files of Label Studio" in refused(fetcher(studio, other), first)
        other.sends_on("/a", "file:///etc/passwd")
        assert "not http(s)" in refused(fetcher(studio, other), first)
        assert third.asked == []
    assert studio.asked == []


def test_the_token_stays_behind_once_another_host_was_asked(studio: Site, other: Site) -> None:
    studio.serves("/data/upload/1/x.png")
    studio.sends_on("/data/upload/1/a.png", other.sends_on("/b", f"{studio.url}/data/upload/1/x.png"))
    assert fetcher(studio, other).fetch("/data/upload/1/a.png") == PICTURE
    assert studio.asked == [("/data/upload/1/a.png", SECRET), ("/data/upload/1/x.png", None)]
    studio.sends_on("/data/upload/1/c.png", "x.png")
    assert fetcher(studio).fetch("/data/upload/1/c.png") == PICTURE
    assert studio.asked[2:] == [("/data/upload/1/c.png", SECRET), ("/data/upload/1/x.png", SECRET)]


def test_redirects_end(studio: Site) -> None:
    studio.sends_on("/data/upload/1/x.png", "/data/upload/1/x.png")
    assert "more than 5 times" in refused(fetcher(studio), "/data/upload/1/x.png")
    assert len(studio.asked) == 6


# Limits


def test_limits_the_size(studio: Site, other: Site) -> None:
    for url in (other.serves("/a"), other.serves("/b", Content_Length="")):
        assert fetcher(studio, other, max_bytes=len(PICTURE)).fetch(url) == PICTURE
        assert "is larger than" in refused(fetcher(studio, other, max_bytes=len(PICTURE) - 1), url)

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not other.over.is_set():
            handler.wfile.write(b"x" * 10_000)

    assert "is larger than" in refused(fetcher(studio, other), other.answers("/c", endless))


def test_a_truncated_file_is_refused(studio: Site, other: Site) -> None:
    url = other.serves("/a", Content_Length=str(len(PICTURE) + 1))
    assert f"ended after {len(PICTURE)} of" in refused(fetcher(studio, other), url)


def test_nothing_is_unpacked(studio: Site, other: Site) -> None:
    assert "is compressed" in refused(fetcher(studio, other), other.serves("/a", Content_Encoding="gzip"))


@pytest.mark.parametrize("text", [b"X", b"\r\n\r\nX", b"X-A: a\r\n", b""])
def test_a_server_that_drips_is_cut_off(studio: Site, other: Site, text: bytes) -> None:
    said_all = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n")
        for _ in range(400):
            if other.over.wait(0.05):
                return
            handler.wfile.write(text)
        said_all.set()

    url = other.answers("/a", drip)
    assert "took longer than the 0.4 s" in refused(fetcher(studio, other, seconds=0.4), url)
    assert not said_all.is_set()


def test_the_time_holds_for_all_redirects_together(studio: Site, other: Site) -> None:
    def late(handler: BaseHTTPRequestHandler) -> None:
        other.over.wait(0.15)
        handler.send_response(302)
        handler.send_header("Location", "/a")
        handler.end_headers()

    assert "took longer" in refused(fetcher(studio, other, seconds=0.4), other.answers("/a", late))


def test_a_server_that_is_down_is_reported(studio: Site) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    fetch = FrameFetcher(studio.url, lambda: SECRET, allowed_hosts=[url.removeprefix("http://")])
    assert "does not answer (ConnectionRefusedError)" in refused(fetch, f"{url}/x.png")


def test_a_label_studio_that_is_down_is_not_an_unreadable_frame(studio: Site) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    fetch = FrameFetcher(url, lambda: SECRET)
    assert "does not answer (ConnectionRefusedError)" in away(fetch, "/data/upload/1/x.png")


def test_a_gateway_error_means_that_label_studio_is_down(studio: Site) -> None:
    studio.answers("/data/upload/1/x.png", lambda handler: handler.send_error(502))
    # The rest is there: it is this file that Label Studio has trouble with, and other frames need not wait.
    assert "answered 502" in refused(fetcher(studio), "/data/upload/1/x.png")
    studio.answers("/health", lambda handler: handler.send_error(503))
    assert "a proxy answers 503" in away(fetcher(studio), "/data/upload/1/x.png")


def test_a_file_that_label_studio_fails_at_costs_only_itself(studio: Site) -> None:
    studio.answers("/data/upload/1/x.png", lambda handler: handler.wfile.write(b""))
    assert "does not answer (RemoteDisconnected)" in refused(fetcher(studio), "/data/upload/1/x.png")


@pytest.mark.parametrize("text", [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx"])
def test_a_malformed_response_is_refused(studio: Site, other: Site, text: bytes) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(text)

    assert refused(fetcher(studio, other), other.answers("/a", answer))


def test_a_server_without_encryption_is_not_asked_in_clear(studio: Site, other: Site) -> None:
    url = other.serves("/x.png").replace("http:", "https:")
    assert "does not answer (SSL" in refused(fetcher(studio, other), url)
    assert other.asked == []


# Encryption


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A certificate for 127.0.0.1 with its key in one file, trusted for the time of a test."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    key, path = tmp_path / "key.pem", tmp_path / "certificate.pem"
    request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(path)]
    subprocess.run([openssl, *request, *names], check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    images._trust.cache_clear()
    path.write_bytes(path.read_bytes() + key.read_bytes())
    yield path
    images._trust.cache_clear()


def test_reads_from_an_encrypted_host(studio: Site, certificate: Path) -> None:
    with running_site(certificate) as other:
        url = other.serves("/x.png")
        assert url.startswith("https:")
        assert fetcher(studio, other).fetch(url) == PICTURE


def test_names_the_host_as_the_address_does(studio: Site, other: Site) -> None:
    hosts = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        hosts.append(handler.headers["Host"])
        handler.send_error(404)

    other.answers("/x.png", answer)
    refused(fetcher(studio, other), f"{other.url}/x.png")
    # A signature of a cloud storage covers the host, and a usual port is not part of it.
    assert hosts == [other.host]


def test_an_encrypted_host_must_be_known(studio: Site, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    images._trust.cache_clear()
    with running_site(certificate) as other:
        assert "SSLCertVerificationError" in refused(fetcher(studio, other), other.serves("/x.png"))
        assert other.asked == []


def test_a_handshake_that_never_ends_is_given_up(studio: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = f"127.0.0.1:{listener.getsockname()[1]}"
        fetch = FrameFetcher(studio.url, lambda: SECRET, allowed_hosts=[host], seconds=0.3)
        assert "took longer" in refused(fetch, f"https://{host}/x.png")


# A real Label Studio


def test_reads_what_a_real_label_studio_serves(studio_server: StudioServer) -> None:
    studio = Studio(studio_server.url, studio_server.token)
    xml = (
        '<View><Image name="image" value="$image"/><Choices name="symptoms" toName="image" choice="multiple">'
        '<Choice value="A-line"/><Choice value="B-line"/></Choices></View>'
    )
    project = studio.create_project("Frames", xml)
    folder = studio_server.files / "images ä"
    folder.mkdir()
    (folder / "x.png").write_bytes(PICTURE)
    url = local(quote("images ä/x.png", safe=""))
    fetch = FrameFetcher(studio_server.url, studio.authorization)
    assert "404" in refused(fetch, url)
    studio.create_local_storage(project, str(folder), "frames")
    assert fetch.fetch(url) == PICTURE
    assert fetch.fetch(local("images ä/x.png")) == PICTURE
    on_disk = FrameFetcher(studio_server.url, studio.authorization, document_root=studio_server.files)
    assert on_disk.fetch(url) == PICTURE
    assert "answered 401" in refused(FrameFetcher(studio_server.url, lambda: "Token " + "1" * 40), url)
    (task,) = studio.import_tasks(project, [{"image": "s3://bucket/x.png"}])
    assert "answered 404" in refused(fetch, "s3://bucket/x.png", task)
