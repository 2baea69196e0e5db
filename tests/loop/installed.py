"""One project of twelve frames of four patients, to train on again and again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from ml_backend.frames.frame import Frame
from ml_backend.frames.predictor import Predictor
from ml_backend.loop import train as training
from ml_backend.msml.network import Network
from ml_backend.services import Services
from ml_backend.store.audits import Draw
from ml_backend.store.versions import Manifest
from tests.installation import COMBINATIONS, PROJECT, settings_in
from tests.studio_stand_in import StudioStandIn

# With seed 0 and a share of 0.3 the patient p2 is held out.
TASKS = range(1, 13)
PATIENTS = {task: f"p{(task - 1) // 3 + 1}" for task in TASKS}
HELD = {task for task, patient in PATIENTS.items() if patient == "p2"}
SHARE = 0.3


@dataclass
class Installation:
    """One project on its own data folder; the network and its cache are shared."""

    folder: Path
    data: Path
    studio: StudioStandIn
    predictor: Predictor

    def services(self, **changes: object) -> Services:
        values: dict[str, Any] = {
            "data_dir": self.data,
            "strategy": "adaptive",
            "validator": "adaptive",
            "hold_out": SHARE,
            "minimum_steps": 4,
            "views": 2,
        } | changes
        services = Services(settings_in(self.folder, **values))
        services.studio = self.studio  # type: ignore[assignment]
        services.predictor = self.predictor
        return services

    def trained(self, **changes: object) -> Manifest:
        return training.fine_tune(self.services(**changes), PROJECT, silent)

    def audit(self, *tasks: int) -> None:
        """Record that an audit drew these tasks."""
        draw = Draw(order="a test", version=None, newest=None, drawn_at="then", seed=0, pool=len(TASKS), tasks=tasks)
        self.services().audits(PROJECT).add(draw)

    def tail(self, manifest: Manifest) -> dict[str, NDArray[np.float32]]:
        return safetensors.numpy.load_file(self.services().versions(PROJECT).tail(manifest.version))

    def digest(self, manifest: Manifest) -> str:
        return hashlib.sha256(self.services().versions(PROJECT).tail(manifest.version).read_bytes()).hexdigest()

    def network(self, manifest: Manifest | None) -> Network:
        network = self.predictor.fresh(len(manifest.label_names) if manifest else len(COMBINATIONS[0]))
        if manifest is not None:
            network.load_tail(self.services().versions(PROJECT).tail(manifest.version))
        return network

    def probabilities(self, manifest: Manifest, tasks: Sequence[int]) -> NDArray[np.float32]:
        frames = [Frame(task, str(self.studio.task_data[task]["image"])) for task in tasks]
        (chunk,) = self.predictor.activations(frames, len(COMBINATIONS[0]))
        return self.network(manifest).probabilities(chunk.activations)


def silent(stage: str, done: int, total: int) -> None:
    return None


def labels_of(task: int) -> list[int]:
    return [int(label) for label in COMBINATIONS[task % len(COMBINATIONS)]]


def tasks_of(seen: Sequence[Any]) -> set[int]:
    return {one.task for one in seen}
