"""Measure what an installation uses just now: the samples of `growth`."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from ml_backend.services import Services
from soak.growth import Project, Sample
from soak.postgresql import query
from soak.site import PROGRAMS, Site

KINDS = ("versions", "orders", "finish", "embeddings", "probabilities")
PREDICTIONS = "SELECT project_id, coalesce(model_version, ''), count(*) FROM prediction GROUP BY 1, 2"


def sample(sites: Sequence[Site], answers: Sequence[int], began: float, hour: float, temporary: Path) -> Sample:
    """Measure everything once; ``answers`` are those of each site so far, ``hour`` is its length in seconds.

    Raises BackendError, OSError or RedisError where a part does not answer just now.
    """
    site = sites[0]
    seconds = time.monotonic() - began
    files, size = files_of(site.settings.data_dir, temporary)
    predictions: dict[int, dict[str, int]] = {}
    for project, order, count in query(site.database, PREDICTIONS):
        predictions.setdefault(int(project), {})[order] = int(count)
    projects = {
        one.project: Project(
            one.services.studio.counts(one.project).tasks,
            done,
            len(one.services.versions(one.project).names()),
            predictions.get(one.project, {}),
        )
        for one, done in zip(sites, answers, strict=True)
    }
    memory, handles = _processes(site)
    keys = _keys(site.services)
    return Sample(int(seconds // hour), round(seconds, 1), memory, handles, files, size, keys, projects)


def _keys(services: Services) -> int:
    return int(services.redis.dbsize())


def _processes(site: Site) -> tuple[dict[str, int], dict[str, int]]:
    """Resident bytes and open files of each part that runs just now."""
    memory: dict[str, int] = {}
    handles: dict[str, int] = {}
    with suppress(psutil.Error):
        for child in psutil.Process(site.parts.serve.process.pid).children():
            with suppress(psutil.Error):
                line = " ".join(child.cmdline())
                for name, program in PROGRAMS.items():
                    if program in line:
                        # gunicorn's master has done nothing: what serves is its child. The worker's and the sidecar's
                        # children end with their work.
                        family = [child, *(child.children() if name == "backend" else [])]
                        memory[name] = sum(one.memory_info().rss for one in family)
                        handles[name] = sum(one.num_fds() for one in family)
    return memory, handles


def files_of(data: Path, temporary: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Number and bytes of files by kind."""
    files: Counter[str] = Counter()
    size: Counter[str] = Counter()
    for root, kind in ((data, None), (temporary, "temporary")):
        for folder, _, names in os.walk(root):
            inside = Path(folder).relative_to(root).parts
            of = kind or _kind(inside)
            for name in names:
                with suppress(FileNotFoundError):
                    size[of] += (Path(folder) / name).lstat().st_size
                    files[of] += 1
    return dict(files), dict(size)


def _kind(inside: tuple[str, ...]) -> str:
    if inside and inside[0] in ("features", "redis"):
        return inside[0]
    return inside[2] if len(inside) > 2 and inside[2] in KINDS else "other"
