"""The lead with the page open: reloads every view, activates versions, begins a finish and gives it up."""

from __future__ import annotations

import random
import re
import threading
from collections import Counter
from html import unescape

import httpx

from ml_backend.settings import Settings
from soak.waits import Waits

VIEW = re.compile(r'href="(/lead/\d+/[a-z]+)"')
FIELD = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)">')
FORM = re.compile(r'<form method="post" action="(/lead/\d+/change)">(.*?)</form>', re.DOTALL)


class Lead:
    """A browser with the lead's page; ``answers`` counts the answers that it got by status, 0 where none came."""

    def __init__(self, settings: Settings, waits: Waits) -> None:
        password = settings.basic_auth_password
        assert password is not None
        self.answers: Counter[int] = Counter()
        self._credentials = {"name": settings.basic_auth_user or "", "password": password.get_secret_value()}
        self._browser = httpx.Client(base_url=settings.backend_url, timeout=60, follow_redirects=True)
        self._waits = waits
        self._gate = threading.Lock()  # the reloads and the wishes are of one person

    def reload(self, project: int) -> None:
        """Load the project's first page and every view that it links to."""
        with self._gate:
            first = self._get(f"/lead/{project}/")
            for address in dict.fromkeys(VIEW.findall(first.text)):
                self._get(address)

    def wish(self, project: int, what: str, **values: str) -> bool:
        """Ask for a change as the page does, with its confirmation; False where it was refused or nothing came."""
        with self._gate:
            page = self._get(f"/lead/{project}/confirm", what=what, **values)
            form = FORM.search(page.text)
            if form is None:
                return False
            fields = {name: unescape(value) for name, value in FIELD.findall(form[2])}
            return self._ask("POST", form[1], data=fields).is_success

    def activate(self, project: int, versions: list[str], chance: random.Random) -> bool:
        """Go back, or make one of these versions the active one."""
        if chance.random() < 0.5:
            return self.wish(project, "rollback")
        return self.wish(project, "activate", version=chance.choice(versions))

    def _get(self, address: str, **query: str) -> httpx.Response:
        answer = self._ask("GET", address, params=query)
        if answer.url.path == "/lead/login":
            token = dict(FIELD.findall(answer.text)).get("csrf_token", "")
            form = {**self._credentials, "csrf_token": token, "next": address}
            self._ask("POST", "/lead/login", data=form)
            answer = self._ask("GET", address, params=query)
        return answer

    def _ask(self, method: str, address: str, **content: dict[str, str]) -> httpx.Response:
        try:
            with self._waits.timed("the lead's page"):
                answer = self._browser.request(method, address, **content)  # type: ignore[arg-type]
        except httpx.HTTPError:
            self.answers[0] += 1
            raise
        self.answers[answer.status_code] += 1
        return answer
