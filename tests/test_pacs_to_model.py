"""From a PACS to a training set and a model: Orthanc, Label Studio, and our commands as people run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO

from ml_backend.frames.frame import Frame
from ml_backend.ingest.places import place_of
from ml_backend.ingest.storage import picture_name
from ml_backend.launch import serve
from ml_backend.phantom.echoes import SYMPTOMS, Clip, patient
from ml_backend.setup.label_configuration import render
from tests.ingest.test_files import write_dicom
from tests.orthanc_server import OrthancServer, orthanc_server
from tests.stack import Stack, running_services
from tests.studio_server import StudioServer

__all__ = ["orthanc_server"]
pytestmark = pytest.mark.integration
K_MAX, FRAMES = 8, 6
SHOWN = ((1, 0, 0, 0), (0, 1, 0, 0), (0, 1, 1, 0), (0, 0, 0, 1), (1, 0, 0, 0), (0, 1, 0, 0))
"""What each patient's clip shows: A-line, B-line, pleural lesion, pleural effusion."""
Truth = dict[str, tuple[int, ...]]


@pytest.fixture
def stack(studio_server: StudioServer, tmp_path: Path) -> Iterator[Stack]:
    with running_services(studio_server, tmp_path, render(), k_max=K_MAX, hold_out=0.3, seed=1, audit=0) as made:
        yield made


def store_clips(server: OrthancServer, folder: Path) -> Truth:
    """Store a clip of each patient in the PACS. Return what is seen on each picture, by the name that it will have."""
    folder.mkdir()
    truth: Truth = {}
    for number, labels in enumerate(SHOWN):
        clip = Clip(patient(number), labels, number)
        frames = np.stack([clip.frame(place / 2, (160, 160)) for place in range(FRAMES)])
        truth |= {picture_name(Image.fromarray(frame)): labels for frame in frames}
        study = f"1.2.826.0.1.3680043.8.498.77310.{number}"
        path = write_dicom(
            folder / f"{number}.dcm",
            frames,
            StudyInstanceUID=study,
            SeriesInstanceUID=f"{study}.1",
            SOPInstanceUID=f"{study}.1.1",
            PatientID=f"MRN-77310-{number}",
            PatientName=f"DOE^JANE^{number}",
            StudyDate="20240229",
            Modality="US",
            FrameTime="500",
        )
        server.store(path)
    return truth


def tsal(stack: Stack, *arguments: str) -> str:
    """Run a command as a person does and return what it prints."""
    command = [sys.executable, "-m", "ml_backend", *arguments]
    environment = {**os.environ, **serve.environment(stack.services.settings)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, stack.story(done.stdout + done.stderr)
    return done.stdout


def learn_truth(stack: Stack, truth: Truth) -> dict[int, tuple[int, ...]]:
    """Tell the simulated team what each clip shows. Return it by task."""
    shown = {}
    for task in stack.services.studio.tasks(stack.project):
        place = place_of(task.data["image"])
        assert place is not None
        shown[task.id] = truth[Path(place).name]
        stack.truth[task.data["clip"]] = np.array(shown[task.id], np.uint8)
    return shown


def finish(stack: Stack) -> str:
    """Begin a finish, answer its audit first, and return what the command then says."""
    project = str(stack.project)
    tsal(stack, "finish", "--project", project, "--error", "0.4", "--confidence", "0.8")
    store = stack.services.finishes(stack.project)
    begun = store.open()
    assert begun is not None
    drawn = set(begun.drawn)
    while drawn:
        task = stack.wait_for("a frame of the audit", lambda: _one_of(stack, drawn))
        stack.confirm(task)
        drawn.remove(task["id"])
    stack.wait_for("the certificate", lambda: store.counted())
    return tsal(stack, "finish", "--project", project)


def _one_of(stack: Stack, tasks: set[int]) -> dict[str, Any] | None:
    task = stack.services.studio.next_task(stack.project)
    return task if task is not None and task["id"] in tasks else None


def certified_as_shown(stack: Stack, table: pd.DataFrame, shown: dict[int, tuple[int, ...]]) -> None:
    """People's labels are what they saw; the machine's are wrong at most as often as the certificate says."""
    told = dict(zip(table.index, table[[f"label_{name}" for name in SYMPTOMS]].itertuples(index=False), strict=True))
    people = table.index[table["source"] == "person"]
    assert len(people) < len(table) <= len(shown)
    assert all(tuple(told[task]) == shown[task] for task in people)
    (counted,) = stack.services.finishes(stack.project).counted()
    assert counted.outcome is not None
    assert sum(tuple(told[task]) != shown[task] for task in table.index) <= counted.outcome.at_most_wrong
    assert table.groupby("patient")["split"].nunique().max() == 1


def coco_says_the_same(folder: Path, table: pd.DataFrame) -> None:
    seen: dict[int, set[str]] = {}
    for path in sorted((folder / "coco").glob("*.json")):
        coco = COCO(path)
        names = {one["id"]: one["name"] for one in coco.loadCats(coco.getCatIds())}
        for image in coco.getImgIds():
            found = coco.loadAnns(coco.getAnnIds(imgIds=[image]))
            seen[image] = {names[one["category_id"]] for one in found}
    labels = table[[f"label_{name}" for name in SYMPTOMS]]
    assert seen == {
        task: {name for name, present in zip(SYMPTOMS, row, strict=True) if present}
        for task, row in zip(table.index, labels.itertuples(index=False), strict=True)
    }


def model_says_what_the_backend_says(stack: Stack, path: Path, folder: Path, table: pd.DataFrame) -> None:
    """Compare the model, alone and on the exported pictures, with the product's network on the project's frames."""
    session = onnxruntime.InferenceSession(path)
    assert json.loads(session.get_modelmeta().custom_metadata_map["labels"]) == list(SYMPTOMS)
    frames = np.stack([as_input(Image.open(folder / image)) for image in table["image"]])
    (alone,) = session.run(None, {"frames": frames})
    told: dict[int, NDArray[np.float32]] = {}
    tasks = [Frame(task.id, task.data["image"]) for task in stack.services.studio.tasks(stack.project)]
    for chunk in stack.services.predictor.activations(tasks, len(SYMPTOMS)):
        store = stack.services.versions(stack.project)
        found = stack.services.predictor.probabilities(chunk.activations, stack.newest(), store)
        told |= zip(chunk.tasks.tolist(), found, strict=True)
    # The product keeps activations in 8 bits a value.
    assert np.abs(alone - np.stack([told[task] for task in table.index])).max() < 0.01


def as_input(picture: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(picture.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR))


def everything_in(folder: Path) -> bytes:
    """The names and the content of all files below a folder."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return b"".join(str(path.relative_to(folder)).encode() + path.read_bytes() for path in files)


def test_from_the_pacs_to_a_certified_training_set_and_a_model(
    stack: Stack, orthanc_server: OrthancServer, tmp_path: Path
) -> None:
    truth = store_clips(orthanc_server, tmp_path / "dicom")
    root = stack.server.files
    options = ("--document-root", str(root), "--frames", str(root / "pacs"), "--every", "0", "--keep-duplicates")
    pacs = ("--dicomweb", orthanc_server.dicomweb, "--query", "PatientID=MRN-77310-*,Modality=US")
    project = ("--project", str(stack.project))
    tsal(stack, "import", *project, *options, *pacs)
    shown = learn_truth(stack, truth)
    assert len(shown) == len(SHOWN) * FRAMES
    tsal(stack, "connect", *project)

    stack.order(None)
    stack.confirm_next(K_MAX)
    version = stack.version(after=None)
    stack.order(version.version)
    assert "certificate 1: " in finish(stack)

    to = tmp_path / "certified"
    tsal(stack, "export", *project, "--to", str(to), "--only", "certified", "--format", "parquet,coco")
    table = pd.read_parquet(to / "labels.parquet").set_index("task")
    certified_as_shown(stack, table, shown)
    coco_says_the_same(to, table)

    tsal(stack, "model", *project, "--to", str(tmp_path / "model"))
    model_says_what_the_backend_says(stack, tmp_path / "model" / "model.onnx", to, table)
    tasks = [task.data for task in stack.services.studio.tasks(stack.project)]
    left = everything_in(to) + everything_in(tmp_path / "model") + json.dumps(tasks).encode()
    left += "".join(stack.log).encode()
    assert [name for name in (b"MRN-77310", b"DOE^JANE", b"20240229") if name in left] == []
