"""What goes wrong between us and Label Studio is said in two kinds of errors, and never with a token."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from ml_backend.errors import BackendError, SettingsError, StudioRefused, StudioUnavailable
from ml_backend.studio import calls
from ml_backend.studio.client import Studio
from ml_backend.studio.credentials import Credentials
from tests.studio.site import Site, running_site
from tests.studio_server import free_port

LEGACY = "00secret00" * 4
PROJECT = "/api/projects/7/"
PREDICTIONS = "/api/projects/7/import/predictions"
PAYLOAD = {"task": 1, "model_version": "v", "score": 0.5, "result": []}


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


PERSONAL = f"{part({'alg': 'HS256'})}.{part({'exp': 9_999_999_999, 'token_type': 'refresh'})}.00secret00"


@pytest.fixture
def site() -> Iterator[Site]:
    with running_site() as site:
        yield site


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_WAITS", (0.0, 0.0))


def message(kind: type[BackendError], call: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        call()
    text = str(caught.value)
    assert "00secret00" not in text
    assert "sessionid" not in text
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    return text


def refused(call: Callable[[], object]) -> str:
    return message(StudioRefused, call)


def unavailable(call: Callable[[], object]) -> str:
    return message(StudioUnavailable, call)


@pytest.mark.parametrize(
    ("status", "body", "advice"),
    [
        (400, {"detail": "Validation error", "validation_errors": {"title": ["too short"]}}, "(title: too short)"),
        (401, {"detail": "Invalid token."}, "use a personal access token"),
        (403, {"detail": "no"}, "member of the project's organization"),
        (403, {"detail": "URL resolves to a reserved network address (block: 127.0.0.0/8)"}, "USE_DEFAULT_BANNED"),
        (404, {"detail": "No Project matches the given query."}, "check the project ID"),
        (413, None, "raise its limit"),
        (500, {"detail": "oops"}, "see Label Studio's own log"),
    ],
)  # fmt: skip
def test_says_what_was_refused_and_what_to_change(site: Site, status: int, body: object, advice: str) -> None:
    site.says(PROJECT, body, status)
    text = refused(lambda: Studio(site.url, LEGACY).project(7))
    assert text.startswith(f"reading project 7: Label Studio answered {status}")
    assert advice in text
    assert len(site.asked) == 1


def test_a_long_explanation_is_cut(site: Site) -> None:
    site.says(PROJECT, {"detail": "x" * 10_000}, 400)
    assert len(refused(lambda: Studio(site.url, LEGACY).project(7))) < 600


def test_cookies_are_neither_kept_nor_shown(site: Site) -> None:
    site.serves(PROJECT, b"{}", Set_Cookie="sessionid=00secret00; Path=/", Content_Type="application/json")
    cookies = []

    def versions(handler: BaseHTTPRequestHandler) -> None:
        cookies.append(handler.headers.get("Cookie"))
        site.pages["/versions"](handler)

    site.says("/versions", {"v": 1})
    site.answers("/api/projects/7/model-versions/", versions)
    studio = Studio(site.url, LEGACY)
    studio._calls.request("GET", "api/projects/7/")
    assert studio.model_versions(7) == ["v"]
    assert cookies == [None]


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_gateway_error_counts_as_label_studio_being_down(site: Site, status: int) -> None:
    site.says(PROJECT, None, status)
    assert f"a proxy answers {status}" in unavailable(lambda: Studio(site.url, LEGACY).project(7))


def test_a_server_that_is_down_is_reported() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    text = unavailable(lambda: Studio(url, LEGACY).project(7))
    assert f"Label Studio at {url} does not answer" in text
    assert "start it or correct its address" in text
    assert "does not answer" in unavailable(lambda: Studio(url, PERSONAL).project(7))


def test_a_slow_answer_times_out(site: Site) -> None:
    site.answers(PROJECT, lambda _: site.over.wait(20) and None)
    assert "gave no answer in time" in unavailable(lambda: Studio(site.url, LEGACY, timeout=0.2).project(7))
    assert len(site.asked) == 1


def test_an_address_that_is_not_label_studio(site: Site) -> None:
    site.serves(PROJECT, b"<html>", Content_Type="text/html")
    site.serves("/api/projects/7/model-versions/", b"<html>", Content_Type="text/html")
    studio = Studio(site.url, LEGACY)
    assert "is not Label Studio's; correct its address" in refused(lambda: studio.project(7))
    assert "is not Label Studio's; correct its address" in refused(lambda: studio.model_versions(7))


def test_a_redirect_is_not_followed_with_the_token(site: Site) -> None:
    with running_site() as other:
        site.sends_on(PROJECT, f"{other.url}/there?token=00secret00", 301)
        text = refused(lambda: Studio(site.url, LEGACY).project(7))
        assert f"redirects to {other.url}/there; set the address that Label Studio really has" in text
        assert other.asked == []


def fails(site: Site, path: str, times: int, then: object) -> None:
    """Break the connection some times, then answer."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if len(site.asked) > times:
            site.pages["/then"](handler)
        else:
            handler.close_connection = True

    site.says("/then", then)
    site.answers(path, answer)


def test_reads_are_repeated_where_the_connection_breaks(site: Site) -> None:
    fails(site, "/api/projects/7/model-versions/", 2, {"v": 1})
    assert Studio(site.url, LEGACY).model_versions(7) == ["v"]
    assert len(site.asked) == 3


def test_reads_are_not_repeated_for_ever(site: Site) -> None:
    fails(site, PROJECT, 99, {})
    assert "does not answer" in unavailable(lambda: Studio(site.url, LEGACY).project(7))
    assert len(site.asked) == 3


@pytest.mark.parametrize("token", [LEGACY, PERSONAL])
def test_writes_are_never_repeated(site: Site, token: str) -> None:
    site.says("/api/token/refresh/", {"access": "a"})
    fails(site, PREDICTIONS, 99, {})
    assert "does not answer" in unavailable(lambda: Studio(site.url, token).import_predictions(7, [PAYLOAD]))
    assert [path for path, _ in site.asked if "token" not in path] == [PREDICTIONS]


def test_a_shortfall_is_refused(site: Site) -> None:
    site.says(PREDICTIONS, {"created": 1}, 201)
    text = refused(lambda: Studio(site.url, LEGACY).import_predictions(7, [PAYLOAD, PAYLOAD]))
    assert "2 were sent and 1 stored" in text
    site.says("/api/projects/7/import?return_task_ids=true", {"task_ids": [5]}, 201)
    text = refused(lambda: Studio(site.url, LEGACY).import_tasks(7, [{"image": "a"}, {"image": "b"}]))
    assert "2 tasks were sent and 1 made" in text


# Credentials


def test_signs_with_a_legacy_token(site: Site) -> None:
    site.says("/api/projects/7/model-versions/", {})
    Studio(site.url, LEGACY).model_versions(7)
    assert site.asked == [("/api/projects/7/model-versions/", f"Token {LEGACY}")]
    assert Studio(site.url, LEGACY).authorization() == f"Token {LEGACY}"


def test_exchanges_a_personal_token_when_it_is_due(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    site.says("/api/token/refresh/", {"access": "first"})
    studio = Studio(site.url, PERSONAL)
    assert studio.authorization() == "Bearer first"
    site.says("/api/token/refresh/", {"access": "second"})
    now += 239
    assert studio.authorization() == "Bearer first"
    now += 2
    assert studio.authorization() == "Bearer second"
    assert [path for path, _ in site.asked] == ["/api/token/refresh/"] * 2


def test_exchanges_a_personal_token_that_ran_out_early(site: Site) -> None:
    site.says("/api/token/refresh/", {"access": "first"})
    studio = Studio(site.url, PERSONAL)
    assert studio.authorization() == "Bearer first"

    def answer(handler: BaseHTTPRequestHandler) -> None:
        good = handler.headers["Authorization"] == "Bearer second"
        site.pages["/good" if good else "/bad"](handler)

    site.says("/good", {"v": 1})
    site.says("/bad", {"detail": "expired"}, 401)
    site.says("/api/token/refresh/", {"access": "second"})
    site.answers("/api/projects/7/model-versions/", answer)
    assert studio.model_versions(7) == ["v"]
    site.says("/good", {"detail": "revoked"}, 401)
    assert "personal access token" in refused(lambda: studio.model_versions(7))


@pytest.mark.parametrize("answer", [{}, [], {"access": None, "detail": "00secret00"}, None])
def test_a_personal_token_that_is_not_accepted(site: Site, answer: object) -> None:
    site.says("/api/token/refresh/", answer, 401)
    text = refused(lambda: Studio(site.url, PERSONAL).project(7))
    assert "exchanging the personal access token: Label Studio answered 401" in text
    site.says("/api/token/refresh/", [answer])
    assert "answered 200" in refused(lambda: Studio(site.url, PERSONAL).project(7))


@pytest.mark.parametrize("token", ["", " ", "a b", "a\n", "ä"])
def test_refuses_a_token_that_no_header_can_carry(token: str) -> None:
    with pytest.raises(SettingsError, match="copy it again"):
        Studio("http://127.0.0.1:1", token)


@pytest.mark.parametrize("url", ["", "127.0.0.1:8080", "ftp://x", "http://", "http://user:pass@x", "http://x/?a=b"])
def test_an_invalid_address_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="must be of the form") as caught:
        Studio(url, LEGACY)
    assert "pass" not in str(caught.value)


@pytest.mark.parametrize("token", [LEGACY, PERSONAL])
def test_a_repr_shows_no_token(token: str) -> None:
    studio = Studio("http://127.0.0.1:1/", token)
    shown = repr(studio) + repr(Credentials("http://127.0.0.1:1", token)) + repr(vars(studio))
    assert "http://127.0.0.1:1'" in shown
    assert "00secret00" not in shown
