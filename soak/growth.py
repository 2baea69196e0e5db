"""What an installation uses as a day goes on, and the bounds that it must not outgrow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ml_backend.loop.order import PILE

MEBIBYTE = 2**20
GROWTH = 1.1
"""How many times the first hour's memory a later hour may take, besides what frames explain."""
LEEWAY = 16 * MEBIBYTE  # a process's size varies by this much from one start to the next
FRAME_MEMORY = 16 * 1024
"""Bytes a frame may add to a process: 1 KiB of embedding, its row in the order, the grounds and the census, twice
while the next ones are read."""


@dataclass(frozen=True)
class Project:
    """What a project has come to so far, and what Label Studio keeps of it."""

    frames: int = 0
    answers: int = 0  # annotations that were made, deleted ones too
    versions: int = 0
    predictions: Mapping[str, int] = field(default_factory=dict)  # by order


@dataclass(frozen=True)
class Sample:
    """What was used at one moment.

    ``hour``: that of the day, from 0; ``memory``: resident bytes of each part, without the processes it starts for a
    piece of work; ``handles``: what each has open; ``files`` and ``size`` (bytes) of the data folder by kind.
    """

    hour: int
    seconds: float
    memory: Mapping[str, int]
    handles: Mapping[str, int]
    files: Mapping[str, int]
    size: Mapping[str, int]
    redis_keys: int
    projects: Mapping[int, Project]

    def total(self, of: Callable[[Project], int]) -> int:
        """A sum over the projects."""
        return sum(of(one) for one in self.projects.values())

    @property
    def frames(self) -> int:
        """Frames of all projects."""
        return self.total(lambda one: one.frames)

    @property
    def versions(self) -> int:
        """Versions of all projects."""
        return self.total(lambda one: one.versions)

    @property
    def answers(self) -> int:
        """Answers in all projects."""
        return self.total(lambda one: one.answers)


@dataclass(frozen=True)
class Limits:
    """What the bounds depend on besides the work: settings of the installation."""

    keep_pushed: int = 2
    cache_bytes: int = 10**9

    @property
    def orders(self) -> int:
        """Orders of a project that can be there at once: those kept, the pile, a finish's, and the next one."""
        return self.keep_pushed + PILE + 2


Bound = Callable[[Sample, Limits], int]
# Files that every project has: pointers, locks, the page's, the audit's, embeddings.
FIXED = 40
FILES: dict[str, Bound] = {
    # A version is a manifest and a tail. Versions stay until somebody removes them.
    "versions": lambda at, _: 2 * at.versions + 4 * len(at.projects),
    # Frames, their reasons, what they are, and the grounds: three files each.
    "orders": lambda at, limits: (3 * limits.orders + 1) * len(at.projects),
    # A draw of a finish, its record, page and notes, one finish a project and day.
    "finish": lambda at, _: 8 * len(at.projects),
    "embeddings": lambda at, _: 3 * len(at.projects),
    # Of one version; those of the next one come before they go.
    "probabilities": lambda at, _: 6 * len(at.projects),
    # The frame itself and two views of it, and what is being written.
    "features": lambda at, _: 3 * at.frames + 16,
    "redis": lambda _, __: 16,
    "temporary": lambda _, __: 50,
    "other": lambda at, _: FIXED * (1 + len(at.projects)),
}
SIZE: dict[str, Bound] = {
    # A tail of the smallest network takes under 4 MB, and a manifest 150 bytes for each answer.
    "versions": lambda at, _: at.versions * (4_000_000 + 200 * at.answers),
    # Half a kilobyte for a frame's place, address and ticks, and 1.5 for each answer that is remembered.
    "orders": lambda at, limits: (limits.orders * (1_000 * at.frames + 2_000 * at.answers)) + MEBIBYTE,
    # A finish leaves a page, and a record with a line for each frame of its sample.
    "finish": lambda at, _: 100_000 * len(at.projects),
    "embeddings": lambda at, _: 1_200 * at.frames + MEBIBYTE,
    "probabilities": lambda at, _: 2 * 100 * at.frames + MEBIBYTE,
    "features": lambda _, limits: limits.cache_bytes,
    # Redis rewrites its log once it has doubled.
    "redis": lambda at, _: 32 * MEBIBYTE + 8_192 * at.versions,
    "temporary": lambda _, __: 64 * MEBIBYTE,
    "other": lambda at, _: 4 * MEBIBYTE + 2_000 * (at.frames + at.answers),
}


def broken(samples: Sequence[Sample], limits: Limits) -> list[str]:
    """Say, in words, which bounds the samples of a day break; each by its worst sample."""
    return [
        *_worst("files", samples, limits, FILES, lambda at: at.files),
        *_worst("bytes", samples, limits, SIZE, lambda at: at.size),
        *_worst("keys", samples, limits, {"redis": keys_bound}, lambda at: {"redis": at.redis_keys}),
        *_predictions(samples, limits),
        *_later("bytes of memory", samples, lambda at: at.memory, LEEWAY, FRAME_MEMORY),
        *_later("open files", samples, lambda at: at.handles, 16, 0),
    ]


def keys_bound(at: Sample, _: Limits) -> int:
    """The keys of Redis: twelve a project, thirty of the queues and workers, and two for each job of the last day."""
    return 30 + 12 * len(at.projects) + 2 * at.versions


def hours(samples: Iterable[Sample]) -> dict[int, list[Sample]]:
    """Samples by hour."""
    found: dict[int, list[Sample]] = {}
    for one in samples:
        found.setdefault(one.hour, []).append(one)
    return found


def summary(samples: Sequence[Sample], limits: Limits) -> list[dict[str, Any]]:
    """Figures for each hour: the most that was used, and the bounds of the things that have one at its end."""
    return [
        {
            "hour": hour,
            "frames": of_hour[-1].frames,
            "answers": of_hour[-1].answers,
            "versions": of_hour[-1].versions,
            "memory_mib": {name: round(value / MEBIBYTE, 1) for name, value in _most(of_hour, _memory).items()},
            "handles": _most(of_hour, lambda at: at.handles),
            "files": _most(of_hour, lambda at: at.files),
            "files_bound": {name: bound(of_hour[-1], limits) for name, bound in FILES.items()},
            "bytes": _most(of_hour, lambda at: at.size),
            "bytes_bound": {name: bound(of_hour[-1], limits) for name, bound in SIZE.items()},
            "redis_keys": max(at.redis_keys for at in of_hour),
            "redis_keys_bound": keys_bound(of_hour[-1], limits),
            "predictions": max(at.total(lambda one: sum(one.predictions.values())) for at in of_hour),
            "predictions_bound": limits.orders * of_hour[-1].frames,
        }
        for hour, of_hour in sorted(hours(samples).items())
    ]


def _memory(at: Sample) -> Mapping[str, int]:
    return at.memory


def _most(samples: Iterable[Sample], of: Callable[[Sample], Mapping[str, int]]) -> dict[str, int]:
    """The most that each name had in any sample."""
    most: dict[str, int] = {}
    for at in samples:
        for name, value in of(at).items():
            most[name] = max(value, most.get(name, 0))
    return most


def _worst(
    what: str,
    samples: Sequence[Sample],
    limits: Limits,
    bounds: Mapping[str, Bound],
    of: Callable[[Sample], Mapping[str, int]],
) -> list[str]:
    found: dict[str, tuple[int, str]] = {}
    for at in samples:
        for name, value in of(at).items():
            bound = bounds[name](at, limits) if name in bounds else 0
            excess = value - bound
            if excess > 0 and excess > found.get(name, (0, ""))[0]:
                words = f"{name}: {value} {what} after {at.seconds:.0f} s; bound: {bound}"
                found[name] = (excess, words)
    return [words for _, words in found.values()]


def _predictions(samples: Sequence[Sample], limits: Limits) -> list[str]:
    found: dict[int, str] = {}
    for at in samples:
        for number, project in at.projects.items():
            count, orders = sum(project.predictions.values()), len(project.predictions)
            if count > limits.orders * project.frames or orders > limits.orders:
                found[number] = (
                    f"project {number}: {count} predictions of {orders} orders for {project.frames} frames after "
                    f"{at.seconds:.0f} s; bound: {limits.orders} orders"
                )
    return list(found.values())


def _later(
    what: str, samples: Sequence[Sample], of: Callable[[Sample], Mapping[str, int]], leeway: int, a_frame: int
) -> list[str]:
    """Say where an hour had more than the first, by more than the growth that is allowed."""
    of_hour = hours(samples)
    if not of_hour:
        return []
    first = of_hour[min(of_hour)]
    before, frames = _most(first, of), max(at.frames for at in first)
    found = []
    for hour, later in sorted(of_hour.items()):
        more = max(0, max(at.frames for at in later) - frames)
        for name, value in _most(later, of).items():
            bound = int(GROWTH * before.get(name, 0)) + leeway + a_frame * more
            if name in before and value > bound:
                found.append(f"{name}: {value} {what} in hour {hour}, {before[name]} in the first; bound: {bound}")
    return found
