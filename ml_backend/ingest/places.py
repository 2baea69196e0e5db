"""Where a task's picture lies, as its address in the task's data says."""

from __future__ import annotations

from urllib.parse import parse_qs, quote, urlsplit

_SERVED = "/data/local-files/"
_BUCKET = "s3://"


def served_address(path: str) -> str:
    """Return the address under which Label Studio serves a path below its document root."""
    return f"{_SERVED}?d={quote(path)}"


def place_of(value: object) -> str | None:
    """Return where the picture at an address lies: a path below the document root, or ``s3://`` with bucket and key.

    The last part is the picture's name. None for an address of another kind.
    """
    if not isinstance(value, str):
        return None
    if value.startswith(_BUCKET):
        return value if value.removeprefix(_BUCKET).strip("/") else None
    try:
        address = urlsplit(value)
    except ValueError:
        return None
    if address.path.rstrip("/") != _SERVED.rstrip("/"):
        return None
    path = parse_qs(address.query).get("d")
    return path[0].lstrip("/") if path else None
