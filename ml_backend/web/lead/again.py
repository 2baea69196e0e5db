"""The view of frames that deserve a second look, each with a picture and a link to its task."""

from __future__ import annotations

from collections.abc import Callable

from flask import Response, abort

from ml_backend.loop.thumbnails import Thumbnails
from ml_backend.store.overviews import LookAgain
from ml_backend.web.lead.page import Seen

LARGEST = 2**31 - 1
KINDS = {
    "suspects": (
        "Suspects",
        "Similar frames and the network contradict these answers, as of the last order.",
    ),
    "disagreements": ("Disagreements", "People gave different answers for these frames."),
    "accepted": (
        "Accepted unseen",
        "Nobody looked at these: suggestions became answers in the Data Manager.",
    ),
    "unreadable": ("Unreadable", "These files cannot be read, so they get no suggestion."),
}


def look(seen: Seen) -> str:
    """Render the view."""
    again = seen.overview.again if seen.overview else LookAgain()
    kinds = [(name, *words, getattr(again, name)) for name, words in KINDS.items()]
    return seen.render("again.html", kinds=kinds)


def frames(thumbnails: Thumbnails) -> Callable[[Seen, int], Response]:
    """Return a view that serves the thumbnails of the project's frames."""

    def frame(seen: Seen, task: int) -> Response:
        one = seen.census.find(task) if seen.census else None
        content = thumbnails.of(one.url, task) if one and one.url else None
        if content is None:
            abort(404, "No picture of this frame is available here.")
        return Response(content, content_type="image/jpeg")

    return frame
