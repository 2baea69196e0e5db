"""Say which Label Studio answers, and whether the tests ran against its release."""

from __future__ import annotations

from collections.abc import Iterator

from ml_backend.setup.findings import Finding
from ml_backend.studio.client import Studio
from ml_backend.studio.releases import doubt


def checked(studio: Studio) -> Iterator[Finding]:
    """Name Label Studio's release and the token's user; an untested release is a note and nothing is refused."""
    email, release = studio.me(), studio.version()
    doubtful = doubt(release)
    text = f"Label Studio {release} answers to {email}"
    if doubtful:
        yield Finding("label studio version", "note", f"{text}: {doubtful}")
    else:
        yield Finding("label studio version", "ok", text)
