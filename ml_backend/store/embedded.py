"""The address of the Redis server that we start ourselves where a team has none."""

from __future__ import annotations

import os
import tempfile
from hashlib import sha256
from pathlib import Path


def embedded_redis_url(folder: Path) -> str:
    """Return where the embedded Redis of ``folder`` listens: a unix socket that only this user can open."""
    digest = sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    # A unix socket's path may have about 100 characters at most, so it cannot lie in the folder itself.
    return f"unix://{Path(tempfile.gettempdir()) / f'tsal-redis-{os.getuid()}-{digest}.sock'}"
