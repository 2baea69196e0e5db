"""Measure cover and memory on large pools: made-up embeddings of clips with 60 frames each, mapped from disk."""

from __future__ import annotations

import json
import sys
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.own_process import in_own_process, peak_bytes
from benchmarks.report import Report
from ml_backend.tsal.cover import cover
from ml_backend.tsal.likeness import NO_TRUST, Likeness, Places, Scale, Similarity
from ml_backend.tsal.memory import TRUSTS, Nearest

WIDTH = 512  # of an embedding. Not imported: torch would be loaded, and count as memory of what is measured
CLIP = 60
KINDS = 50
BATCH = 100
COMBINATIONS = 9
_CLIPS_AT_ONCE = 100


def made_up(path: Path, count: int) -> Places:
    """Write ``count`` embeddings of 512 float16 numbers and map them."""
    rng = np.random.default_rng(0)
    kinds = 2 * rng.standard_normal((KINDS, WIDTH), np.float32)
    written = np.memmap(path, "<f2", "w+", shape=(count, WIDTH))
    for start in range(0, count, CLIP * _CLIPS_AT_ONCE):
        rows = written[start : start + CLIP * _CLIPS_AT_ONCE]
        clips = kinds[rng.integers(0, KINDS, _CLIPS_AT_ONCE)] + rng.standard_normal((_CLIPS_AT_ONCE, WIDTH), np.float32)
        noise = 0.3 * rng.standard_normal(rows.shape, np.float32)
        rows[:] = clips[np.arange(len(rows)) // CLIP] + noise
    written.flush()
    return mapped(path, count)


def mapped(path: Path, count: int) -> Places:
    """Map what `made_up` wrote."""
    every = np.arange(count)
    return Places(np.memmap(path, "<f2", "r", shape=(count, WIDTH)), every // CLIP, (every % CLIP) / 2.0)


def large_pool(report: Report, quick: bool, folder: Path) -> None:
    """Learn 100 answers and choose 100 of a million frames, 10,000 of them confirmed, in a process of its own."""
    count = 20_000 if quick else 1_000_000
    made_up(folder / "pool", count)
    found = json.loads(in_own_process("benchmarks.large_pools", count, folder))
    confirmed = f"{count // BATCH:,} confirmed"
    report.row(f"memory of {count:,} frames: {confirmed}, all at once", "s", [found["confirmed"]])
    learn = report.row(f"memory of {count:,} frames: 100 more than {confirmed}", "s", found["learn"])
    known = report.row(f"cover: 100 of {count:,}, {confirmed}", "s", found["known"])
    unknown = report.row(f"cover: 100 of {count:,}, nothing known", "s", found["unknown"])
    peak = report.row(f"peak memory, {count:,} frames", "GiB", [found["peak"] / 2**30], "with the mapped embeddings")
    report.bar(
        "cover: 100 of 1,000,000 frames, seconds, the slower of the two", max(known, unknown), 10, at_least=False
    )
    report.bar("memory of 10,000 confirmed learns 100 for 1,000,000 frames, seconds", learn, 10, at_least=False)
    report.bar("peak memory for 1,000,000 frames, GiB", peak, 1.5, at_least=False)


def against_core_set(report: Report, quick: bool, folder: Path) -> None:
    """Choose a batch by scikit-activeml's core-set, from directions in float32, and by ours, from the kept float16.

    Core-set makes the largest distance small, cover the mean distance: both figures are reported of both choices.
    """
    for count in (2000,) if quick else (10_000, 100_000):
        _against_core_set(report, made_up(folder / "vectors", count))


def _against_core_set(report: Report, pool: Places) -> None:
    from skactiveml.pool import CoreSet  # only here: the other parts run without it

    count, known = len(pool), np.zeros(1, np.intp)
    scale = Scale.of(pool.embeddings)
    directions = scale.units(pool.embeddings)
    answers = np.full(count, -1)
    answers[known] = 0

    def ours() -> NDArray[np.intp]:
        like = Likeness(pool[known], scale, NO_TRUST)
        similarity = np.concatenate([like(part).max(axis=1) for _, part in pool.chunks()])
        return cover(pool, similarity, np.arange(1, count), BATCH, scale, NO_TRUST, np.random.default_rng(0))

    def theirs() -> Any:
        return CoreSet(missing_label=-1, random_state=0).query(directions, answers, batch_size=BATCH)

    seconds, chosen = _timed(ours, 3)
    plain, core_set = _timed(theirs, 3 if count < 50_000 else 1)
    fast = report.row(f"cover: 100 of {count:,}, one known", "s", seconds)
    slow = report.row(f"core-set of scikit-activeml: 100 of {count:,}, one known", "s", plain)
    report.bar(f"100 of {count:,} frames, times faster than core-set", slow / fast, 10, at_least=True)
    means, largest = [], []
    for name, rows in (("cover", chosen), ("core-set", core_set)):
        away = distances(directions, np.concatenate([known, rows]))
        means.append(
            report.row(f"{name}: mean distance from {count:,} to the nearest chosen", "", [float(away.mean())])
        )
        largest.append(report.row(f"{name}: largest distance", "", [float(away.max())]))
    report.bar("mean distance to what cover has chosen, against core-set", means[0] / means[1], 1, at_least=False)
    report.bar("largest distance, against core-set", largest[0] / largest[1], 1, at_least=False)


def distances(directions: NDArray[np.float32], chosen: NDArray[np.intp]) -> NDArray[np.float32]:
    """The distance of each frame from the nearest chosen one, (n,)."""
    nearest = [
        (directions[start : start + 4096] @ directions[chosen].T).max(axis=1)
        for start in range(0, len(directions), 4096)
    ]
    found: NDArray[np.float32] = np.sqrt(np.maximum(np.float32(0), 2 - 2 * np.concatenate(nearest)))
    return found


def _timed(call: Callable[[], Any], times: int) -> tuple[list[float], Any]:
    """Seconds of each call, and what the last one returned."""
    found: list[Any] = []
    return timeit.repeat(lambda: found.append(call()), number=1, repeat=times), found[-1]


def main(count: int, folder: Path) -> None:
    """Time each step with ``count`` frames; print the seconds, and this process's peak memory in bytes, as JSON."""
    pool, every = mapped(folder / "pool", count), np.arange(count)
    rng = np.random.default_rng(1)
    scale, trust, found = Scale.of(pool.embeddings), TRUSTS[0], dict[str, Any]()
    confirmed = np.sort(rng.choice(count, count // BATCH, replace=False))
    nearest = Nearest(count)

    def learn(rows: NDArray[np.intp]) -> None:
        nearest.add(pool, pool[rows], rng.integers(0, COMBINATIONS, len(rows)), scale, trust)

    def choose(similarity: Similarity, open_: NDArray[np.intp]) -> None:
        cover(pool, similarity, open_, BATCH, scale, trust, np.random.default_rng(2))

    found["unknown"] = timeit.repeat(lambda: choose(np.full(count, -np.inf, np.float32), every), number=1, repeat=3)
    found["confirmed"] = timeit.timeit(lambda: learn(confirmed), number=1)
    new = np.setdiff1d(rng.choice(count, 10 * BATCH, replace=False), confirmed)
    some = iter(np.split(new[: 3 * BATCH], 3))
    found["learn"] = timeit.repeat(lambda: learn(next(some)), number=1, repeat=3)
    open_ = np.setdiff1d(every, np.concatenate([confirmed, new[: 3 * BATCH]]))
    found["known"] = timeit.repeat(lambda: choose(nearest.similarity, open_), number=1, repeat=3)
    found["peak"] = peak_bytes()
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
