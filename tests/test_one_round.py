"""The study and the product are one method: same clips, answers and seed, same batches and ticks."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ml_backend.ingest.importer import Importer
from ml_backend.ingest.origins import Rule
from ml_backend.ingest.served import Folder
from ml_backend.launch.clips import read_clips
from ml_backend.loop import order as ordering
from ml_backend.loop.train import fine_tune
from ml_backend.msml import frames as msml_frames
from ml_backend.msml.build import build
from ml_backend.phantom.clips import generate
from ml_backend.services import Services
from ml_backend.settings import load
from ml_backend.setup.label_configuration import render
from ml_backend.store.versions import Manifest
from ml_backend.studio.configuration import Configuration
from ml_backend.studio.payloads import choices_result, default_of
from ml_backend.tsal import judgement
from ml_backend.tsal.likeness import Places
from ml_backend.tsal.round import Rows
from ml_backend.tsal.split import HELD_OUT, NEWEST_AUDIT
from ml_backend.tsal.ticks import VALIDATORS
from studies import dataset, simulation
from studies.dataset import ClipSet
from studies.simulation import Learner, Material, Way, simulate
from tests.studio_server import StudioServer
from tests.studio_stand_in import one_thread

__all__ = ["one_thread"]

# With seed 1 the first audit draws a frame of a held-out patient. With seed 2 it draws none, so that the newest audit
# frames judge the first version.
K_MAX, ROUNDS, AUDIT, HOLD_OUT = 8, 3, 0.25, 0.3
WAY = Way(epochs=1, minimum_steps=12, augmented=False, audit=AUDIT, hold_out=HOLD_OUT, largest_fall=0)
Batch = list[tuple[int, list[int] | None]]
"""The frames of a batch in the order asked, each with the combination that was ticked, None where nothing was."""


def silent(stage: str, done: int, total: int) -> None:
    return None


@pytest.fixture(params=[1, 2])
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def held_back(seed: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether versions may be held back; with seed 2 each one that can be compared is."""
    if seed == 2:
        monkeypatch.setattr(judgement.Comparison, "regression", lambda self, allowed: "it is worse")
    return seed == 2


@pytest.fixture
def services(seed: int, studio_server: StudioServer, tmp_path: Path) -> Services:
    return Services(
        load(
            label_studio_url=studio_server.url,
            label_studio_token=studio_server.token,
            document_root=studio_server.files,
            data_dir=tmp_path / "data",
            backbone="efficientnet_lite0",
            precision="float32",
            epochs=WAY.epochs,
            minimum_steps=WAY.minimum_steps,
            views=1,  # augmented views are seeded by the file in the product and by the pixels in the study
            k_max=K_MAX,
            seed=seed,
            strategy="adaptive",
            validator="adaptive",
            audit=AUDIT,
            hold_out=HOLD_OUT,
            largest_fall=WAY.largest_fall,
        )
    )


@pytest.fixture
def project(
    services: Services, studio_server: StudioServer, tmp_path: Path
) -> tuple[int, dict[str, NDArray[np.uint8]]]:
    """A project in Label Studio with phantom frames, and the true labels of its clips."""
    table = generate(tmp_path, 6, clips_per_patient=2, frames_per_clip=5, seed=3, size=(128, 128), frames_per_second=2)
    project = services.studio.create_project("One round", render())
    truth = read_clips(tmp_path / "clips", table).labels
    importer = Importer(
        services.studio,
        project,
        Folder(studio_server.files / "one-round", studio_server.files),
        data_dir=services.settings.data_dir,
        rule=Rule({clip: clip[:11] for clip in truth}),
        distance=0,
    )
    assert importer.run(sorted((tmp_path / "clips").glob("*.mp4"))).imported
    return project, truth


def the_loop(
    services: Services, project: int, truth: dict[str, NDArray[np.uint8]]
) -> tuple[list[Batch], list[Manifest]]:
    """Annotate through Label Studio what it serves, with the true labels, and fine-tune after every batch."""
    configuration = Configuration.parse(render())
    batches: list[Batch] = []
    versions: list[Manifest] = []
    for _ in range(ROUNDS):
        assert ordering.refresh(services, project, silent) is not None
        batch: Batch = []
        for _ in range(K_MAX):
            task = services.studio.next_task(project)
            assert task is not None
            (shown,) = task["predictions"]
            ticked = default_of(shown, configuration).labels
            batch.append((task["id"], None if ticked is None else ticked.tolist()))
            result = choices_result(truth[task["data"]["clip"]], configuration)
            services.studio.submit(task["id"], [result], parent_prediction=shown["id"])
        batches.append(batch)
        versions.append(fine_tune(services, project, silent))
    return batches, versions


def the_study(
    clips: ClipSet, tasks: list[int], seed: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[Batch], list[str]]:
    """Simulate the same loop on the same pixels, and note what it asks and ticks."""
    network = build("efficientnet_lite0", len(clips.symptoms), seed=seed)
    records = dataset.activations(clips, network, 1, folder, silent)
    material = Material(
        clips,
        records,
        Places(network.embed(dataset.restored(records[:, 0], network)), clips.clip_numbers, np.zeros(len(clips))),
        network,
        lambda seed: build("efficientnet_lite0", len(clips.symptoms), seed=seed).trainable_state(),
    )
    ticked: list[list[list[int]]] = []
    batches: list[Batch] = []
    outcomes: list[str] = []
    manual: Any = simulation._manual
    learn: Any = Learner.learn

    def noted(learner: Learner, probabilities: Any, truth: Any, validator: str, remembered: Any) -> Any:
        ticked.append(VALIDATORS[validator](probabilities, learner.tables).tolist())
        return manual(learner, probabilities, truth, validator, remembered)

    def learnt(self: Learner, labelled: Rows, batch: Rows, audited: Rows) -> str:
        nothing: list[Any] = [None] * len(batch)
        shown = ticked[0] if ticked else nothing  # the whole batch comes before its audit frames
        batches.append([(tasks[row], labels) for row, labels in zip(batch.tolist(), shown, strict=True)])
        ticked.clear()
        outcomes.append(learn(self, labelled, batch, audited))
        return outcomes[-1]

    monkeypatch.setattr(simulation, "_manual", noted)
    monkeypatch.setattr(Learner, "learn", learnt)
    simulate(material, np.arange(len(clips)), np.arange(len(clips)), "adaptive", K_MAX, ROUNDS, seed, WAY)
    return batches, outcomes


def test_the_study_and_label_studio_ask_tick_and_judge_the_same(
    seed: int,
    held_back: bool,
    services: Services,
    project: tuple[int, dict[str, NDArray[np.uint8]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    number, truth = project
    configuration = Configuration.parse(render())
    tasks = sorted(services.studio.tasks(number), key=lambda task: task.id)
    contents = [services.fetcher.fetch(str(task.data[configuration.image_key]), task.id) for task in tasks]
    clips = ClipSet(
        name="imported",
        folder=tmp_path,
        every=Fraction(1),
        symptoms=configuration.label_names,
        pixels=np.stack([msml_frames.decode(content) for content in contents]),
        labels=np.stack([truth[str(task.data["clip"])] for task in tasks]),
        patients=tuple(str(task.data["patient"]) for task in tasks),
        clips=tuple(str(task.data["clip"]) for task in tasks),
        times=(0.0,) * len(tasks),
        unreadable=(),
    )
    asked, versions = the_loop(services, number, truth)
    simulated, outcomes = the_study(clips, [task.id for task in tasks], seed, tmp_path, monkeypatch)
    assert asked == simulated
    assert [one.held_back != "" for one in versions] == [outcome == "held back" for outcome in outcomes]
    assert [one.held_back != "" for one in versions] == [False, held_back, held_back]
    assert {one.metrics["judged_on"] for one in versions} == {NEWEST_AUDIT if seed == 2 else HELD_OUT}
    assert len({task for batch in asked for task, _ in batch}) == ROUNDS * K_MAX
    assert all(labels is None for _, labels in asked[0])
    assert len({tuple(labels) for batch in asked[1:] for _, labels in batch if labels is not None}) > 1
    draws = services.audits(number).draws()
    assert [len(draw.tasks) for draw in draws] == [2, 2, 2]
    for batch, draw in zip(asked, draws, strict=True):
        assert set(draw.tasks) <= {task for task, _ in batch}
