"""What the tests of every folder may ask for."""

from __future__ import annotations

from tests.redis_server import redis_url, running_redis
from tests.studio_server import studio_server

__all__ = ["redis_url", "running_redis", "studio_server"]
