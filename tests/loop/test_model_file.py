"""Exporting a version: the files in the folder, what the check compares, and what a failure leaves: nothing."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml_backend.errors import ExportFailed, FrameUnreadable, InvalidRequest, NotWritten, StudioUnavailable
from ml_backend.frames.predictor import Predictor
from ml_backend.loop import model_file
from ml_backend.loop.model_card import CARD, Check
from ml_backend.loop.model_file import TOLERANCE, make
from ml_backend.msml import exported
from ml_backend.msml.exported import FILE_OF, Format, Images, Run
from ml_backend.msml.frames import decode
from ml_backend.services import Services
from ml_backend.store.versions import Manifest
from tests.installation import PROJECT, exit_code, one_line
from tests.loop.installed import HELD, PATIENTS, TASKS, Installation, labels_of, silent
from tests.studio_stand_in import StudioStandIn, one_thread

__all__ = ["one_thread"]
MODEL = FILE_OF["torch-export"]


@dataclass
class Given:
    """A version that was given away once, and what came of it."""

    installation: Installation
    manifest: Manifest
    to: Path
    check: Check

    def make(self, to: Path, **changes: Any) -> Check:
        """Give the version away again."""
        return make(self.installation.services(**changes), PROJECT, self.manifest, to, "torch-export", silent)

    @property
    def images(self) -> Images:
        """The frames of all tasks as the network sees them."""
        return np.stack([decode((self.installation.folder / "files" / f"{task}.png").read_bytes()) for task in TASKS])


@pytest.fixture(scope="module")
def first(folder: Path, predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Given:
    studio = StudioStandIn()
    for task in TASKS:
        studio.add(folder, task, patient=PATIENTS[task], clip=f"clip of {PATIENTS[task]}")
        studio.confirm(task, labels_of(task))
    here = tmp_path_factory.mktemp("given")
    installation = Installation(folder, here / "data", studio, predictor)
    manifest, to = installation.trained(), here / "model"
    check = make(installation.services(), PROJECT, manifest, to, "torch-export", silent)
    return Given(installation, manifest, to, check)


@pytest.fixture
def given(first: Given) -> Iterator[Given]:
    """The same, whatever a test does to its tasks."""
    tasks = dict(first.installation.studio.task_data)
    yield first
    first.installation.studio.task_data = tasks


@pytest.fixture
def quick(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the exporter, which takes seconds, write the file that it wrote already."""

    def write(whole: object, path: Path, kind: Format, labels: object) -> None:
        shutil.copy(given.to / MODEL, path)

    monkeypatch.setattr(exported, "write", write)


def wrong_by(amount: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the file say something else than it does."""
    opened = exported.opened

    def other(path: Path, kind: Format) -> Run:
        run = opened(path, kind)
        return lambda images: run(images) + np.float32(amount)

    monkeypatch.setattr(exported, "opened", other)


def content(folder: Path) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in folder.iterdir()}


def test_the_file_is_the_whole_network_of_the_version(given: Given) -> None:
    assert {one.name for one in given.to.iterdir()} == {MODEL, CARD}
    ours = exported.opened(given.to / MODEL, "torch-export")(given.images)
    network = given.installation.network(given.manifest)
    exact = network.probabilities(network.activations(given.images))
    np.testing.assert_allclose(ours, exact, atol=1e-3)  # these activations are rounded to float16
    fresh = given.installation.network(None)
    assert np.abs(ours - fresh.probabilities(fresh.activations(given.images))).max() > 0.01


def test_the_check_tells_the_network_from_what_is_served(given: Given) -> None:
    check = given.check
    assert (check.frames, check.unreadable, check.labels) == (len(TASKS), 0, 3 * len(TASKS))
    ours = exported.opened(given.to / MODEL, "torch-export")(given.images)
    apart = np.abs(ours - given.installation.probabilities(given.manifest, list(TASKS)))
    assert check.largest <= 1e-6
    assert check.served == pytest.approx(apart.max(), abs=1e-6)
    assert check.served_mean == pytest.approx(apart.mean(), abs=1e-6)
    assert check.served > check.largest


def test_the_card_counts_frames_patients_and_clips(given: Given) -> None:
    card = (given.to / CARD).read_text(encoding="utf-8")
    assert f"| trained on | {len(TASKS) - len(HELD)} | 3 |" in card
    assert f"| never trained on | {len(HELD)} | 1 |" in card
    assert "from 4 clips" in card
    found = given.manifest.figure("exact_match")
    assert found is not None
    assert (
        f"| every label right | {found.value:.3f} ({found.low:.3f} to {found.high:.3f}; 3 frames, 1 patient) |" in card
    )


def test_frames_that_left_the_project_are_told(given: Given, quick: None, tmp_path: Path) -> None:
    for task in HELD:
        del given.installation.studio.task_data[task]
    given.make(tmp_path / "model")
    card = (tmp_path / "model" / CARD).read_text(encoding="utf-8")
    assert f"| never trained on | {len(HELD)} | 0 |" in card
    assert f"{len(HELD)} of the frames are no longer in the project" in card


def test_running_again_replaces_the_folder_whole_with_the_same_bytes(given: Given, tmp_path: Path) -> None:
    to = tmp_path / "model"
    to.mkdir()
    (to / FILE_OF["onnx"]).write_bytes(b"of an earlier run")
    (to / CARD).write_bytes(b"of an earlier run")
    given.make(to)
    assert content(to) == content(given.to)
    assert [*tmp_path.iterdir()] == [to]


def test_label_studio_is_asked_before_the_long_work(
    given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(project: int) -> None:
        raise StudioUnavailable("gone")

    monkeypatch.setattr(given.installation.studio, "confirmed_annotations", away)
    monkeypatch.setattr(exported, "write", None)
    with pytest.raises(StudioUnavailable):
        given.make(tmp_path / "model")


@pytest.mark.usefixtures("quick")
class TestNothingIsLeft:
    """Of a model that failed; an earlier one stays as it was."""

    @pytest.fixture(params=["new", "earlier"])
    def to(self, request: pytest.FixtureRequest, given: Given, tmp_path: Path) -> Path:
        if request.param == "earlier":
            shutil.copytree(given.to, tmp_path / "model")
        return tmp_path / "model"

    def left(self, to: Path, given: Given) -> bool:
        """Whether anything is there that was not there before."""
        return [*to.parent.iterdir()] != ([to] if to.exists() else []) or (
            to.exists() and content(to) != content(given.to)
        )

    @pytest.mark.parametrize("amount", [2 * TOLERANCE, -2 * TOLERANCE, np.nan])
    def test_where_the_file_says_something_else(
        self, given: Given, to: Path, amount: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wrong_by(amount, monkeypatch)
        with pytest.raises(ExportFailed):
            given.make(to)
        assert not self.left(to, given)

    def test_where_the_disk_is_full(self, given: Given, to: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def write(whole: object, path: Path, kind: Format, labels: object) -> None:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(exported, "write", write)
        with pytest.raises(NotWritten):
            given.make(to)
        assert not self.left(to, given)

    def test_where_no_frame_can_be_read(self, given: Given, to: Path) -> None:
        given.installation.studio.task_data = {task: {"image": "/data/local-files/?d=gone.png"} for task in TASKS}
        with pytest.raises(FrameUnreadable):
            given.make(to)
        assert not self.left(to, given)


def test_a_difference_within_the_tolerance_is_told_and_passes(
    given: Given, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong_by(TOLERANCE / 2, monkeypatch)
    assert given.make(tmp_path / "model").largest == pytest.approx(TOLERANCE / 2, rel=0.01)


def test_a_frame_that_cannot_be_read_costs_only_itself(given: Given, quick: None, tmp_path: Path) -> None:
    given.installation.studio.task_data[5] = {"image": "/data/local-files/?d=gone.png"}
    check = given.make(tmp_path / "model")
    assert (check.frames, check.unreadable) == (len(TASKS) - 1, 1)


def test_so_many_frames_are_drawn_and_always_the_same(
    given: Given, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_file, "FRAMES", 5)
    checks = [given.make(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    assert [one.frames for one in checks] == [5, 5, 5]
    assert checks[0] == checks[1] != checks[2]


@pytest.mark.parametrize("stranger", ["thesis.tex", "model"])
def test_what_somebody_else_has_there_is_refused_and_stays(
    given: Given, tmp_path: Path, stranger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exported, "write", None)  # it comes to no work
    (tmp_path / stranger).write_text("mine")
    with pytest.raises(InvalidRequest):
        given.make(tmp_path / stranger if stranger == "model" else tmp_path)
    assert content(tmp_path) == {stranger: b"mine"}


@pytest.fixture
def command(given: Given, monkeypatch: pytest.MonkeyPatch) -> Services:
    made = given.installation.services()
    monkeypatch.setattr("ml_backend.services.Services", lambda settings: made)
    return made


@pytest.mark.usefixtures("command")
def test_the_command_writes_the_active_version_as_onnx(
    given: Given, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("model", "--to", str(tmp_path / "model")) == 0
    captured = capsys.readouterr()
    assert " INFO " not in captured.err  # the exporter logs every operator
    said = captured.out.splitlines()
    assert given.manifest.version in said[0]
    assert f"checked on {len(TASKS)} frames" in said[1]
    assert {one.name for one in (tmp_path / "model").iterdir()} == {"model.onnx", CARD}
    ours = exported.opened(tmp_path / "model" / "model.onnx", "onnx")(given.images)
    theirs = exported.opened(given.to / MODEL, "torch-export")(given.images)
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE)
    assert "| format | ONNX, opset 18 |" in (tmp_path / "model" / CARD).read_text(encoding="utf-8")


@pytest.mark.usefixtures("command", "quick")
def test_the_command_takes_a_version_by_its_number(given: Given, tmp_path: Path) -> None:
    options = ["--project", str(PROJECT), "--format", "torch-export", "--to", str(tmp_path / "model")]
    assert exit_code("model", *options, "--version", "1") == 0
    assert (tmp_path / "model" / CARD).read_bytes() == (given.to / CARD).read_bytes()


@pytest.mark.usefixtures("command")
@pytest.mark.parametrize(
    ("options", "code"),
    [(["--version", "9"], 1), (["--format", "torchscript"], 2), (["--project", "8"], 2)],
)
def test_the_command_refuses_what_there_is_not(tmp_path: Path, options: list[str], code: int) -> None:
    assert exit_code("model", "--to", str(tmp_path / "model"), *options) == code
    assert not [*tmp_path.iterdir()]


@pytest.mark.usefixtures("command")
def test_the_command_names_a_missing_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert exit_code("model", "--to", str(tmp_path / "model")) == 3
    assert "onnxruntime" in one_line(capsys)
    assert not [*tmp_path.iterdir()]
