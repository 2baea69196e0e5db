"""Choose frames from a large pool: each strategy, the nearest row of the table, a diverse batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.report import Report
from benchmarks.timing import repeat
from ml_backend.tsal.acquisition import score
from ml_backend.tsal.batch import candidates, diverse
from ml_backend.tsal.correlation import build


def selection(report: Report, quick: bool, folder: Path) -> None:
    """Strategies and the nearest row of the table on 1,000,000 frames of 4 symptoms, a diverse batch of 100,000."""
    count = 50_000 if quick else 1_000_000
    rng = np.random.default_rng(0)
    probabilities = rng.random((count, 4), dtype=np.float32)
    table = build((rng.random((500, 4)) < 0.5).astype(np.uint8), rng.random((500, 4)))
    slowest = 0.0
    for strategy in ("mlm", "lc", "mle", "binmin"):
        seconds = repeat(lambda strategy=strategy: score(probabilities, strategy, rng).argsort(kind="stable"), 5)  # type: ignore[misc]
        slowest = max(slowest, report.row(f"{strategy}: order of {count:,}", "s", seconds))
    nearest = report.row(f"nearest table row of {count:,}", "s", repeat(lambda: table.nearest(probabilities), 3))
    pool, clips = probabilities[: count // 10], np.arange(count // 10) // 50

    def diverse_batch() -> None:
        scores = score(pool, "mlm-diverse", rng)
        rows = candidates(scores, 100)
        features = rng.random((len(rows), 2048), dtype=np.float32)  # the product reads those of the candidates only
        diverse(scores[rows], features, clips[rows], np.zeros(len(rows)), 100, rng)

    batch = report.row(f"mlm-diverse: 100 of {len(pool):,}", "s", repeat(diverse_batch, 3))
    report.bar("select 100 of 1,000,000 x 4, slowest strategy, seconds", slowest, 0.5, at_least=False)
    report.bar("nearest table row of 1,000,000 frames, seconds", nearest, 1.0, at_least=False)
    report.bar("diverse batch of 100 from 100,000 frames, seconds", batch, 20, at_least=False)
