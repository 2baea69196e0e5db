"""Label Studio's access tokens: legacy ones as they are, personal ones exchanged for short-lived access tokens."""

from __future__ import annotations

import time
from collections.abc import Generator

import httpx

from ml_backend.errors import SettingsError, StudioRefused, StudioUnavailable

# Access tokens live 300 s. Counted on this machine's monotonic clock, so that a clock that is set back does no harm.
_LIFETIME = 240.0
CREDENTIALS_HINT = (
    "check the access token: new organizations have legacy tokens switched off, so use a personal access token "
    "(Account & Settings in Label Studio), or switch legacy tokens on under Organization, Access Token Settings"
)


class Credentials(httpx.Auth):
    """Adds a user's token to requests; never part of a message or a repr.

    Raises SettingsError for a token that no header can carry.
    """

    def __init__(self, url: str, token: str, timeout: float = 30.0) -> None:
        if not token or any(not 33 <= ord(character) <= 126 for character in token):
            raise SettingsError(
                "the access token of Label Studio is empty or has spaces or line breaks in it; copy it again"
            )
        self._refresh_url = f"{url}/api/token/refresh/"
        self._token = token
        self._timeout = timeout
        self._personal = token.count(".") == 2  # a JWT; legacy tokens are hexadecimal
        self._access: tuple[str, float] | None = None

    def __repr__(self) -> str:
        return f"Credentials({'personal access token' if self._personal else 'legacy token'})"

    def header(self) -> str:
        """Value of the Authorization header; a personal access token is exchanged for it where that is due."""
        if not self._personal:
            return f"Token {self._token}"
        access = self._access
        if access is None or time.monotonic() > access[1]:
            access = self._access = (self._exchange(), time.monotonic() + _LIFETIME)
        return f"Bearer {access[0]}"

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign a request; a refused access token is exchanged anew once."""
        request.headers["Authorization"] = self.header()
        response = yield request
        if response.status_code == httpx.codes.UNAUTHORIZED and self._personal:
            self._access = None
            request.headers["Authorization"] = self.header()
            yield request

    def _exchange(self) -> str:
        try:
            answer = httpx.post(self._refresh_url, json={"refresh": self._token}, timeout=self._timeout)
        except httpx.HTTPError as error:
            raise StudioUnavailable(
                f"exchanging the personal access token: Label Studio does not answer ({type(error).__name__})"
            ) from None
        try:
            if answer.status_code == httpx.codes.OK:
                return str(answer.json()["access"])
        except (ValueError, KeyError, TypeError):
            pass
        raise StudioRefused(
            f"exchanging the personal access token: Label Studio answered {answer.status_code}; {CREDENTIALS_HINT}"
        )
