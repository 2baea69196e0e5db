"""From DICOM files over a real Label Studio to a certified export: labels as they were given, and nobody named."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
import pytest

from ml_backend.export.gather import gather
from ml_backend.ingest.importer import Importer
from ml_backend.ingest.salt import salt
from ml_backend.loop import finish as finishing
from ml_backend.loop import order as ordering
from ml_backend.services import Services
from ml_backend.studio.payloads import choices_result
from ml_backend.tsal.split import held_out
from tests.commands.test_import_frames import IDENTITY, write_identified
from tests.export.projects import content
from tests.installation import CONFIGURATION, XML, connected_settings, exit_code
from tests.loop.test_order import silent
from tests.loop.test_remember import Noted
from tests.studio_server import StudioServer
from tests.studio_stand_in import one_thread

__all__ = ["one_thread"]
PATIENTS, FRAMES = 6, 4
TRUTH = ([1, 0, 0], [0, 1, 0], [0, 1, 1])


@pytest.fixture
def services(studio_server: StudioServer, tmp_path: Path) -> Services:
    made = Services(connected_settings(studio_server, tmp_path, hold_out=0.3, seed=1, audit=0))
    made.pending = lambda project: Noted()  # type: ignore[method-assign, assignment, return-value]
    return made


@pytest.fixture
def project(services: Services, tmp_path: Path) -> int:
    """DICOM files of patients who are named wherever a header can name them, imported."""
    number = services.studio.create_project("Export", XML)
    for patient in range(PATIENTS):
        seeds = range(patient * FRAMES, (patient + 1) * FRAMES)
        path = tmp_path / "clips" / f"{patient} DOE^JANE" / "PAT-4711.dcm"
        write_identified(path, seeds, PatientID=f"PAT-4711-{patient}", PatientName=f"DOE^JANE^{patient}")
    root = services.settings.document_root
    assert root is not None
    importer = Importer(
        services.studio,
        number,
        frames=root / f"export-{number}",
        document_root=root,
        data_dir=services.settings.data_dir,
        every=Fraction(0),
        distance=-1,
    )
    assert importer.run([tmp_path / "clips"]).imported == PATIENTS * FRAMES
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


def test_from_dicom_files_to_certified_labels(
    services: Services, project: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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

    uids = [str(pydicom.dcmread(path).SOPInstanceUID) for path in (tmp_path / "clips").rglob("*.dcm")]
    named = [*IDENTITY, *uids, *(str(one["patient"]) for one in data.values()), salt(services.settings.data_dir).hex()]
    for folder in (to, tmp_path / "all"):
        told_of = "".join(name + text.decode("latin-1") for name, text in content(folder).items()).casefold()
        assert [one for one in named if one.casefold() in told_of] == []
