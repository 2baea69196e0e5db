"""Score pools: memory of the scorer, and the first pass by several workers."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from rq import Worker

from benchmarks import workload
from benchmarks.own_process import in_own_process
from benchmarks.report import Report
from ml_backend.frames.frame import Frame
from ml_backend.launch import serve
from ml_backend.launch.label_studio import wait_until
from ml_backend.launch.processes import Processes, embedded_redis, tsal
from ml_backend.loop import score as scoring
from ml_backend.services import Services
from ml_backend.settings import load

WAIT_SECONDS = 120.0


def memory(report: Report, quick: bool, folder: Path) -> None:
    """Anonymous memory of a scorer for small and large pools, each in a process of its own."""
    small, large = (50, 100) if quick else (1000, 50_000)
    peaks = {}
    for count in (small, large):
        output = in_own_process("benchmarks.scorer_memory", count, folder)
        peaks[count] = report.row(f"anonymous memory scoring {count:,} frames", "MiB", [float(output) / 2**20])
    report.bar(
        "anonymous memory of the scorer, 1,000 against 50,000 frames, MiB apart",
        abs(peaks[large] - peaks[small]),
        100,
        at_least=False,
    )


def workers(report: Report, quick: bool, folder: Path) -> None:
    """The first pass of a pool by one and by two RQ workers of one thread each; the results must be the same."""
    count = 16 if quick else 1536
    contents = workload.pictures(16, 1)
    root = folder / "files"
    root.mkdir()
    for number in range(count):
        content = workload.own_content(contents[number % len(contents)], number.to_bytes(4, "big"))
        (root / f"{number}.jpg").write_bytes(content)
    results = {}
    for number in (1, 2):
        data = folder / f"data{number}"
        command, url = embedded_redis(folder / f"redis{number}")
        common = {
            "label_studio_token": "0" * 40,
            "document_root": root,
            "backbone": "resnet50",
            "weights": "random",
            "compute_threads": 1,
        }
        settings = load(**common, data_dir=data, redis_url=url, scoring_workers=number)
        with Processes(lambda name, line: None) as processes:
            processes.start("redis", command, {})
            serve.wait_for_redis(url)
            helpers = number if number > 1 else 0
            for place in range(helpers):
                processes.start(f"worker{place}", tsal("worker"), serve.environment(settings))
            services = Services(settings)
            network = services.predictor.network(4)
            manifest = workload.version(services.versions(1), network, settings)
            queue = services.queue(scoring.QUEUE)
            wait_until(
                lambda: Worker.count(queue=queue) >= helpers,  # noqa: B023  it is waited for here
                WAIT_SECONDS,
                "the workers do not run",
                processes,
            )
            pool = [Frame(place, f"/data/local-files/?d={place}.jpg") for place in range(count)]
            started = time.perf_counter()
            results[number], _ = scoring.score(services, 1, pool, manifest, lambda *_: None)
            report.row(f"first pass of {count} frames, {number} worker(s)", "s", [time.perf_counter() - started])
    difference = float(np.abs(results[1].probabilities - results[2].probabilities).max())
    report.row("largest difference of a probability between 1 and 2 workers", "", [difference])
