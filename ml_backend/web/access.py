"""Who may call the backend: Label Studio with our secrets, and without secrets only this machine itself."""

from __future__ import annotations

import hmac

from flask import Request

from ml_backend.errors import TooManyAttempts, Unauthorized
from ml_backend.settings import Settings, host_of, is_loopback
from ml_backend.web.attempts import Attempts

SECRET_HEADER = "X-TSAL-Secret"  # noqa: S105  the header's name, no secret
# A proxy on this machine connects from a loopback address, whoever its own client is. Most send one of these; one that
# does not looks like a program of this machine.
_FORWARDING = ("Forwarded", "Via", "X-Real-Ip", "X-Client-Ip", "X-Original-Host", "True-Client-Ip", "Cf-Connecting-Ip")


def secret_header(settings: Settings) -> dict[str, str]:
    """The header that proves a webhook to be ours; empty where no secret is set."""
    return {SECRET_HEADER: settings.webhook_secret.get_secret_value()} if settings.webhook_secret else {}


def require_access(request: Request, settings: Settings, attempts: Attempts) -> None:
    """Let a request in by our secret (webhooks), by name and password, or, where none is set, from this machine."""
    # Container health checks send no password, a signature in its address protects evidence, and the lead's page has a
    # login of its own.
    if request.endpoint not in ("health", "evidence", None) and request.blueprint != "lead":
        _require_in_time(request, settings, attempts)


def has_access(request: Request, settings: Settings, attempts: Attempts) -> bool:
    """Whether the caller of an open page may also see the others."""
    try:
        _require_in_time(request, settings, attempts)
    except (Unauthorized, TooManyAttempts):
        return False
    return True


def _require_in_time(request: Request, settings: Settings, attempts: Attempts) -> None:
    """Slow down guessing, but not on this machine: a program with an old password would lock out all others."""
    guess = not is_local(request) and ("Authorization" in request.headers or SECRET_HEADER in request.headers)
    address = request.remote_addr or ""
    if guess and (wait := attempts.wait(address)):
        raise TooManyAttempts(f"too many wrong passwords came from this address; try again in {wait:.0f} s")
    try:
        _require_secrets(request, settings)
    except Unauthorized:
        if guess:
            attempts.fail(address)
        raise


def _require_secrets(request: Request, settings: Settings) -> None:
    webhook = request.endpoint == "webhook"
    secret, user, password = settings.webhook_secret, settings.basic_auth_user, settings.basic_auth_password
    if webhook and secret is not None and same(request.headers.get(SECRET_HEADER), secret.get_secret_value()):
        return
    if user is not None and password is not None:
        if _password_matches(request, user, password.get_secret_value()):
            return
        if not (webhook and secret is None):
            raise Unauthorized(
                "the backend needs its user name and password (Label Studio: Settings, Model, Basic auth)"
            )
    elif webhook and secret is not None:
        raise Unauthorized(
            f"the webhook needs the header {SECRET_HEADER} with the backend's secret; Label Studio's own calls, such "
            "as Start Training, need TSAL_BASIC_AUTH_USER and TSAL_BASIC_AUTH_PASSWORD set"
        )
    if not is_local(request):
        raise Unauthorized(
            "without its secrets the backend answers requests from its own machine only; set TSAL_WEBHOOK_SECRET, "
            "TSAL_BASIC_AUTH_USER and TSAL_BASIC_AUTH_PASSWORD, and connect the project again"
        )


def is_local(request: Request) -> bool:
    """Whether a request began on this machine, as far as its peer, its Host header and a proxy's headers tell.

    What the server is bound to does not count, because a container or a command line can bind it to any address.
    """
    headers = request.headers
    forwarded = any(name in headers for name in _FORWARDING) or any(
        name.lower().startswith("x-forwarded")
        for name in headers.keys()  # noqa: SIM118  headers are no dict
    )
    host = host_of(f"//{headers.get('Host', '')}")
    return not forwarded and is_loopback(request.remote_addr or "") and is_loopback(host)


def _password_matches(request: Request, user: str, password: str) -> bool:
    """Compare both in constant time, whichever is wrong."""
    sent_user, sent_password = sent_names(request)
    right_user, right_password = same(sent_user, user), same(sent_password, password)
    return right_user and right_password


def sent_names(request: Request) -> tuple[str | None, str | None]:
    """The name and the password of the request's header, None where it sends none."""
    try:
        sent = request.authorization
    except ValueError:  # werkzeug raises it if the base64 is not even ASCII
        sent = None
    return (sent.username, sent.password) if sent else (None, None)


def same(sent: str | None, wanted: str) -> bool:
    """Compare in a time that does not reveal how much is right."""
    return hmac.compare_digest((sent or "").encode(), wanted.encode())
