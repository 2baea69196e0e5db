"""The HTTP session with a PACS: its address, who signs its requests, and what its failures mean.

Addresses, queries and identifiers of a PACS name people: no message repeats what a library says of them.
"""

from __future__ import annotations

import logging
import os
from typing import Any, NoReturn
from urllib.parse import urlsplit

from ml_backend.errors import BackendError, ExtraMissing, InvalidRequest, PacsRefused, PacsUnavailable, SettingsError
from ml_backend.ingest.pacs.parts import BrokenOff
from ml_backend.settings import PREFIX, Settings

_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_CREDENTIALS = f"{PREFIX}DICOMWEB_USER and {PREFIX}DICOMWEB_PASSWORD, or {PREFIX}DICOMWEB_TOKEN"
_PLAIN = {"+": "%20", "%2A": "*", "%2C": ",", "%2F": "/"}
"""What a query may hold as it is; Orthanc's plugin of 2022 takes coded wildcards for letters."""
_USUAL = "which often ends in /dicom-web, /dicomweb or /rs"


def require_library() -> None:
    """Raise ExtraMissing where dicomweb-client is not installed; keep the libraries from logging of whom they read."""
    try:
        import dicomweb_client.api  # noqa: F401
    except ImportError as error:
        raise ExtraMissing("--dicomweb needs dicomweb-client: run `pip install dicomweb-client`") from error
    for name in ("dicomweb_client", "pydicom", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def session_of(settings: Settings) -> Any:
    """Return a `requests.Session` that signs as the settings say; SettingsError if they do not go together."""
    import requests

    user, password, token = settings.dicomweb_user, settings.dicomweb_password, settings.dicomweb_token
    if (user is None) != (password is None) or (user is not None and token is not None):
        raise SettingsError(f"set {_CREDENTIALS}: both of the former or the latter alone")
    session = requests.Session()
    session.max_redirects = 0  # a query would travel on to another host
    for scheme in ("http://", "https://"):
        session.mount(scheme, _adapter())
    certificates = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
    if certificates:  # which counts for Label Studio too; REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE come before it
        session.verify = certificates
    if user is not None and password is not None:
        session.auth = requests.auth.HTTPBasicAuth(user.encode(), password.get_secret_value().encode())
    elif token is not None:
        session.auth = _Bearer(_sendable(token.get_secret_value().strip()))
    return session


def _sendable(token: str) -> str:
    if not token.isascii() or not token.isprintable():
        raise SettingsError(f"{PREFIX}DICOMWEB_TOKEN holds a line break, or letters that no token has: correct it")
    return token


def _adapter() -> Any:
    from requests.adapters import HTTPAdapter

    class Adapter(HTTPAdapter):  # type: ignore[misc]
        """Corrects what dicomweb-client sends: its Host lacks the port, and is broken for IPv6."""

        def send(self, request: Any, *rest: Any, **options: Any) -> Any:
            request.headers.pop("Host", None)
            address, mark, query = request.url.partition("?")
            for coded, plain in _PLAIN.items():
                query = query.replace(coded, plain)
            request.url = address + mark + query
            return super().send(request, *rest, **options)

    return Adapter()


class _Bearer:
    """Signs requests. A header of the session would give way to what ~/.netrc says."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def address_of(url: str) -> str:
    """Return the address of a DICOMweb server without a slash at its end, or raise InvalidRequest."""
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        whole, parts = False, urlsplit("")
    if parts.username or parts.password:
        raise InvalidRequest(f"leave user and password out of --dicomweb: set {_CREDENTIALS}")
    if not whole or parts.query or parts.fragment:
        raise InvalidRequest("--dicomweb must be of the form https://HOST/dicom-web, with nothing behind it")
    return parts.geturl().rstrip("/")


def status_of(error: Exception) -> int | None:
    """Return the status that a PACS answered, if that is what the error is about."""
    from requests import HTTPError

    return int(error.response.status_code) if isinstance(error, HTTPError) and error.response is not None else None


def may_pass(error: Exception) -> bool:
    """Say whether the same request may succeed a little later."""
    from requests import exceptions

    if isinstance(error, exceptions.SSLError):
        return False
    broken = BrokenOff | exceptions.ConnectionError | exceptions.Timeout | exceptions.ChunkedEncodingError
    return isinstance(error, broken) or status_of(error) in _TRANSIENT


def explain(error: Exception, url: str, tries: int) -> NoReturn:
    """Raise what the user can do about the failure of a request that was made ``tries`` times."""
    from requests import exceptions

    if isinstance(error, BackendError):
        raise error
    if (status := status_of(error)) is not None:
        _explain_status(status, url, tries)
    if isinstance(error, exceptions.SSLError):
        raise PacsUnavailable(
            f"the certificate of {url} cannot be verified: name the file with your CA in REQUESTS_CA_BUNDLE"
        ) from None
    if isinstance(error, exceptions.TooManyRedirects):
        raise PacsRefused(f"{url} leads on to another address: give that one in --dicomweb") from None
    if may_pass(error):
        reason = "gave no answer in time" if isinstance(error, exceptions.Timeout) else "does not answer"
        raise PacsUnavailable(
            f"the PACS at {url} {reason}, tried {tries} times: start it, or correct --dicomweb. Run the same command "
            "again, and it goes on"
        ) from None
    if isinstance(error, OSError) and not isinstance(error, exceptions.RequestException):
        raise SettingsError(
            f"certificates cannot be read ({type(error).__name__}): correct REQUESTS_CA_BUNDLE or SSL_CERT_FILE"
        ) from None
    raise PacsRefused(f"the answer of {url} is not DICOMweb: correct --dicomweb, {_USUAL}") from None


def _explain_status(status: int, url: str, tries: int) -> NoReturn:
    if status in _TRANSIENT:
        raise PacsUnavailable(
            f"the PACS at {url} answers {status}, tried {tries} times: see its own log. Run the same command again, "
            "and it goes on"
        ) from None
    hint = {
        400: f"correct --dicomweb, {_USUAL}; or a value in --query has the wrong form",
        401: f"set {_CREDENTIALS}, or correct them",
        403: "this user may not read there; have the right given, or choose other studies",
        404: f"there is no DICOMweb: correct --dicomweb, {_USUAL}",
        413: "the query finds too much; ask for less",
    }
    raise PacsRefused(f"the PACS at {url} answers {status}: {hint.get(status, 'see its own log')}") from None
