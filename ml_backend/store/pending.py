"""What was confirmed since the newest version, by the webhooks; Label Studio has the truth."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from redis import Redis
from redis.exceptions import RedisError

from ml_backend.errors import RedisUnavailable


class Pending:
    """A project's annotations that no version has seen yet, in Redis.

    It lets the loop react at once. It may be incomplete or lost; `replace` corrects it from Label Studio.
    """

    def __init__(self, redis: Redis, project: int) -> None:
        self._redis = redis
        self._annotations = f"tsal:{project}:pending"
        self._changed = f"tsal:{project}:changed"
        self._news = f"tsal:{project}:news"
        self._reconciled = f"tsal:{project}:reconciled"
        self._accepted = f"tsal:{project}:accepted"

    def add(self, annotations: Mapping[int, int]) -> None:
        """Note annotations, as {annotation: task}, and that something new came now."""
        if annotations:
            self._redis.set(self._changed, time.time())
            self._redis.hset(self._annotations, mapping={str(a): str(t) for a, t in annotations.items()})

    def remove(self, annotations: list[int]) -> None:
        """Forget annotations that were deleted or turned into skips."""
        if annotations:
            self._redis.hdel(self._annotations, *(str(annotation) for annotation in annotations))

    def annotations(self) -> dict[int, int]:
        """The annotations that are noted, as {annotation: task}."""
        return {int(annotation): int(task) for annotation, task in self._redis.hgetall(self._annotations).items()}

    def known(self) -> set[int]:
        """The annotations that are noted."""
        return set(self.annotations())

    def replace(self, annotations: Mapping[int, int], known: set[int]) -> None:
        """Replace what was ``known`` before Label Studio was asked with its answer.

        What webhooks recorded during the answer is not part of it, and stays.
        """
        there = self.annotations()
        self.add({annotation: task for annotation, task in annotations.items() if there.get(annotation) != task})
        self.remove(sorted(known - annotations.keys()))

    def quiet(self) -> float:
        """Seconds since something new was noted; counted from now if that is not known or lies in the future."""
        now, changed = time.time(), float(self._redis.get(self._changed) or "inf")
        if changed > now:
            self._redis.set(self._changed, now)
        return max(now - changed, 0.0)

    def tasks(self) -> set[int]:
        """The frames with a pending annotation."""
        return set(self.annotations().values())

    def count(self) -> int:
        """How many frames have a pending annotation."""
        return len(self.tasks())

    def announce(self) -> None:
        """Tell the sidecar that something changed in the project."""
        self._redis.incr(self._news)

    def reconciled(self) -> int | None:
        """How many annotations Label Studio had when this was last corrected; None where that is not known."""
        count = self._redis.get(self._reconciled)
        return None if count is None else int(count)

    def note_reconciled(self, annotations: int) -> None:
        """Note how many annotations Label Studio had when this was corrected."""
        self._redis.set(self._reconciled, annotations)

    def accepted(self) -> int | None:
        """How many annotations were accepted unseen when this was last corrected; None if unknown."""
        count = self._redis.get(self._accepted)
        return None if count is None else int(count)

    def note_accepted(self, annotations: int) -> None:
        """Note how many annotations were accepted unseen and are kept apart."""
        self._redis.set(self._accepted, annotations)

    def news(self) -> int:
        """A number that changes with every `announce`."""
        return int(self._redis.get(self._news) or 0)


def connect(url: str | None, seconds: float = 5.0) -> Redis:
    """Connect to Redis and make sure that it answers within ``seconds``.

    Raises:
        RedisUnavailable: where it does not, or no address is known.
    """
    if url is None:
        raise RedisUnavailable(
            "no Redis is configured: set TSAL_REDIS_URL, or start everything with `tsal serve`, which brings one"
        )
    try:
        redis = Redis.from_url(url, socket_connect_timeout=seconds, socket_timeout=seconds)
        redis.ping()
    except (RedisError, ValueError, OSError) as error:
        raise RedisUnavailable(unanswered(url, error)) from None
    return redis


def unanswered(url: str | None, error: Exception) -> str:
    """Say where Redis does not answer, without its password, and what to change."""
    at = " at " + re.sub("//.*@", "//", url).split("?")[0] if url else ""
    return f"Redis does not answer{at} ({type(error).__name__}): start it, or correct TSAL_REDIS_URL"
