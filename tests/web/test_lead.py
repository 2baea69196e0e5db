"""The lead's page: who gets in, who may change things, and that nothing that is shown is ever run."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from ml_backend.errors import SettingsError
from ml_backend.services import Services
from ml_backend.web.app import create_app
from ml_backend.web.lead.access import FAILURES, KEY_FILE, log_in, signing_key
from tests.installation import PROJECT, settings_in
from tests.web.overviews import SCRIPT, made_up

LEAD, READER = ("lead", "may-change"), ("guest", "may-read")
SECRETS = {
    "basic_auth_user": LEAD[0],
    "basic_auth_password": LEAD[1],
    "webhook_secret": "a-secret",
    "lead_reader_user": READER[0],
    "lead_reader_password": READER[1],
}
VIEWS = ("standing",)


@pytest.fixture
def services(tmp_path: Path, redis_url: str) -> Services:
    """An installation with one project, whose names are all scripts."""
    services = Services(settings_in(tmp_path, redis_url, **SECRETS))
    services.overviews(PROJECT).write(made_up(SCRIPT))
    return services


@pytest.fixture
def client(services: Services) -> FlaskClient:
    return create_app(services.settings).test_client()


def token_in(page: TestResponse) -> str:
    """The token against forgery of a page's form."""
    found = re.search(r'name="csrf_token" value="([^"]+)"', page.get_data(as_text=True))
    assert found
    return found[1]


def logged_in(client: FlaskClient, pair: tuple[str, str], **more: str) -> TestResponse:
    token = token_in(client.get("/lead/login"))
    form = {"csrf_token": token, "name": pair[0], "password": pair[1], **more}
    return client.post("/lead/login", data=form)


@pytest.mark.parametrize("path", ["/lead/", f"/lead/{PROJECT}/", *(f"/lead/{PROJECT}/{view}" for view in VIEWS)])
def test_nothing_is_shown_before_the_login(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.headers["Location"]) == (302, f"/lead/login?next={path}")
    assert "Lungs" not in answer.get_data(as_text=True)


@pytest.mark.parametrize("pair", [LEAD, READER])
def test_a_login_opens_every_view(client: FlaskClient, pair: tuple[str, str]) -> None:
    answer = logged_in(client, pair, next=f"/lead/{PROJECT}/standing")
    assert (answer.status_code, answer.headers["Location"]) == (302, f"/lead/{PROJECT}/standing")
    cookie = answer.headers["Set-Cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=Lax", "Path=/lead"))
    for view in VIEWS:
        assert client.get(f"/lead/{PROJECT}/{view}").status_code == 200


def test_the_cookie_is_for_https_alone_where_the_backend_is(services: Services) -> None:
    client = create_app(settings_in(services.settings.data_dir.parent, None, **SECRETS, backend_url="https://a.b"))
    answer = client.test_client().get("/lead/login", base_url="https://a.b")
    assert "Secure" in answer.headers["Set-Cookie"]


def test_the_header_is_enough(client: FlaskClient) -> None:
    assert client.get("/lead/", auth=READER).status_code == 200
    assert client.get("/lead/", auth=(READER[0], LEAD[1])).status_code == 302


@pytest.mark.parametrize(
    "wanted", ["https://evil.example/", "//evil.example", "/lead/\\evil", "/metrics", "", "/lead/\n"]
)
def test_a_login_leads_nowhere_else(client: FlaskClient, wanted: str) -> None:
    location = logged_in(client, LEAD, next=wanted).headers["Location"]
    assert location in ("/lead/", "/lead/%5Cevil")


def test_wrong_passwords_have_to_wait(client: FlaskClient) -> None:
    answers = [logged_in(client, (LEAD[0], "wrong")).status_code for _ in range(FAILURES)]
    assert answers == [401] * FAILURES
    refused = logged_in(client, LEAD)
    assert (refused.status_code, int(refused.headers["Retry-After"]) > 0) == (429, True)
    assert client.get("/lead/", auth=LEAD).status_code == 429
    elsewhere = {"REMOTE_ADDR": "10.0.0.9"}
    assert client.get("/lead/", auth=LEAD, environ_overrides=elsewhere).status_code == 200


def test_without_secrets_only_this_machine_sees_it(tmp_path: Path, redis_url: str) -> None:
    client = create_app(settings_in(tmp_path, redis_url)).test_client()
    assert client.get("/lead/").status_code == 200
    assert client.get("/lead/", environ_overrides={"REMOTE_ADDR": "10.0.0.9"}).status_code == 403
    assert client.get("/lead/", headers={"X-Forwarded-For": "10.0.0.9"}).status_code == 403


def test_a_logout_ends_the_session(client: FlaskClient) -> None:
    logged_in(client, LEAD)
    assert client.post("/lead/logout").status_code == 400  # without the token
    token = token_in(client.get("/lead/"))
    assert client.post("/lead/logout", data={"csrf_token": token}).status_code == 302
    assert client.get("/lead/").status_code == 302


def test_another_password_ends_every_session(client: FlaskClient, services: Services) -> None:
    logged_in(client, LEAD)
    cookie = client.get_cookie("tsal_lead", path="/lead")
    assert cookie is not None
    changed = SECRETS | {"basic_auth_password": "another"}
    other = create_app(settings_in(services.settings.data_dir.parent, None, **changed)).test_client()
    other.set_cookie("tsal_lead", cookie.value, path="/lead")
    assert other.get("/lead/").status_code == 302
    assert client.get("/lead/").status_code == 200


def test_the_key_is_kept_and_nobody_else_reads_it(services: Services) -> None:
    key = signing_key(services.settings)
    path = services.settings.data_dir / KEY_FILE
    assert signing_key(services.settings) == key
    assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0
    path.write_bytes(b"short")
    with pytest.raises(SettingsError, match=KEY_FILE):
        signing_key(services.settings)


@pytest.mark.parametrize(
    ("pair", "role"),
    [(LEAD, "lead"), (READER, "reader"), ((LEAD[0], READER[1]), None), ((READER[0], LEAD[1]), None), (("", ""), None)],
)
def test_a_name_goes_with_its_own_password(services: Services, pair: tuple[str, str], role: str | None) -> None:
    found = log_in(services.settings, *pair)
    assert (found.role if found else None) == role


def test_nobody_is_a_reader_where_none_is_set(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, basic_auth_user="lead", basic_auth_password="x")
    assert log_in(settings, "", "") is None


@pytest.mark.parametrize(
    "missing", [{"lead_reader_password": None}, {"lead_reader_user": None}, {"lead_reader_user": LEAD[0]}]
)
def test_half_a_reader_is_refused(tmp_path: Path, missing: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="LEAD_READER"):
        settings_in(tmp_path, **(SECRETS | missing)).require_authentication()


@pytest.mark.parametrize("view", VIEWS)
def test_names_with_markup_are_text(client: FlaskClient, view: str) -> None:
    page = client.get(f"/lead/{PROJECT}/{view}", auth=LEAD)
    text = page.get_data(as_text=True)
    assert "Lungs &lt;script&gt;" in text
    assert "<script" not in text
    assert not re.search(r"<[^>]*\son\w+=", text)
    assert "style=" not in text


@pytest.mark.parametrize("view", VIEWS)
def test_the_policy_lets_no_script_in(client: FlaskClient, view: str) -> None:
    headers = client.get(f"/lead/{PROJECT}/{view}", auth=LEAD).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_opens_before_the_first_look_and_without_redis(tmp_path: Path, view: str) -> None:
    services = Services(settings_in(tmp_path, "redis://127.0.0.1:1/0", **SECRETS))
    services.folder(PROJECT).mkdir(parents=True)
    client = create_app(services.settings).test_client()
    assert client.get(f"/lead/{PROJECT}/{view}", auth=LEAD).status_code == 200


def test_an_overview_that_cannot_be_read_is_none(client: FlaskClient, services: Services) -> None:
    (services.folder(PROJECT) / "overview.json").write_text('{"project": ')
    assert client.get(f"/lead/{PROJECT}/standing", auth=LEAD).status_code == 200


@pytest.mark.parametrize("path", ["/lead/8/standing", "/lead/99999999999/standing", f"/lead/{PROJECT}/nothing"])
def test_what_is_not_there_is_not_found(client: FlaskClient, path: str) -> None:
    assert client.get(path, auth=LEAD).status_code == 404
