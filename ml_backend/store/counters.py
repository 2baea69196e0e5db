"""Counters that all processes of an installation share."""

from __future__ import annotations

from redis import Redis

_KEY = "tsal:counted"


class Counters:
    """Sums in Redis that only grow, by name; an emptied Redis starts them anew."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def add(self, amounts: dict[str, float]) -> None:
        """Add to the sums of these names, all in one step."""
        with self._redis.pipeline() as pipeline:
            for name, amount in amounts.items():
                pipeline.hincrbyfloat(_KEY, name, amount)
            pipeline.execute()

    def read(self) -> dict[str, float]:
        """Every sum by its name."""
        found = self._redis.hgetall(_KEY).items()
        return {name.decode() if isinstance(name, bytes) else name: float(amount) for name, amount in found}
