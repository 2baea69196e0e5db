"""The HTTP route for evidence pictures. Anyone who knows a signed address may see its picture."""

from __future__ import annotations

import sys
from urllib.parse import urlsplit

from flask import Flask, Response, abort, request

from ml_backend.errors import Busy
from ml_backend.loop.drawing import notice
from ml_backend.loop.evidence import Gatherer
from ml_backend.services import Services
from ml_backend.settings import Settings, is_loopback
from ml_backend.store.evidence_addresses import SUFFIX
from ml_backend.studio.addresses import Origin, origin_of

ENDPOINT = "evidence"
RETRY_SECONDS = 2
SWITCH_SECONDS = 0.001
LISTED = notice(("Open the task to see the evidence.",))
"""A placeholder for the Data Manager, which requests the pictures of all listed tasks at once."""
_HEADERS = {
    "Cache-Control": "no-store",  # the picture must match the order that is served now
    "Content-Security-Policy": "default-src 'none'; img-src data:; sandbox",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Vary": "Origin",
}


def answer_evidence(app: Flask, services: Services) -> None:
    """Serve evidence pictures to annotators' browsers, unless the settings switch evidence off."""
    if not services.settings.evidence:
        return
    # Switch between threads five times as often as by default, so that webhooks do not wait for pictures.
    sys.setswitchinterval(SWITCH_SECONDS)
    gatherer, addresses = Gatherer(services), services.evidence_addresses

    @app.get(f"/evidence/<project>/<name>/<signature>{SUFFIX}", endpoint=ENDPOINT)
    def evidence(project: str, name: str, signature: str) -> Response:
        if not addresses.is_signed(project, name, signature):
            abort(404)
        try:
            if request.headers.get("Accept", "").startswith("image/"):  # the labelling page accepts any type
                response = Response(LISTED, content_type="image/svg+xml")
            else:
                response = Response(gatherer.picture(int(project), name), content_type="image/svg+xml")
        except Busy as error:
            response = Response(str(error), 503, {"Retry-After": str(RETRY_SECONDS)}, content_type="text/plain")
        response.headers.update(_HEADERS)
        origin = request.headers.get("Origin", "")
        if is_label_studio(origin, services.settings):
            response.headers["Access-Control-Allow-Origin"] = origin
        return response


def is_label_studio(origin: str, settings: Settings) -> bool:
    """Return whether an origin is the configured Label Studio; all loopback names count as the same host."""
    asking = _origin(origin)
    known = [_origin(url) for url in (settings.label_studio_url, settings.label_studio_public_url or "")]
    return asking is not None and any(one is not None and _same(asking, one) for one in known)


def _origin(url: str) -> Origin | None:
    try:
        return origin_of(urlsplit(url))
    except ValueError:
        return None


def _same(one: Origin, other: Origin) -> bool:
    hosts = one.host == other.host or (is_loopback(one.host) and is_loopback(other.host))
    return hosts and (one.scheme, one.port) == (other.scheme, other.port)
