"""The finish of a pool with a guarantee: its cost, the progress of the audit, and the certificates."""

from __future__ import annotations

from flask import Response, abort

from ml_backend.loop.certificate_page import page_of, summary_of
from ml_backend.web.lead.page import Seen

CERTIFICATE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
LARGEST = 10**6


def look(seen: Seen) -> str:
    """Render the view."""
    store = seen.services.finishes(seen.project)
    newest = store.newest()
    counted = {one.number: one for one in store.counted()}
    if newest is not None:
        counted[newest.number] = newest
    certificates = [(one, summary_of(one)) for one in reversed(counted.values())]
    return seen.render("finish.html", asked=seen.asked(), newest=newest, certificates=certificates)


def certificate(seen: Seen, number: int) -> Response:
    """Serve a certificate as a page of its own."""
    store = seen.services.finishes(seen.project)
    found = [one for one in (*store.counted(), store.newest()) if one is not None and one.number == number]
    if not found:
        abort(404, "There is no such certificate.")
    page = Response(page_of(seen.project, found[0]), mimetype="text/html")
    page.headers["Content-Security-Policy"] = CERTIFICATE_POLICY
    return page


def record(seen: Seen, number: int) -> Response:
    """Serve the record behind a certificate as a download: the draw, its time, the answers and the result."""
    try:
        content = seen.services.finishes(seen.project).path(number).read_bytes()
    except FileNotFoundError:
        abort(404, "There is no such certificate.")
    name = f"project-{seen.project}-certificate-{number}.json"
    return Response(
        content, mimetype="application/json", headers={"Content-Disposition": f"attachment; filename={name}"}
    )
