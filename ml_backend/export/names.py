"""The names under which patients, clips and annotators are exported."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ml_backend.errors import InvalidRequest
from ml_backend.export.rows import Names
from ml_backend.frames.frame import Frame
from ml_backend.store.secret import kept_secret

FILE = "export-key"
_WORD = re.compile(r"[^\W_]+")


def export_key(data_dir: Path) -> bytes:
    """Return this installation's key for pseudonyms, made on first use.

    Raises SettingsError where it cannot be kept or is damaged.
    """
    return kept_secret(data_dir / FILE, "restore it from a backup, or remove it and all exports get other pseudonyms")


def names_of(key: bytes, as_in_tasks: bool, people: Mapping[int, str] | None) -> Names:
    """Return how an export names things.

    By keyed hashes, but patients and clips as the tasks name them with ``as_in_tasks``, and annotators by their names
    where ``people`` has them.
    """

    def hashed(kind: str, name: str) -> str:
        return f"{kind}-{hmac.new(key, f'{kind} {name}'.encode(errors='replace'), hashlib.sha256).hexdigest()[:16]}"

    def annotator(user: int | str) -> str:
        if isinstance(user, str) and people is not None:
            return user
        return people[user] if people and isinstance(user, int) and user in people else hashed("annotator", str(user))

    if as_in_tasks:
        return Names(str, str, annotator)
    return Names(lambda name: hashed("patient", name), lambda name: hashed("clip", name), annotator)


def address(frame: Frame, as_in_tasks: bool) -> str:
    """Return a frame's address as an export may show it, without user name and query where a server is named.

    Raises InvalidRequest, unless ``as_in_tasks``, where the address holds the name that the task gives to patient or
    clip: it would give away what the hashes hide.
    """
    told = [_words(name) for name in (frame.patient, frame.clip) if name != f"task {frame.task}"]
    there = _words(unquote(frame.url))
    if not as_in_tasks and any(words and words <= there for words in told):
        raise InvalidRequest(
            f"the address of task {frame.task} holds the name of its patient or clip: export copies of the frames with "
            "--frames copy, or add --identifiers tasks if these names identify nobody"
        )
    try:
        parts = urlsplit(frame.url)
    except ValueError:
        return ""
    if not parts.netloc:
        return frame.url
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.casefold()))
