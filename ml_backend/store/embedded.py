"""The address of the Redis server: the team's, or the one that we start ourselves where a team has none."""

from __future__ import annotations

import os
import tempfile
from hashlib import sha256
from pathlib import Path

from ml_backend.settings import Settings


def embedded_redis_url(folder: Path) -> str:
    """Return where the embedded Redis of ``folder`` listens: a unix socket that only this user can open."""
    digest = sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    # A unix socket's path may have about 100 characters at most, so it cannot lie in the folder itself.
    return f"unix://{Path(tempfile.gettempdir()) / f'tsal-redis-{os.getuid()}-{digest}.sock'}"


def redis_url(settings: Settings) -> str | None:
    """Return the address of the configured Redis, or of the embedded one where another process has started it."""
    if settings.redis_url is not None:
        return settings.redis_url
    embedded = embedded_redis_url(settings.data_dir / "redis")
    return embedded if Path(embedded.removeprefix("unix://")).is_socket() else None
