"""Where a task's picture lies, as its address in the task's data says."""

from __future__ import annotations

from urllib.parse import parse_qs, quote, urlsplit

_SERVED = "/data/local-files/"
BUCKETS = "s3://"
"""How addresses of pictures in buckets begin."""


def served_address(path: str) -> str:
    """Return the address under which Label Studio serves a path below its document root."""
    return f"{_SERVED}?d={quote(path)}"


def place_of(value: object) -> str | None:
    """Return where the picture at an address lies: a path below the document root, or ``s3://`` with bucket and key.

    The last part of either is the file name of the picture. Returns None for an address of any other kind.
    """
    if not isinstance(value, str):
        return None
    if value.startswith(BUCKETS):
        return value if value.removeprefix(BUCKETS).strip("/") else None
    try:
        address = urlsplit(value)
    except ValueError:
        return None
    if address.path.rstrip("/") != _SERVED.rstrip("/"):
        return None
    path = parse_qs(address.query).get("d")
    return path[0].lstrip("/") if path else None
