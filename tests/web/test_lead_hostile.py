"""Malformed requests to the lead's page: 5,000 with the password, 1,000 without."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from ml_backend.loop import asked
from ml_backend.services import Services
from ml_backend.web.app import create_app
from soak.hostile import METHODS, ODD_ADDRESSES, ODD_PATHS, ODD_PROJECTS, ODD_VALUES
from tests.installation import PROJECT, settings_in
from tests.web.overviews import DRAWN, SCRIPT, counted, made_up
from tests.web.test_lead import LEAD, SECRETS, certified, logged_in, token_in, version

REQUESTS = 5000
SECRET = "Lungs"
VIEWS = ("standing", "learning", "versions", "people", "again", "clips", "map", "finish")
PLACES = ("", *VIEWS, "clip", "frame/1", "confirm", "change", "certificate/1", "nothing")
NAMES = (
    "what",
    "version",
    "expected",
    "error",
    "confidence",
    "next",
    "name",
    "password",
    "csrf_token",
    "project",
    "by",
    "page",
)
VALUES = (
    *ODD_VALUES,
    *ODD_ADDRESSES,
    *ODD_PATHS,
    *ODD_PROJECTS,
    SCRIPT,
    f"first {SCRIPT}",
    "2",
    "activate",
    "rollback",
    "begin",
    "give up",
)


@pytest.fixture
def services(tmp_path: Path, redis_url: str) -> Iterator[Services]:
    services = Services(settings_in(tmp_path, redis_url, **SECRETS))
    version(services), version(services)
    certified(services)
    services.overviews(PROJECT).write(made_up(SCRIPT))
    services.census(PROJECT).write(counted(SCRIPT))
    services.pool_map(PROJECT).write(DRAWN)
    yield services
    services.redis.close()


def address(chance: random.Random) -> str:
    """Make an address of the page, usually a malformed one."""
    project = str(PROJECT) if chance.random() < 0.7 else quote(chance.choice(ODD_PROJECTS), errors="replace")
    place = chance.choice(PLACES) if chance.random() < 0.8 else quote(chance.choice(ODD_PATHS), errors="replace")
    return chance.choice((f"/lead/{project}/{place}", f"/lead/{place}", "/lead/login", "/lead/logout"))[:4000]


def fields(chance: random.Random) -> dict[str, str]:
    """Make fields of a form or a query, most of them invalid."""
    return {
        chance.choice(NAMES): chance.choice(VALUES).encode(errors="replace").decode()[:5000]
        for _ in range(chance.randrange(4))
    }


def attacked(client: FlaskClient, chance: random.Random, token: str, **more: Any) -> tuple[int, str]:
    form = fields(chance) | ({"csrf_token": token} if chance.random() < 0.8 else {})
    method = chance.choice(("GET", "GET", "POST", "POST", chance.choice(METHODS)))
    data: dict[str, Any] = {"data": form} if chance.random() < 0.8 else {"data": b"\xff\x00=%zz&" * 50}
    answer = client.open(address(chance), method=method, query_string=fields(chance), **data, **more)
    return answer.status_code, answer.get_data(as_text=True)


def test_nothing_of_it_is_an_error_of_ours_or_is_run(services: Services) -> None:
    app, chance, seen = create_app(services.settings), random.Random(0), Counter[int]()
    client = app.test_client()
    logged_in(client, LEAD)
    token = token_in(client.get("/lead/"))
    for number in range(REQUESTS):
        origin = {"REMOTE_ADDR": f"10.0.{number % 250}.{number // 250}"}  # a single address would be locked out
        status, text = attacked(client, chance, token, environ_overrides=origin)
        seen[status] += 1
        assert status < 500 or status == 501, (number, text)
        assert "<script>alert" not in text, number
        if (status == 302 and number % 50 == 0) or "Log in</h1>" in text:  # logged out by one of the requests
            logged_in(client, LEAD)
            token = token_in(client.get("/lead/"))
    assert {200, 302, 400, 404, 405} <= seen.keys()
    assert seen[200] > REQUESTS / 10
    for job in services.queue(asked.QUEUE).jobs:
        assert job.args[1] in asked.SAID


def test_without_a_login_nothing_is_told(services: Services) -> None:
    client, chance = create_app(services.settings).test_client(), random.Random(1)
    token = token_in(client.get("/lead/login"))
    for number in range(1000):
        origin = {"REMOTE_ADDR": f"10.1.{number % 250}.{number // 250}"}
        status, text = attacked(client, chance, token, environ_overrides=origin)
        assert status < 500, (number, text)
        assert SECRET not in text
        assert "msml-" not in text
    assert services.queue(asked.QUEUE).count == 0
