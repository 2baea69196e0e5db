"""The addresses that tasks and settings hold: where they lead, and how messages show them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qs, urlsplit

from ml_backend.errors import FrameUnreadable, SettingsError

LOCAL_FILES = "/data/local-files/"
FILE_STAMP = "file "  # how the stamp of a file begins that is read from the document root
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Origin:
    """A server, as it is compared with Label Studio and the allowed hosts."""

    scheme: str
    host: str
    port: int


def split(url: str) -> SplitResult:
    """Take an address apart, or raise FrameUnreadable."""
    try:
        return urlsplit(url)
    except ValueError:
        raise FrameUnreadable("is not an address") from None


def origin_of(address: SplitResult) -> Origin | None:
    """Scheme, host and port of an http(s) address without a user name; None for any other."""
    try:
        port = address.port
    except ValueError:
        return None
    if address.scheme not in PORTS or not address.hostname or "@" in address.netloc:
        return None
    return Origin(address.scheme, _host(address.hostname), port if port is not None else PORTS[address.scheme])


def _host(name: str) -> str:
    return name.lower().rstrip(".")


def allowed_host(entry: str) -> tuple[str, int | None]:
    """Read an allowed host, ``name`` or ``name:port``; SettingsError for anything else."""
    parts = urlsplit(f"//{entry}")
    try:
        port = parts.port
    except ValueError:
        port = -1
    if not parts.hostname or parts.netloc != entry or "@" in entry or (port is not None and port < 1):
        raise SettingsError(f"the allowed host {entry!r} must be of the form HOST or HOST:PORT")
    return _host(parts.hostname), port


def local_path(url: str) -> str:
    """The file that ``/data/local-files/?d=…`` names, relative to the document root."""
    values = parse_qs(urlsplit(url).query).get("d", [])
    if len(values) != 1 or "\0" in values[0]:
        raise FrameUnreadable("names no file; it must end in ?d=PATH")
    if values[0].startswith("/"):
        raise FrameUnreadable("names its file by an absolute path; it must be relative to the folder of local files")
    return values[0]


def shown_address(url: str) -> str:
    """An address as messages may show it: local files in full, others without user name, query and fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address"
    if url.startswith(LOCAL_FILES):
        shown = url
    else:
        shown = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl() or "no address"
    return shown if len(shown) <= 200 else f"{shown[:200]}…"
