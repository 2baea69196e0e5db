"""Decide who may view the lead's page and who may make changes there."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Literal

from flask import Request, session

from ml_backend.settings import Settings
from ml_backend.store.secret import kept_secret
from ml_backend.web.access import is_local, same

KEY_FILE = "lead-key"
Role = Literal["lead", "reader"]


@dataclass(frozen=True)
class Visitor:
    """A person who views the page: a lead may make changes, a reader may not."""

    name: str
    role: Role

    @property
    def may_change(self) -> bool:
        """Whether this visitor may make changes."""
        return self.role == "lead"


def visitor(request: Request, settings: Settings) -> Visitor | None:
    """Identify the visitor by the session; without secrets, anybody on this machine is a lead.

    Return None if nobody has logged in, or if there are no secrets and the request comes from another machine.
    """
    if settings.basic_auth_user is None:
        return Visitor("this machine", "lead") if is_local(request) else None
    role = session.get("role")
    if role in ("lead", "reader"):
        return Visitor(str(session.get("name")), role)
    return None


def log_in(settings: Settings, name: str, password: str) -> Visitor | None:
    """Check a name and a password, in constant time."""
    pairs: list[tuple[Role, str | None, str]] = [
        ("lead", settings.basic_auth_user, _plain(settings.basic_auth_password)),
        ("reader", settings.lead_reader_user, _plain(settings.lead_reader_password)),
    ]
    found: Role | None = None
    for role, user, wanted in pairs:
        right_name, right_password = same(name, user or ""), same(password, wanted)
        if user is not None and right_name and right_password:
            found = role
    return Visitor(name, found) if found else None


def signing_key(settings: Settings) -> bytes:
    """Return the key (32 bytes) that signs sessions; it depends on the installation and its current passwords.

    Changing a password therefore ends every session. Raises SettingsError where the key's file is damaged.
    """
    path = settings.data_dir / KEY_FILE
    secret = kept_secret(path, "delete it; everybody then has to log in again")
    names = (settings.basic_auth_user or "", settings.lead_reader_user or "")
    passwords = (_plain(settings.basic_auth_password), _plain(settings.lead_reader_password))
    return hmac.new(secret, "\0".join(names + passwords).encode(), hashlib.sha256).digest()


def _plain(secret: object) -> str:
    reveal = getattr(secret, "get_secret_value", None)
    return str(reveal()) if reveal else ""
