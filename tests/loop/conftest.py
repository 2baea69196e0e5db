"""An installation to train on, shared by the tests of collecting, judging and training."""

from __future__ import annotations

from pathlib import Path

import pytest

from ml_backend.frames.predictor import Predictor
from ml_backend.services import Services
from tests.installation import settings_in
from tests.loop.installed import PATIENTS, TASKS, Installation, labels_of
from tests.studio_stand_in import StudioStandIn


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Predictor:
    return Services(settings_in(folder, views=2)).predictor


@pytest.fixture
def installed(folder: Path, tmp_path: Path, predictor: Predictor) -> Installation:
    """Twelve frames of four patients in Label Studio, nothing annotated yet."""
    studio = StudioStandIn()
    for task in TASKS:
        studio.add(folder, task, patient=PATIENTS[task])
    return Installation(folder, tmp_path / "data", studio, predictor)


@pytest.fixture
def confirmed(installed: Installation) -> Installation:
    """The same with everything annotated."""
    for task in TASKS:
        installed.studio.confirm(task, labels_of(task))
    return installed
