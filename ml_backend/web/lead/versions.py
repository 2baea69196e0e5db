"""The versions beside their parents, with the active one and those held back."""

from __future__ import annotations

from ml_backend.web.lead.page import Seen

ACTIVATIONS = 20
"""Number of activations shown, the newest first."""


def look(seen: Seen) -> str:
    """Render the view."""
    store = seen.services.versions(seen.project)
    history = store.activations()
    return seen.render(
        "versions.html",
        asked=seen.asked(),
        active=store.active(),
        before=store.before(),
        damaged=store.damaged(),
        history=history[::-1][:ACTIVATIONS],
    )
