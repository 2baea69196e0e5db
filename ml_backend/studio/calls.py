"""One HTTP session with Label Studio: sign requests, repeat reads, and turn every failure into one of our errors."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from json import JSONDecodeError
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from label_studio_sdk import LabelStudio
from label_studio_sdk.core.api_error import ApiError
from label_studio_sdk.core.parse_error import ParsingError
from pydantic import ValidationError

from ml_backend.errors import SettingsError, StudioRefused, StudioUnavailable
from ml_backend.studio.credentials import CREDENTIALS_HINT, Credentials

Answer = TypeVar("Answer")
_WAITS = (0.2, 1.0)  # seconds before the second and the third try of a read
_DETAIL = 400  # characters of Label Studio's own explanation that a message repeats
_GATEWAY = (502, 503, 504)  # what a proxy answers if the Label Studio behind it is down
_HINTS = {
    400: "correct the values",
    401: CREDENTIALS_HINT,
    403: "the user of the access token may not do this; use the token of a member of the project's organization",
    404: "check the project ID, and that the user of the access token can see the project",
    413: "a proxy in front of Label Studio limits the size of requests; raise its limit",
    429: "a proxy in front of Label Studio limits the rate of requests; raise its limit",
}
_PRIVATE_ADDRESS = (
    "Label Studio refuses private addresses; start it with USE_DEFAULT_BANNED_SUBNETS=false, or give an address "
    "that is not private"
)


class Calls:
    """Calls to one Label Studio as one user; ``sdk`` is Label Studio's own client on the same session.

    Raises SettingsError for an address or a token that cannot be used, StudioUnavailable where Label Studio does not
    answer, StudioRefused where it answers with anything but success. Safe to use from several threads.
    """

    def __init__(self, url: str, token: str, timeout: float, slow: float) -> None:
        self.url = _address(url)
        self.credentials = Credentials(self.url, token, timeout)
        self._slow = slow
        self._session = httpx.Client(
            auth=self.credentials,
            timeout=timeout,
            # The token says who we are in every request; a session cookie beside it could outlive it.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            # A redirected POST would be repeated as a GET, and a token would travel to another host.
            follow_redirects=False,
            # A connection that was kept open may be closed under a write, which is not repeated.
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        # The session signs; the SDK never sees the token. It must not repeat writes, so it repeats nothing.
        self.sdk: Any = LabelStudio(
            base_url=f"{self.url}/", api_key="-", httpx_client=self._session, timeout=timeout, max_retries=0
        )

    @property
    def slow(self) -> dict[str, float]:
        """Options for the SDK's bulk calls, which may take long."""
        return {"timeout_in_seconds": self._slow}

    def read(self, what: str, call: Callable[[], Answer]) -> Answer:
        """Run a call that changes nothing; it is repeated up to twice if the connection fails."""
        for wait in _WAITS:
            try:
                return call()
            except (httpx.NetworkError, httpx.RemoteProtocolError):
                time.sleep(wait)
            except Exception as error:
                raise self._explained(what, error) from None
        return self.write(what, call)

    def write(self, what: str, call: Callable[[], Answer]) -> Answer:
        """Run a call once."""
        try:
            return call()
        except Exception as error:
            # Without a cause: an SDK error carries the answer's headers, session cookies among them.
            raise self._explained(what, error) from None

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        slow: bool = False,
        absent: str | tuple[str, ...] = (),
    ) -> Any:
        """Send a request that the SDK has no call for; to be run by `read` or `write`.

        Returns:
            The answer's JSON, None for an empty answer and for a 404 whose explanation starts with one of ``absent``.
        """
        timeout = self._slow if slow else httpx.USE_CLIENT_DEFAULT
        answer = self._session.request(method, f"{self.url}/{path}", params=params, json=json, timeout=timeout)
        if answer.is_success:
            return answer.json() if answer.content else None
        body = _json(answer)
        if answer.status_code == httpx.codes.NOT_FOUND and _detail(body).startswith(absent):
            return None
        raise ApiError(status_code=answer.status_code, headers=dict(answer.headers), body=body)

    def _explained(self, what: str, error: Exception) -> Exception:
        if isinstance(error, ApiError):
            return self._refused(what, error)
        if isinstance(error, httpx.TimeoutException):
            return StudioUnavailable(f"{what}: Label Studio at {self.url} gave no answer in time")
        if isinstance(error, httpx.TransportError):
            return StudioUnavailable(
                f"{what}: Label Studio at {self.url} does not answer ({type(error).__name__}); "
                "start it or correct its address"
            )
        if isinstance(error, httpx.HTTPError | ParsingError | JSONDecodeError | ValidationError | UnicodeDecodeError):
            return StudioRefused(f"{what}: {self._not_label_studio()}")
        return error

    def _refused(self, what: str, error: ApiError) -> Exception:
        status, detail = error.status_code or 0, _detail(error.body)
        if status in _GATEWAY:
            return StudioUnavailable(f"{what}: Label Studio at {self.url} is down: a proxy answers {status}")
        if 200 <= status < 300:
            return StudioRefused(f"{what}: {self._not_label_studio()}")
        if 300 <= status < 400:
            place = urlsplit((error.headers or {}).get("location", ""))
            return StudioRefused(
                f"{what}: {self.url} redirects to {place.scheme}://{place.netloc.rpartition('@')[2]}{place.path}; "
                "set the address that Label Studio really has"
            )
        hint = _HINTS.get(status, "see Label Studio's own log")
        if status in (400, 403) and "reserved network address" in detail:
            hint = _PRIVATE_ADDRESS
        return StudioRefused(f"{what}: Label Studio answered {status}{f' ({detail})' if detail else ''}; {hint}")

    def _not_label_studio(self) -> str:
        return f"the answer of {self.url} is not Label Studio's; correct its address"


class Resource:
    """The base of the classes that handle one kind of object in Label Studio; `client.Studio` combines them."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._sdk = calls.sdk

    def _make(self, what: str, call: Callable[[], Any]) -> int:
        return int(self._calls.write(what, call).id)

    def _get(self, what: str, path: str, slow: bool = False, **params: Any) -> Any:
        return self._calls.read(what, lambda: self._calls.request("GET", path, params=params, slow=slow))


def _address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise SettingsError("the address of Label Studio must be of the form http://HOST:PORT or https://HOST")
    return url.rstrip("/")


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None


def _detail(body: Any) -> str:
    """Find Label Studio's explanation in the body of an error; empty for a web page."""
    if not isinstance(body, dict):
        return ""
    problems = body.get("validation_errors")
    if isinstance(problems, dict) and problems:
        text = "; ".join(f"{name}: {_listed(value)}" for name, value in problems.items())
    else:
        text = str(body.get("detail") or "")
    return text if len(text) <= _DETAIL else f"{text[:_DETAIL]}…"


def _listed(value: Any) -> str:
    return ", ".join(str(part) for part in value) if isinstance(value, list) else str(value)
