"""An installation for tests: settings in a folder of its own, frames that can be read, versions made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ml_backend.__main__ import main
from ml_backend.frames.frame import Frame
from ml_backend.launch.processes import free_port
from ml_backend.services import Services
from ml_backend.settings import Settings, load
from ml_backend.store.finishes import Finish
from ml_backend.store.versions import Manifest, TrainedOn
from ml_backend.studio.configuration import NOT_ASSESSABLE, OTHERWISE, Configuration
from ml_backend.tsal.correlation import build
from tests.studio_server import StudioServer

PROJECT = 7
XML = """<View><Image name="image" value="$image"/><Choices name="symptoms" toName="image" choice="multiple">
<Choice value="Healthy"/><Choice value="A-line"/><Choice value="B-line" alias="b"/></Choices></View>"""
CONFIGURATION = Configuration.parse(XML)
NO_ANSWER = {
    "from_name": OTHERWISE,
    "to_name": "image",
    "type": "choices",
    "value": {"choices": [NOT_ASSESSABLE]},
}
"""What an annotation holds that says that the frame cannot be judged."""
COMBINATIONS = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 1]], np.uint8)


def settings_in(folder: Path, redis_url: str | None = None, **changes: object) -> Settings:
    """Settings of a small installation whose frames lie in ``folder/files``."""
    values: dict[str, object] = {
        "label_studio_url": "http://127.0.0.1:1",
        "label_studio_token": "token-of-the-tests",
        "data_dir": folder / "data",
        "document_root": folder / "files",
        "redis_url": redis_url,
        "backbone": "efficientnet_lite0",
        "k_max": 4,
        "views": 1,
        "epochs": 1,
        "minimum_steps": 2,
        "rest_seconds": 0,
    }
    return load(**(values | changes))


def connected_settings(server: StudioServer, folder: Path, **changes: object) -> Settings:
    """Settings of an installation beside a real Label Studio, with a backend on a port of its own."""
    port = free_port()
    values: dict[str, object] = {
        "label_studio_url": server.url,
        "label_studio_token": server.token,
        "document_root": server.files,
        "backend_url": f"http://127.0.0.1:{port}",
        "port": port,
        "webhook_secret": "phantom",
        "basic_auth_user": "label-studio",
        "basic_auth_password": "frames",
        "data_dir": folder / "data",
        "backbone": "efficientnet_lite0",
        "rest_seconds": 0,
    }
    return load(**(values | changes))


def exit_code(*arguments: str) -> int:
    """What the command `tsal` ends with."""
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The single line with which a command says what is wrong."""
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def environment_of(settings: Settings) -> dict[str, str]:
    """The settings as a worker reads them."""
    values = settings.model_dump(mode="json", exclude_none=True, exclude={"allowed_hosts"})
    values["label_studio_token"] = settings.token()
    return {f"TSAL_{name.upper()}": str(value) for name, value in values.items()}


def task_with_frame(folder: Path, number: int, **data: object) -> dict[str, Any]:
    """A task as Label Studio sends it, with a frame of its own that can be read."""
    (folder / "files").mkdir(exist_ok=True)
    blocks = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(blocks.repeat(8, axis=0).repeat(8, axis=1)).save(folder / "files" / f"{number}.png")
    return {"id": number, "project": PROJECT, "data": {"image": f"/data/local-files/?d={number}.png", **data}}


def manifest_of(seen: int = 0, **changes: Any) -> Manifest:
    """A manifest of a version that has seen so many annotations, of as many tasks."""
    fields: dict[str, Any] = {
        "parent": None,
        "project": PROJECT,
        "created_at": "2026-01-01T00:00:00+00:00",
        "job": None,
        "backbone": "efficientnet_lite0",
        "weights": "ImageNet",
        "trunk_key": "",
        "label_names": CONFIGURATION.label_names,
        "trained_on": tuple(TrainedOn(annotation=n, task=n, updated_at="then") for n in range(1, seen + 1)),
        "held_out": (),
        "table": {},
        "metrics": {"exact_match": 0.5},
        "batch": {},
        "losses": (),
        "seconds": {},
        "settings": {},
        "seed": 0,
    }
    return Manifest(**(fields | changes))


def finish_of(drawn: tuple[int, ...], **changes: Any) -> Finish:
    """A finish whose audit is open."""
    fields: dict[str, Any] = {
        "number": 1,
        "order": "diversity.1",
        "version": None,
        "drawn_at": "then",
        "seed": 0,
        "epsilon": 0.1,
        "confidence": 0.9,
        "alpha": 0.1,
        "symptoms": CONFIGURATION.label_names,
        "pool": 12,
        "people": 10,
        "remembered": {},
        "drawn": drawn,
        "expected_answers": 2.0,
    }
    return Finish(**(fields | changes))


def write_no_weights(path: Path) -> None:
    """Write a whole safetensors file with nothing in it, where a test needs no network."""
    path.write_bytes((2).to_bytes(8, "little") + b"{}")


def make_version(services: Services, tasks: list[dict[str, Any]], seed: int, **changes: Any) -> Manifest:
    """Store a version of the real network with a tail of its own, and a table made of the tasks' frames."""
    network = services.predictor.fresh(len(COMBINATIONS[0]))
    rng = np.random.default_rng(seed)
    state = network.trainable_state()
    network.load_trainable_state(
        {name: value + 0.05 * rng.standard_normal(value.shape).astype(np.float32) for name, value in state.items()}
    )
    frames = [Frame(task["id"], task["data"]["image"]) for task in tasks]
    chunks = services.predictor.activations(frames, len(COMBINATIONS[0]))
    probabilities = np.concatenate([network.probabilities(chunk.activations) for chunk in chunks])
    labels = COMBINATIONS[np.arange(len(tasks)) % len(COMBINATIONS)]
    manifest = manifest_of(table=build(labels, probabilities).to_json(), trunk_key=network.trunk_key, **changes)
    return services.versions(PROJECT).create(manifest, lambda path: network.save_tail(path, {}))
