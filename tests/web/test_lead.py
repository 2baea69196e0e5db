"""The lead's page: login, permissions, and that no displayed text is ever run as a script."""

from __future__ import annotations

import base64
import gzip
import json
import re
import stat
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import numpy as np
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from ml_backend.errors import SettingsError
from ml_backend.loop import asked
from ml_backend.services import Services
from ml_backend.store.census import Census, Entry
from ml_backend.store.finishes import Finish, MachineRows, Outcome
from ml_backend.store.overviews import Measure, Overview
from ml_backend.store.pending import Pending
from ml_backend.store.pool_map import PoolMap
from ml_backend.tsal.plane import LEAST
from ml_backend.web.app import create_app
from ml_backend.web.attempts import FAILURES
from ml_backend.web.lead.access import KEY_FILE, log_in, signing_key
from ml_backend.web.lead.clips import CLIPS, FRAMES, clip_of
from ml_backend.web.lead.pool_map import COLOURS, OTHER
from tests.installation import PROJECT, finish_of, manifest_of, settings_in, task_with_frame, write_no_weights
from tests.web.overviews import DRAWN, SCRIPT, counted, made_up

LEAD, READER = ("lead", "may-change"), ("guest", "may-read")
SECRETS = {
    "basic_auth_user": LEAD[0],
    "basic_auth_password": LEAD[1],
    "webhook_secret": "a-secret",
    "lead_reader_user": READER[0],
    "lead_reader_password": READER[1],
}
VIEWS = ("standing", "learning", "versions", "people", "again", "clips", "map", "finish")
OURS = "/lead/static/map.js"
PAGES = (*VIEWS, f"clip?name={quote(f'first {SCRIPT}')}")


@pytest.fixture
def services(tmp_path: Path, redis_url: str) -> Services:
    """Return an installation with one project whose names all contain scripts."""
    services = Services(settings_in(tmp_path, redis_url, **SECRETS))
    services.overviews(PROJECT).write(made_up(SCRIPT))
    services.census(PROJECT).write(counted(SCRIPT))
    services.pool_map(PROJECT).write(DRAWN)
    return services


@pytest.fixture
def client(services: Services) -> FlaskClient:
    return create_app(services.settings).test_client()


def token_in(page: TestResponse) -> str:
    """Return the CSRF token of a page's form."""
    found = re.search(r'name="csrf_token" value="([^"]+)"', page.get_data(as_text=True))
    assert found
    return found[1]


def logged_in(client: FlaskClient, pair: tuple[str, str], **more: str) -> TestResponse:
    token = token_in(client.get("/lead/login"))
    form = {"csrf_token": token, "name": pair[0], "password": pair[1], **more}
    return client.post("/lead/login", data=form)


@pytest.mark.parametrize("path", ["/lead/", f"/lead/{PROJECT}/", *(f"/lead/{PROJECT}/{view}" for view in PAGES)])
def test_nothing_is_shown_before_the_login(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    login = urlsplit(answer.headers["Location"])
    assert (answer.status_code, login.path, parse_qs(login.query)) == (302, "/lead/login", {"next": [path]})
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


@pytest.mark.parametrize("view", PAGES)
def test_names_with_markup_are_text(client: FlaskClient, view: str) -> None:
    page = client.get(f"/lead/{PROJECT}/{view}", auth=LEAD)
    text = page.get_data(as_text=True)
    assert "Lungs &lt;script&gt;" in text
    assert "<script" not in text.replace(f'<script src="{OURS}" defer></script>', "")
    assert not re.search(r"<[^>]*\son\w+=", text)
    assert "style=" not in text


@pytest.mark.parametrize("view", PAGES)
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


def test_the_list_shows_how_uncertain_a_share_is(client: FlaskClient, services: Services) -> None:
    overview = made_up()
    few = Measure(value=0.0, low=0.0, high=0.658, frames=2, patients=2)
    audit = overview.audit.model_copy(update={"right": few})
    services.overviews(PROJECT).write(overview.model_copy(update={"audit": audit}))
    cells = re.findall("<td>([^<]*)</td>", client.get("/lead/", auth=LEAD).get_data(as_text=True))
    assert cells[3:5] == ["0%", "0 to 66%"]


def test_a_view_of_many_versions_keeps_its_labels_apart(client: FlaskClient, services: Services) -> None:
    services.overviews(PROJECT).write(made_up(versions=100))
    page = client.get(f"/lead/{PROJECT}/learning", auth=LEAD).get_data(as_text=True)
    assert page.count('<th scope="row">') == 200
    assert page.count('class="major">') < 40


def certified(services: Services, **changes: Any) -> Finish:
    """Save and return a finish whose audit was counted."""
    finish = finish_of(
        (5, 6, 7),
        state="certified",
        drawn_at="2026-01-01T00:00:00+00:00",
        symptoms=(SCRIPT,),
        pool=10,
        people=4,
        remembered={1: 2},
        counted_at="2026-01-02T00:00:00+00:00",
        outcome=Outcome(
            by_people=7,
            by_machine=3,
            to_people=0,
            wrong_in_audit=0,
            at_most_wrong=0,
            at_most_share=0.0,
            share_for_any=0.0,
            share_for_all=0.0,
        ),
    ).model_copy(update=changes)
    rows = MachineRows(np.arange(6), np.zeros((6, 1), np.uint8), np.zeros(6), np.ones(6, bool))
    services.finishes(PROJECT).save(finish, rows)
    return finish


def test_a_certificate_is_shown_and_its_record_downloaded(client: FlaskClient, services: Services) -> None:
    finish = certified(services)
    page = client.get(f"/lead/{PROJECT}/certificate/1", auth=READER)
    assert page.mimetype == "text/html"
    assert "<script" not in page.get_data(as_text=True)
    assert "script-src" not in page.headers["Content-Security-Policy"]
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    record = client.get(f"/lead/{PROJECT}/certificate/1/record", auth=READER)
    assert Finish.model_validate_json(record.get_data()) == finish
    assert record.headers["Content-Disposition"].startswith("attachment")
    for path in ("certificate/2", "certificate/2/record", "certificate/99999999999"):
        assert client.get(f"/lead/{PROJECT}/{path}", auth=LEAD).status_code == 404
    assert client.get(f"/lead/{PROJECT}/certificate/1").status_code == 302


def test_the_view_says_how_far_an_open_audit_is(client: FlaskClient, services: Services) -> None:
    certified(services, state="open", outcome=None)
    services.overviews(PROJECT).write(made_up().model_copy(update={"answered": 2}))
    page = client.get(f"/lead/{PROJECT}/finish", auth=LEAD).get_data(as_text=True)
    assert '<progress max="3" value="2"' in page
    assert "what=give+up" in page
    assert "what=give+up" not in client.get(f"/lead/{PROJECT}/finish", auth=READER).get_data(as_text=True)


def changed(client: FlaskClient, query: dict[str, str], **form: str) -> TestResponse:
    """Follow a link to its confirmation, and confirm it."""
    page = client.get(f"/lead/{PROJECT}/confirm", query_string=query)
    assert page.status_code == 200, page.get_data(as_text=True)
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', page.get_data(as_text=True)))
    return client.post(f"/lead/{PROJECT}/change", data=fields | form)


def version(services: Services, active: bool = True) -> str:
    store = services.versions(PROJECT)
    name = store.create(manifest_of(number_of(services)), write_no_weights).version
    if active:
        store.activate(name, by="a test")
    return name


def number_of(services: Services) -> int:
    return len(services.versions(PROJECT).names()) + 1


def test_a_version_is_made_active_by_a_worker_after_a_confirmation(client: FlaskClient, services: Services) -> None:
    first, second = version(services), version(services)
    logged_in(client, LEAD)
    answer = changed(client, {"what": "activate", "version": first})
    assert (answer.status_code, answer.headers["Location"]) == (302, f"/lead/{PROJECT}/versions")
    assert services.versions(PROJECT).active() == second  # a worker does it
    (job,) = services.queue(asked.QUEUE).jobs
    assert job.args == [PROJECT, "activate", "lead (page)", {"version": first, "expected": second}]
    found = asked.last(services, PROJECT)
    assert found is not None
    assert (found.state, first in found.said) == ("waiting", True)
    assert changed(client, {"what": "rollback"}).status_code == 409  # one thing at a time


def test_a_rollback_names_the_version_that_served_before(client: FlaskClient, services: Services) -> None:
    logged_in(client, LEAD)
    assert client.get(f"/lead/{PROJECT}/confirm?what=rollback").status_code == 404
    first, second = version(services), version(services)
    changed(client, {"what": "rollback"})
    (job,) = services.queue(asked.QUEUE).jobs
    assert job.args[1:] == ["rollback", "lead (page)", {"version": first, "expected": second}]


@pytest.mark.parametrize(
    ("query", "values"),
    [
        ({"what": "begin", "error": "5", "confidence": "90"}, {"epsilon": 0.05, "confidence": 0.9}),
        ({"what": "give up"}, {}),
    ],
)
def test_a_finish_is_begun_and_given_up(
    client: FlaskClient, services: Services, query: dict[str, str], values: dict[str, float]
) -> None:
    logged_in(client, LEAD)
    assert changed(client, query).headers["Location"] == f"/lead/{PROJECT}/finish"
    (job,) = services.queue(asked.QUEUE).jobs
    assert job.args == [PROJECT, query["what"], "lead (page)", values]


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"what": "activate"},
        {"what": "remove", "version": "x"},
        {"what": "begin", "error": "nan"},
        {"what": "begin", "error": "0"},
        {"what": "begin", "confidence": "100"},
        {"what": "rollback"},
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(client: FlaskClient, services: Services, form: dict[str, str]) -> None:
    token = token_in_page(client)
    answer = client.post(f"/lead/{PROJECT}/change", data={"csrf_token": token, **form})
    assert answer.status_code == 400
    assert services.queue(asked.QUEUE).count == 0


def test_an_unknown_version_is_refused_at_once(client: FlaskClient, services: Services) -> None:
    form = {"csrf_token": token_in_page(client), "what": "activate", "version": "../../etc"}
    assert client.post(f"/lead/{PROJECT}/change", data=form).status_code == 404
    assert client.get(f"/lead/{PROJECT}/confirm?what=activate&version=msml-0009-00000000").status_code == 404
    assert services.queue(asked.QUEUE).count == 0


def token_in_page(client: FlaskClient) -> str:
    logged_in(client, LEAD)
    return token_in(client.get("/lead/"))


def test_nothing_changes_without_the_token_or_the_right(client: FlaskClient, services: Services) -> None:
    path, form = f"/lead/{PROJECT}/change", {"what": "give up"}
    assert client.post(path, data=form, auth=LEAD).status_code == 400
    logged_in(client, READER)
    token = token_in(client.get("/lead/"))
    assert client.post(path, data=form | {"csrf_token": token}).status_code == 403
    assert client.get(path).status_code == 405
    client.post("/lead/logout", data={"csrf_token": token})
    assert client.post(path, data=form).status_code == 400
    assert services.queue(asked.QUEUE).count == 0


def test_a_reader_is_offered_nothing_to_change(client: FlaskClient, services: Services) -> None:
    version(services), version(services)
    assert "confirm?" in client.get(f"/lead/{PROJECT}/versions", auth=LEAD).get_data(as_text=True)
    for view in (*PAGES, "confirm?what=rollback"):
        page = client.get(f"/lead/{PROJECT}/{view}", auth=READER).get_data(as_text=True)
        assert f'action="/lead/{PROJECT}' not in page
        assert "confirm?" not in page


def test_whoever_makes_another_version_active_is_told_that_an_audit_becomes_void(
    client: FlaskClient, services: Services
) -> None:
    version(services), version(services)
    before = client.get(f"/lead/{PROJECT}/confirm?what=rollback", auth=LEAD).get_data(as_text=True)
    certified(services, state="open", outcome=None)
    after = client.get(f"/lead/{PROJECT}/confirm?what=rollback", auth=LEAD).get_data(as_text=True)
    assert (before.count('class="wrong"'), after.count('class="wrong"')) == (0, 1)


class TestLookAgain:
    def test_each_frame_has_its_picture_its_reason_and_its_link(self, services: Services, client: FlaskClient) -> None:
        page = client.get(f"/lead/{PROJECT}/again", auth=READER).get_data(as_text=True)
        assert re.findall(rf'src="/lead/{PROJECT}/frame/(\d+)"', page) == ["1", "2", "3", "4"]
        assert re.findall(rf'href="[^"]+/projects/{PROJECT}/data\?task=(\d+)"', page) == ["1", "2", "3", "4", "5"]
        assert "no picture &lt;script&gt;" in page

    def test_pictures_are_those_of_the_projects_frames_only(self, services: Services, client: FlaskClient) -> None:
        folder = services.settings.document_root
        assert folder is not None
        for number in (1, 9):
            task_with_frame(folder.parent, number)
        answer = client.get(f"/lead/{PROJECT}/frame/1", auth=READER)
        assert (answer.status_code, answer.content_type) == (200, "image/jpeg")
        assert answer.get_data()[:2] == b"\xff\xd8"
        for task in (2, 5, 9):  # without a file, without an address, not of the project
            assert client.get(f"/lead/{PROJECT}/frame/{task}", auth=READER).status_code == 404
        assert client.get(f"/lead/{PROJECT}/frame/1").status_code == 302

    def test_an_overview_of_before_has_none(self, services: Services, client: FlaskClient) -> None:
        old = made_up().model_dump(exclude={"again"})
        services.overviews(PROJECT).write(Overview.model_validate(old))
        assert client.get(f"/lead/{PROJECT}/again", auth=READER).get_data(as_text=True).count("None.") == 4


def many(clips: int, frames: int = 1) -> Census:
    """Make a census of so many clips, each with so many frames."""
    pairs = [(clip, frame) for clip in range(clips) for frame in range(frames)]
    return Census(
        frames=tuple(
            Entry(task=task, url="", clip=f"clip {clip:04}", patient="p", time=frame)
            for task, (clip, frame) in enumerate(pairs, start=1)
        )
    )


class TestClips:
    def clips(self, client: FlaskClient, query: str = "") -> list[str]:
        page = client.get(f"/lead/{PROJECT}/clips{query}", auth=READER).get_data(as_text=True)
        return [unescape(name) for name in re.findall(r'<th scope="row"><a href="[^"]+">([^<]+)</a>', page)]

    def sheet(self, client: FlaskClient, name: str, **query: object) -> str:
        answer = client.get(f"/lead/{PROJECT}/clip", query_string={"name": name, **query}, auth=READER)
        assert answer.status_code == 200
        return answer.get_data(as_text=True)

    def test_they_are_listed_in_the_order_that_is_asked_for(self, client: FlaskClient) -> None:
        first = f"first {SCRIPT}"
        assert self.clips(client) == [first, "second", "task 8"]
        assert self.clips(client, "?by=patient") == ["task 8", "second", first]
        assert (
            self.clips(client, "?by=changes&page=7") == self.clips(client, "?by=nothing&page=x") == self.clips(client)
        )

    def test_a_clip_is_summed_up(self) -> None:
        found = clip_of("first", counted().clips["first "])
        assert (found.frames, found.answered, found.changes) == (4, 1, 2)
        assert found.wrong == pytest.approx(0.1 + 0.4 + 0.003)
        assert clip_of("second", counted().clips["second"]).changes == 0  # a frame without a label is no change

    def test_a_sheet_shows_every_frame_in_time(self, client: FlaskClient) -> None:
        page = self.sheet(client, f"first {SCRIPT}")
        assert re.findall(rf'src="/lead/{PROJECT}/frame/(\d+)"', page) == ["4", "3", "2", "1"]
        assert re.findall(rf'href="[^"]+/projects/{PROJECT}/data\?task=(\d+)"', page) == ["4", "3", "2", "1"]
        frames = [re.sub(r"<[^>]+>|\s+", " ", one) for one in page.split("<li")[-4:]]
        assert ["The label changes here" in one for one in frames] == [False, True, False, True]
        said = ["99% sure · from the network and known combinations", "60% sure · from the network"]
        said += ["90% sure · from similar confirmed frames", "by a person"]
        assert all(words in one for words, one in zip(said, frames, strict=True))
        assert "0.75&nbsp;s" in frames[3]

    def test_what_has_no_label_says_why(self, client: FlaskClient) -> None:
        page = self.sheet(client, "second")
        assert [words in page for words in ("cannot be read", "hidden until it is answered")] == [True, True]

    def test_long_lists_come_in_pages(self, client: FlaskClient, services: Services) -> None:
        services.census(PROJECT).write(many(CLIPS + 1))
        page = client.get(f"/lead/{PROJECT}/clips?by=patient", auth=READER).get_data(as_text=True)
        assert f'rel="next" href="/lead/{PROJECT}/clips?page=2&amp;by=patient"' in page
        assert self.clips(client, "?page=2") == [f"clip {CLIPS:04}"]
        services.census(PROJECT).write(many(1, FRAMES + 1))
        assert self.sheet(client, "clip 0000").count("<li>") >= FRAMES
        assert re.findall(r"data\?task=(\d+)", self.sheet(client, "clip 0000", page=2)) == [str(FRAMES + 1)]

    def test_a_link_opens_the_tasks_of_the_clip(self, client: FlaskClient) -> None:
        tabs = [
            (f"first {SCRIPT}", ("data.clip", f"first {SCRIPT}")),
            ("task 8", ("id", 8)),
        ]
        for name, (column, value) in tabs:
            (tab,) = re.findall(rf'href="[^"]+/projects/{PROJECT}/data\?tab=([\w-]+)"', self.sheet(client, name))
            content = json.loads(gzip.decompress(base64.urlsafe_b64decode(tab + "=" * (-len(tab) % 4))))
            (item,) = content["filters"]["items"]
            assert (item["filter"], item["operator"], item["value"]) == (f"filter:tasks:{column}", "equal", value)

    def test_an_unknown_clip_is_not_found(self, client: FlaskClient, services: Services) -> None:
        for query in ("", "?name=", "?name=third"):
            assert client.get(f"/lead/{PROJECT}/clip{query}", auth=READER).status_code == 404

    @pytest.mark.parametrize("content", [None, '{"frames": '])
    def test_before_the_first_census_none_are_known(
        self, client: FlaskClient, services: Services, content: str | None
    ) -> None:
        path = services.folder(PROJECT) / "census.json"
        path.unlink()
        if content is not None:
            path.write_text(content)
        assert "No frames are known yet" in client.get(f"/lead/{PROJECT}/clips", auth=READER).get_data(as_text=True)
        assert client.get(f"/lead/{PROJECT}/clip?name=second", auth=READER).status_code == 404


class TestMap:
    def page(self, client: FlaskClient, query: str = "") -> str:
        return client.get(f"/lead/{PROJECT}/map{query}", auth=READER).get_data(as_text=True)

    def groups(self, client: FlaskClient, query: str = "") -> dict[str, int]:
        """Return the number of frames of each group, in order, as the table has them; check that the map agrees."""
        page = self.page(client, query)
        rows = re.findall(r'group=\d#frames">([^<]+)</a></th><td>(\d+)</td>', page)
        assert [one.count("<use") for one in page.split('<g class="c')[1 : len(rows) + 1]] == [int(n) for _, n in rows]
        return {unescape(name): int(number) for name, number in rows}

    def test_points_are_the_frames_that_are_still_there(self, client: FlaskClient) -> None:
        page = self.page(client)
        points = re.findall(r'<use href="#s\d" x="(\d+)" y="(\d+)" id="t(\d+)"><title>([^<]+)</title></use>', page)
        assert sorted(int(task) for *_, task, _ in points) == list(range(1, 9))
        where = {int(task): (int(x), int(y), unescape(title)) for x, y, task, title in points}
        assert where[2] == (250, 750, "Task 2: Healthy; 90% sure · from similar confirmed frames")
        assert where[6][2] == "Task 6: hidden until it is answered"
        assert "shows 8 of 8 frames, drawn at random" in page

    def test_they_are_coloured_by_what_is_asked_for(self, client: FlaskClient) -> None:
        labels = {"Healthy": 3, f"B-line {SCRIPT}": 2, "no label": 2, "not assessable": 1}
        assert self.groups(client) == self.groups(client, "?by=label") == self.groups(client, "?by=nothing") == labels
        sure = {"answered by people": 2, "at least 90% sure": 2, "50 to 75% sure": 1, "confidence unknown": 3}
        assert list(self.groups(client, "?by=confidence").items()) == list(sure.items())
        asked_next = {"answered by people": 2, "not asked yet": 5, f"asked next: audit {SCRIPT}": 1}
        assert list(self.groups(client, "?by=asked").items()) == list(asked_next.items())

    def test_a_group_lists_its_frames(self, client: FlaskClient) -> None:
        page = self.page(client, "?by=confidence&group=1")
        assert re.findall(rf'src="/lead/{PROJECT}/frame/(\d+)"', page) == ["4", "2"]
        assert re.findall(rf'href="[^"]+/projects/{PROJECT}/data\?task=(\d+)"', page) == ["4", "2"]
        for query in ("?group=9", "?group=-2", "?group=x", "?group=" + "9" * 99):
            assert 'class="frames"' not in self.page(client, query)

    def test_more_groups_than_colours_are_put_together(self, client: FlaskClient, services: Services) -> None:
        one = counted().frames[0]
        frames = [one.model_copy(update={"task": task, "label": f"label {task % 12}"}) for task in range(8 * 12 + 3)]
        services.census(PROJECT).write(Census(frames=tuple(frames)))
        services.pool_map(PROJECT).write(PoolMap(np.arange(99), np.zeros((99, 2), np.float32), 99))
        found = self.groups(client)
        assert len(found) == COLOURS
        assert list(found.items())[:3] == [("label 0", 9), ("label 1", 9), ("label 2", 9)]
        assert (sum(found.values()), found[OTHER]) == (99, 40)
        assert "at random" not in self.page(client)

    def test_before_the_first_it_says_when_it_comes(self, client: FlaskClient, services: Services) -> None:
        (services.folder(PROJECT) / "map.npz").write_bytes(b"")
        assert f"once the pool has {LEAST} readable frames" in self.page(client)


@pytest.mark.parametrize(("count", "said"), [(3, "3 of 4 answers"), (9, "9 new answers: a fine-tune is due")])
def test_answers_for_the_next_fine_tune(
    services: Services, client: FlaskClient, monkeypatch: pytest.MonkeyPatch, count: int, said: str
) -> None:
    monkeypatch.setattr(Pending, "count", lambda self: count)
    assert said in client.get(f"/lead/{PROJECT}/standing", auth=READER).get_data(as_text=True)
