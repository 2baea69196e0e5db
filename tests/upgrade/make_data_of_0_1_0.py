# mypy: ignore-errors
# ruff: noqa: I001 - the order of imports depends on which release is there
"""Make the fixture `data_of_0_1_0` again, by running the code of release 0.1.0; its README says how.

This file is run inside a work tree of that release and uses nothing of the present one.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

from ml_backend import __version__, jobs, ordering, training
from ml_backend.services import Services
from safetensors import safe_open
from scripts.frame_origins import salt
from scripts.processes import Processes, embedded_redis
from scripts.serve import wait_for_redis
from tests.installation import COMBINATIONS, PROJECT, settings_in
from tests.studio_stand_in import StudioStandIn

BATCHES = (range(1, 7), range(7, 10), range(10, 12))
TASKS = range(1, 15)


def main(target: Path) -> None:
    """Write the data folder of an installation with two versions, orders, what is pending, and a Redis."""
    assert __version__ == "0.1.0", __version__
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        with Processes(lambda name, line: print(name, line)) as processes:
            command, url = embedded_redis(folder / "data" / "redis")
            processes.start("redis", command, {})
            wait_for_redis(url)
            _fill(folder, url)
        salt(folder / "data")
        _keep(folder / "data", target)


def _fill(folder: Path, url: str) -> None:
    services = Services(settings_in(folder, url, hold_out=0.3, k_max=100))
    studio = StudioStandIn()
    services.studio = studio  # type: ignore[assignment]
    for task in TASKS:
        studio.add(folder, task, patient=f"p{(task - 1) // 3 + 1}", clip=f"c{(task - 1) // 3 + 1}")
    ordering.refresh(services, PROJECT, _silent)
    versions = []
    for batch in BATCHES[:2]:
        for task in batch:
            studio.confirm(task, COMBINATIONS[task % len(COMBINATIONS)].tolist())
            jobs.record(services, PROJECT, "ANNOTATION_CREATED", {"annotation": {"id": task, "task": task}})
        versions.append(training.fine_tune(services, PROJECT, _silent, job="a job", trigger="webhook"))
        services.pending(PROJECT).replace({}, services.pending(PROJECT).known())
        ordering.refresh(services, PROJECT, _silent)
    # A person goes back, and forth again.
    store = services.versions(PROJECT)
    for version in (versions[0], versions[1]):
        store.activate(version.version, by="a person")
    for task in BATCHES[2]:
        jobs.record(services, PROJECT, "ANNOTATION_CREATED", {"annotation": {"id": task, "task": task}})
    services.pending(PROJECT).postpone(7)
    jobs.enqueue(services, PROJECT, "request", "training was asked for")


def _keep(data: Path, target: Path) -> None:
    """Copy the data folder without cache and weights; of the weights the names, types and shapes."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(data, target, ignore=shutil.ignore_patterns("features", "*.safetensors", "*.log", "*.lock", ".*"))
    for weights in data.rglob("*.safetensors"):
        with safe_open(weights, "np") as tensors:
            slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118 - it is no dictionary
            shapes = {name: one.get_shape() for name, one in slices.items()}
            assert {one.get_dtype() for one in slices.values()} == {"F32"}
            kept = {"metadata": tensors.metadata(), "shapes": shapes}
        (target / weights.relative_to(data)).with_suffix(".json").write_text(json.dumps(kept) + "\n")


def _silent(stage: str, done: int, total: int) -> None:
    return None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
