"""From DICOM over a real Label Studio to a certified export: labels as they were given, and nobody named."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ml_backend.export.gather import gather
from ml_backend.ingest.importer import Importer
from ml_backend.ingest.pacs.pull import carry_out_pull, plan_pull
from ml_backend.ingest.pacs.server import Pacs
from ml_backend.ingest.salt import salt
from ml_backend.ingest.served import Folder
from ml_backend.loop import finish as finishing
from ml_backend.loop import order as ordering
from ml_backend.services import Services
from ml_backend.studio.payloads import choices_result
from ml_backend.tsal.split import held_out
from tests.ingest.named import NAMES, everything_below, found_in, names_in, write_named
from tests.installation import CONFIGURATION, XML, connected_settings, exit_code
from tests.loop.test_order import silent
from tests.loop.test_remember import Noted
from tests.orthanc_server import OrthancServer
from tests.studio_server import StudioServer
from tests.studio_stand_in import one_thread

__all__ = ["one_thread"]
PATIENTS, FRAMES = 6, 4
STUDY = "1.2.826.0.1.3680043.8.498.6612"
TRUTH = ([1, 0, 0], [0, 1, 0], [0, 1, 1])


@pytest.fixture
def services(studio_server: StudioServer, tmp_path: Path) -> Services:
    made = Services(connected_settings(studio_server, tmp_path, hold_out=0.3, seed=1, audit=0))
    made.pending = lambda project: Noted()  # type: ignore[method-assign, assignment, return-value]
    return made


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    """DICOM files of patients who are named wherever a header can name them."""
    made = []
    for patient in range(PATIENTS):
        seeds = range(patient * FRAMES, (patient + 1) * FRAMES)
        path = tmp_path / "clips" / f"{patient} Quintessa" / f"Zephyrine {patient}.dcm"
        named = {"PatientID": f"{NAMES['PatientID']}-{patient}", "PatientName": f"{NAMES['PatientName']}^{patient}"}
        made.append(write_named(path, f"{STUDY}.{patient}", seeds, **named))
    return made


@pytest.fixture(params=["files", "PACS"])
def project(services: Services, clips: list[Path], request: pytest.FixtureRequest) -> int:
    """A project with what the clips show, imported as files or from a PACS."""
    number = services.studio.create_project("Export", XML)
    root = services.settings.document_root
    assert root is not None
    importer = Importer(
        services.studio,
        number,
        Folder(root / f"export-{number}", root),
        data_dir=services.settings.data_dir,
        every=Fraction(0),
        distance=-1,
    )
    if request.param == "files":
        report = importer.run([clips[0].parents[1]])
    else:
        server: OrthancServer = request.getfixturevalue("orthanc_server")
        server.store(*clips)
        pacs = Pacs(server.dicomweb, services.settings)
        report = carry_out_pull(importer, pacs, plan_pull(importer, pacs, [], [f"PatientID={NAMES['PatientID']}*"]))
    assert report.imported == PATIENTS * FRAMES
    services.folder(number).mkdir(parents=True)
    return number


def submit(services: Services, task: int, labels: list[int]) -> None:
    services.studio.submit(task, [choices_result(np.array(labels, np.uint8), CONFIGURATION)], lead_time=2.0)


def accept_unseen(services: Services, project: int, task: int) -> None:
    """What "Create Annotations From Predictions" does in the Data Manager."""
    services.studio._calls.request(
        "POST",
        "api/dm/actions/",
        params={"id": "predictions_to_annotations", "project": project},
        json={
            "selectedItems": {"all": False, "included": [task]},
            "model_version": services.studio.project(project).model_version,
        },
    )


def tsal(services: Services, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("ml_backend.services.Services", lambda settings: services)
    assert exit_code("export", *arguments) == 0


def test_from_dicom_to_certified_labels(
    services: Services,
    project: int,
    clips: list[Path],
    studio_server: StudioServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = {task.id: task.data for task in services.studio.tasks(project)}
    truth = {task: TRUTH[place // FRAMES % len(TRUTH)] for place, task in enumerate(data)}
    for task in list(data)[::FRAMES]:
        submit(services, task, truth[task])
    ordering.refresh(services, project, silent)
    unseen = list(data)[1]
    accept_unseen(services, project, unseen)
    finish = finishing.begin(services, project, finishing.offer(services, project, 0.4, 0.8, None, silent))
    for task in finish.drawn:
        submit(services, task, truth[task])
    done = finishing.advance(services, project)
    assert done is not None
    assert done.outcome is not None
    assert done.outcome.by_machine > 0

    to = tmp_path / "certified"
    formats = ("--format", "csv,parquet,coco,imagefolder")
    tsal(services, monkeypatch, "--to", str(to), "--only", "certified", *formats)
    table = pd.read_parquet(to / "labels.parquet").set_index("task")
    assert set(table.index) == set(done.remembered) | set(done.drawn) | {
        int(task) for task in services.finishes(project).rows(done).tasks[services.finishes(project).rows(done).kept]
    }
    told = {task: [table[f"label_{name}"][task] for name in CONFIGURATION.label_names] for task in table.index}
    people = table.index[table["source"] == "person"]
    assert set(people) == set(done.remembered) | set(done.drawn)
    assert all(told[task] == truth[task] for task in people)
    assert sum(told[task] != truth[task] for task in table.index) <= done.outcome.at_most_wrong
    assert table["time"].to_dict() == {task: pytest.approx(data[task]["time"]) for task in table.index}
    held = held_out([str(data[task]["patient"]) for task in table.index], 0.3, 1)
    assert (table["split"] == "test").tolist() == held.tolist()
    assert table.groupby("patient")["split"].nunique().max() == 1

    tsal(services, monkeypatch, "--to", str(tmp_path / "all"), "--only", "all")
    row: Any = pd.read_csv(tmp_path / "all" / "labels.csv").set_index("task").loc[unseen]
    assert (row["source"], row["method"]) == ("accepted unseen", "memory")
    assert 0 < row["confidence"] < 1
    assert gather(services, project).material.labels[unseen].user is not None

    names = names_in(*clips) | {salt(services.settings.data_dir).hex()}
    pseudonyms = {str(one["patient"]) for one in data.values()}
    for folder in (to, tmp_path / "all"):
        assert found_in(everything_below(folder), names | pseudonyms) == set()
    asked = studio_server.log.read_text(errors="replace")
    assert found_in(everything_below(services.settings.data_dir) + asked + str(data), names) == set()
