"""Scoring a whole pool, by this process or in parts by any number of RQ workers that share the data folder.

A part is a run of whole pieces of `predictor.CHUNK` frames, so the network sees the same batches and the result is the
same however many parts there are. One process at a time scores a project.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rq import Worker
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.job import Job, JobStatus

from ml_backend.frames.activations import CHUNK
from ml_backend.frames.frame import Frame
from ml_backend.frames.scores import Scores, concatenate
from ml_backend.logs import event
from ml_backend.services import Services
from ml_backend.settings import load
from ml_backend.store.files import read_json, write_aside
from ml_backend.store.versions import Manifest

logger = logging.getLogger(__name__)
QUEUE = "tsal-scoring"
LOOK_SECONDS = 0.2
# How long a part's job may show no change. Workers that are gone or busy with a fine-tune take no part, and one that
# works tells of itself every 30 s; what waits longer than this is done here.
PATIENCE_SECONDS = {JobStatus.QUEUED: 15.0, JobStatus.STARTED: 150.0}
ARRAYS = ("tasks", "probabilities", "labels", "distances", "plain", "margins")
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Embeddings:
    """Pre-trained features: ``tasks`` (m,) int64, ``features`` (m, d) float32, ``unreadable`` {task: reason}."""

    tasks: NDArray[np.int64]
    features: NDArray[np.float32]
    unreadable: dict[int, str]


def score(services: Services, project: int, frames: Sequence[Frame], manifest: Manifest, report: Report) -> Scores:
    """What a version says of every frame, in the order of the frames."""
    if _workers(services) > 1 and len(frames) > CHUNK:
        parts = _in_parts(services, project, frames, manifest.version, len(manifest.label_names), report)
        return concatenate([_scores(part) for part in parts], len(manifest.label_names))
    return _score(services, project, frames, manifest, report)


def embed(services: Services, project: int, frames: Sequence[Frame], label_count: int, report: Report) -> Embeddings:
    """Pre-trained features of every frame, in the order of the frames."""
    if _workers(services) > 1 and len(frames) > CHUNK:
        parts = _in_parts(services, project, frames, None, label_count, report)
        return Embeddings(
            np.concatenate([part["tasks"] for part in parts]),
            np.concatenate([part["features"] for part in parts]),
            {task: reason for part in parts for task, reason in part["unreadable"].items()},
        )
    return _embed(services, frames, label_count, report)


def work_on_part(project: int, version: str | None, label_count: int, folder: str, part: int) -> None:
    """The RQ job: score one part and leave the result in the folder; running it twice does no harm."""
    services = Services(load())
    _write_part(services, project, version, label_count, services.settings.data_dir / folder, part)
    services.count()


def _score(services: Services, project: int, frames: Sequence[Frame], manifest: Manifest, report: Report) -> Scores:
    pieces: list[Scores] = []
    for piece in services.predictor.scores(frames, manifest, services.versions(project)):
        pieces.append(piece)
        report("scoring", min(len(pieces) * CHUNK, len(frames)), len(frames))
    return concatenate(pieces, len(manifest.label_names))


def _embed(services: Services, frames: Sequence[Frame], label_count: int, report: Report) -> Embeddings:
    network = services.predictor.network(label_count)
    tasks: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    rows: list[NDArray[np.float32]] = [np.zeros((0, network.activation_shape[0]), np.float32)]
    unreadable: dict[int, str] = {}
    for number, chunk in enumerate(services.predictor.activations(frames, label_count), start=1):
        unreadable.update(chunk.unreadable)
        tasks.append(chunk.tasks)
        rows.append(network.embed(chunk.activations))
        report("scoring", min(number * CHUNK, len(frames)), len(frames))
    return Embeddings(np.concatenate(tasks), np.concatenate(rows), unreadable)


def _in_parts(
    services: Services,
    project: int,
    frames: Sequence[Frame],
    version: str | None,
    label_count: int,
    report: Report,
) -> list[dict[str, Any]]:
    """Let the workers score; a part that fails there is done here."""
    pieces = range(0, len(frames), CHUNK)
    bounds = [int(piece[0]) for piece in np.array_split(np.array(pieces), _workers(services)) if len(piece)]
    ends = [*bounds[1:], len(frames)]
    parent = services.settings.data_dir / "scoring"
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(f"project-{project}-*"):  # by one that was killed: there is one at a time
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"project-{project}-", dir=parent))
    name = str(folder.relative_to(services.settings.data_dir))
    try:
        for part, (start, end) in enumerate(zip(bounds, ends, strict=True)):
            rows = [[frame.task, frame.url] for frame in frames[start:end]]
            write_aside(folder / f"{part}.frames", json.dumps({"frames": rows}))
        jobs = [
            services.queue(QUEUE).enqueue_call(
                work_on_part,
                args=(project, version, label_count, name, part),
                timeout=services.settings.job_timeout,
                result_ttl=60,
                failure_ttl=3600,
                description=f"part {part + 1} of {len(bounds)} of the scores of project {project}",
            )
            for part in range(len(bounds))
        ]
        for part, job in enumerate(jobs):
            _wait(services, job, _result_of(folder, part))
            if not _result_of(folder, part).exists():
                event(logger, "part scored here", level=logging.WARNING, project=project, part=part)
                _write_part(services, project, version, label_count, folder, part)
            report("scoring", ends[part], len(frames))
        return [_read_part(folder, part) for part in range(len(bounds))]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(services: Services, job: Job, result: Path) -> None:
    """Wait until a part is done, or will not be: its job failed, no worker takes it, or its worker is gone."""
    seen: tuple[JobStatus, datetime | None] | None = None
    since = time.monotonic()
    while not result.exists():
        try:
            job.refresh()
        except NoSuchJobError:  # over for longer than its answer is kept
            return
        state = (job.get_status(refresh=False), job.last_heartbeat)
        if state != seen:
            seen, since = state, time.monotonic()
        if state[0] not in PATIENCE_SECONDS:
            return
        nobody = state[0] == JobStatus.QUEUED and Worker.count(queue=services.queue(QUEUE)) == 0
        if nobody or time.monotonic() - since > PATIENCE_SECONDS[state[0]]:
            with suppress(InvalidJobOperation):
                job.cancel()
            return
        time.sleep(LOOK_SECONDS)


def _write_part(
    services: Services, project: int, version: str | None, label_count: int, folder: Path, part: int
) -> None:
    listed = read_json(folder / f"{part}.frames")
    if listed is None:  # whoever asked has given up
        return
    frames = [Frame(task, url) for task, url in listed["frames"]]
    if version is None:
        embeddings = _embed(services, frames, label_count, _silent)
        arrays: dict[str, NDArray[Any]] = {"tasks": embeddings.tasks, "features": embeddings.features}
        unreadable = embeddings.unreadable
    else:
        scores = _score(services, project, frames, services.versions(project).get(version), _silent)
        arrays = {array: getattr(scores, array) for array in ARRAYS}
        unreadable = scores.unreadable
    # Aside under a name of its own: a worker that was given up and whoever took its part over may write at once.
    descriptor, aside = tempfile.mkstemp(dir=folder)
    with os.fdopen(descriptor, "wb") as file:
        np.savez(file, unreadable=np.array(json.dumps(unreadable)), **arrays)  # type: ignore[arg-type]
    Path(aside).replace(_result_of(folder, part))


def _read_part(folder: Path, part: int) -> dict[str, Any]:
    with np.load(_result_of(folder, part), allow_pickle=False) as stored:
        arrays = dict(stored)
    unreadable = json.loads(str(arrays.pop("unreadable")))
    return {**arrays, "unreadable": {int(task): reason for task, reason in unreadable.items()}}


def _result_of(folder: Path, part: int) -> Path:
    return folder / f"{part}.npz"


def _scores(part: dict[str, Any]) -> Scores:
    return Scores(**{array: part[array] for array in ARRAYS}, unreadable=part["unreadable"])


def _workers(services: Services) -> int:
    wanted = services.settings.scoring_workers
    return min(wanted, Worker.count(queue=services.queue(QUEUE))) if wanted > 1 else 1


def _silent(stage: str, done: int, total: int) -> None:
    return None
