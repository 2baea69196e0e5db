from __future__ import annotations

import json
import socket
from collections import defaultdict
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_backend.__main__ import main
from ml_backend.errors import InvalidRequest
from ml_backend.frames.networks import Networks
from ml_backend.launch import demo as demo_module
from ml_backend.launch import serve
from ml_backend.launch.clips import Clips, held_out_clips, read_clips
from ml_backend.launch.demo import run
from ml_backend.launch.demo_state import Options, alone_in, earlier, first
from ml_backend.launch.processes import Processes, free_port
from ml_backend.phantom.clips import generate
from ml_backend.settings import Settings
from ml_backend.setup.label_configuration import render
from ml_backend.studio.configuration import Configuration

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
HEADER = "file,patient,a_line,b_line,pleural_lesion,pleural_effusion"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    clips = tmp_path / "clips"
    clips.mkdir()
    for name in ("one.mp4", "two.mp4", "three.mp4"):
        (clips / name).touch()
    return clips


def table(folder: Path, *lines: str) -> Path:
    path = folder.parent / "clips.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


# The table of clips


def test_a_clip_has_the_labels_of_its_row(folder: Path) -> None:
    clips = read_clips(folder, table(folder, HEADER, "one.mp4,anna,0,1,0,1", "two.mp4,bert,1,0,0,0"))
    assert clips.symptoms == ("A-line", "B-line", "Pleural lesion", "Pleural effusion")
    assert clips.patients == {"one.mp4": "anna", "two.mp4": "bert"}
    assert {name: labels.tolist() for name, labels in clips.labels.items()} == {
        "one.mp4": [0, 1, 0, 1],
        "two.mp4": [1, 0, 0, 0],
    }
    assert all(labels.dtype == np.uint8 for labels in clips.labels.values())


def test_symptoms_without_a_column_are_left_out(folder: Path) -> None:
    clips = read_clips(folder, table(folder, "b_line,probe,patient,file,a_line", "1,linear,anna,one.mp4,0"))
    assert clips.symptoms == ("A-line", "B-line")
    assert clips.labels["one.mp4"].tolist() == [0, 1]
    assert Configuration.parse(render(symptoms=clips.symptoms)).label_names == clips.symptoms


def test_clips_without_labels_or_files_keep_their_patient(folder: Path) -> None:
    lines = (f"{HEADER},labelled", "one.mp4,anna,1,0,0,0,1", "two.mp4,bert,,,,,0", "four.mp4,carl,1,0,0,0,1")
    clips = read_clips(folder, table(folder, *lines))
    assert clips.labels.keys() == {"one.mp4"}
    assert clips.patients["two.mp4"] == "bert"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([HEADER], "needs rows"),
        (["file,patient,a_line", "one.mp4,anna,1"], "two or more of the columns a_line, b_line, pleural_lesion"),
        ([HEADER, "one.mp4,anna,1,yes,0,0"], "one.mp4 has 'yes' in the column b_line; write 0 or 1"),
        ([HEADER, "one.mp4,anna,1"], "one.mp4 has '' in the column b_line; write 0 or 1"),
    ],
    ids=str,
)
def test_a_table_that_cannot_be_used_says_what_to_change(folder: Path, lines: list[str], message: str) -> None:
    path = table(folder, *lines)
    with pytest.raises(InvalidRequest, match=message) as refused:
        read_clips(folder, path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize(("name", "symptoms"), [("pocus", 4), ("blues", 3)])
def test_the_tables_of_the_real_clips_can_be_used(name: str, symptoms: int) -> None:
    if not (DATA / name).is_dir():
        pytest.skip(f"{DATA / name} is not there")
    clips = read_clips(DATA / name / "clips", DATA / name / "clips.csv")
    assert len(clips.symptoms) == symptoms
    assert len(clips.labels) > 20
    check_split(clips, held_out_clips(clips, seed=0))
    check_symptoms(clips, held_out_clips(clips, seed=0))


# The patients who never enter the project


def check_split(clips: Clips, tested: set[str]) -> None:
    """Nobody is on both sides, and there is somebody on each."""
    assert tested < clips.labels.keys()
    assert tested
    sides: dict[str, set[bool]] = defaultdict(set)
    for name in clips.labels:
        sides[clips.patients[name]].add(name in tested)
    assert all(len(side) == 1 for side in sides.values())


def check_symptoms(clips: Clips, tested: set[str]) -> None:
    """Each symptom occurs and is absent on both sides."""
    for side in (tested, clips.labels.keys() - tested):
        truth = np.array([clips.labels[name] for name in side])
        assert (truth.min(0) == 0).all()
        assert (truth.max(0) == 1).all()


@given(st.lists(st.integers(0, 9), min_size=2, max_size=40).filter(lambda p: len(set(p)) > 1), st.integers(0, 5))
def test_no_patient_is_on_both_sides(patients: list[int], seed: int) -> None:
    names = [f"{number}.mp4" for number in range(len(patients))]
    labels = {name: np.array([number % 2, 1 - number % 2], np.uint8) for number, name in enumerate(names)}
    people = {name: f"patient {patient}" for name, patient in zip(names, patients, strict=True)}
    clips = Clips(Path(), ("A-line", "B-line"), people, labels)
    tested = held_out_clips(clips, seed)
    check_split(clips, tested)
    assert held_out_clips(clips, seed) == tested


def test_each_symptom_is_on_both_sides_where_it_can_be(tmp_path: Path) -> None:
    path = generate(tmp_path, 16, clips_per_patient=3, frames_per_clip=1, seed=0, size=(64, 64))
    clips = read_clips(tmp_path / "clips", path)
    for seed in range(5):
        tested = held_out_clips(clips, seed)
        check_split(clips, tested)
        check_symptoms(clips, tested)


def test_one_patient_cannot_be_split() -> None:
    labels = {name: np.array([1, 0], np.uint8) for name in ("one", "two")}
    with pytest.raises(InvalidRequest, match="two patients or more"):
        held_out_clips(Clips(Path(), ("A-line", "B-line"), dict.fromkeys(labels, "anna"), labels), 0)


# The command, refused before anything is made or started


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["demo", *map(str, arguments)])
    assert ended.value.code == 2
    output = capsys.readouterr()
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1
    assert "starting" not in output.out
    return output.err


def test_the_simulated_annotator_needs_labels(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(capsys, "--unattended", "--clips", folder, "--folder", folder.parent / "demo")
    assert "--unattended needs --labels" in error
    assert not (folder.parent / "demo").exists()


def test_labels_need_clips(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "add --clips DIR" in refused(capsys, "--labels", table(folder, HEADER))


@pytest.mark.parametrize("name", ["nowhere", "clips.csv"])
def test_clips_must_be_a_folder(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    table(folder, HEADER)
    assert f"{name} is not a folder: --clips" in refused(capsys, "--clips", folder.parent / name)


def test_a_missing_table_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = folder.parent / "nowhere.csv"
    error = refused(capsys, "--clips", folder, "--labels", labels, "--folder", folder.parent / "demo")
    assert str(labels) in error


def test_a_table_of_other_clips_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = table(folder, HEADER, "other.mp4,anna,1,0,0,0")
    error = refused(capsys, "--unattended", "--clips", folder, "--labels", labels, "--folder", folder.parent / "demo")
    assert f"no clip in {folder} is labelled in {labels}" in error


@pytest.mark.parametrize("arguments", [("--port", 99999), ("--port", 0), ("--seed", -1)], ids=str)
def test_a_number_out_of_range_is_a_wrong_call(
    arguments: tuple[object, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", *map(str, arguments)])
    assert ended.value.code == 2
    assert f"Invalid value for '{arguments[0]}'" in capsys.readouterr().err


def test_a_port_in_use_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = refused(capsys, "--port", port)
    assert f"port {port} is in use: stop the program that uses it, or choose another --port" in error


@pytest.mark.parametrize("arguments", [("--rounds", 0), ("--batch", 0), ("--batch", -1)], ids=str)
def test_rounds_and_batches_must_be_positive(arguments: tuple[object, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert "--rounds and --batch must be 1 or more" in refused(capsys, *arguments)


# What goes on while Label Studio makes its database


class Waits(Exception):
    """Nothing is left to do but to wait for Label Studio."""


def test_all_that_needs_no_label_studio_is_done_before_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def few(folder: Path, patients: int, **rest: Any) -> Path:
        steps.append("frames")
        return generate(folder, 2, clips_per_patient=1, frames_per_clip=2, seed=0, size=(64, 64))

    def start(processes: Processes, settings: Settings) -> None:
        steps.append("backend")
        settings.data_dir.mkdir()  # its Redis lies there

    def wait(processes: Processes, settings: Settings) -> None:
        steps.append("wait")
        assert Networks(settings).were_built
        raise Waits

    monkeypatch.setattr(demo_module, "begin_studio", lambda *_: steps.append("studio"))
    monkeypatch.setattr(serve, "start", start)
    monkeypatch.setattr(demo_module, "generate", few)
    monkeypatch.setattr(demo_module, "wait_for_studio", wait)
    with pytest.raises(Waits):
        run(Options(None, None, False, True, 3, None, Path(), Fraction(1, 2), None, 0, tmp_path / "demo"))
    assert steps == ["studio", "backend", "frames", "wait"]


def test_a_demo_that_was_cut_off_before_its_frames_were_there_makes_them_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(*_: object) -> None:
        raise Waits

    folder = tmp_path / "demo"
    options = Options(None, None, False, True, 3, None, Path(), Fraction(1, 2), None, 0, folder)
    monkeypatch.setattr(demo_module, "begin_studio", cut_off)
    with pytest.raises(Waits):
        run(options)
    there = earlier(options, folder)
    assert there is not None
    assert not there.imported
    assert there.held_out is None


# An earlier demo's folder; test_demo_again opens one


@pytest.fixture
def demo(tmp_path: Path, folder: Path) -> Path:
    """The folder of an earlier demo with clips of its own, that was not unattended."""
    demo = tmp_path / "demo"
    options = Options(folder, None, False, True, 3, 7, Path(), Fraction(1, 2), None, 0, demo)
    demo.mkdir()
    first(options, demo).write()
    return demo


def test_a_folder_of_another_release_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "demo" / "data").mkdir(parents=True)
    assert "choose another --folder" in refused(capsys, "--folder", tmp_path / "demo")
    (tmp_path / "demo" / "demo.json").write_text('{"project": 1}')
    assert "of another release" in refused(capsys, "--folder", tmp_path / "demo")


def test_other_clips_are_refused(demo: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "other").mkdir()
    assert "has other clips" in refused(capsys, "--folder", demo, "--clips", folder / "other")
    labels = table(folder, HEADER)
    assert "has other labels" in refused(capsys, "--folder", demo, "--clips", folder, "--labels", labels)


def test_a_demo_that_kept_nobody_for_the_test_is_not_opened_unattended(
    demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "has kept no patients for the test" in refused(capsys, "--folder", demo, "--unattended")


def test_a_moved_demo_is_refused(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved = demo.rename(demo.parent / "moved")
    assert f"{moved} was {demo}" in refused(capsys, "--folder", moved)


def test_a_demo_is_not_opened_twice(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with alone_in(demo):
        assert f"a demo is running in {demo}" in refused(capsys, "--folder", demo)


@pytest.mark.parametrize("name", ["port", "studio_port"])
def test_a_port_of_the_demo_in_use_is_named(demo: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    port = json.loads((demo / "demo.json").read_text())[name]
    with socket.create_server(("127.0.0.1", port)):
        assert f"port {port} is in use" in refused(capsys, "--folder", demo)


def test_batch_and_port_may_change(demo: Path, folder: Path) -> None:
    options = Options(folder, None, False, True, 3, None, Path(), Fraction(1, 2), None, 0, demo)
    there = earlier(options, demo)
    assert there is not None
    assert there.batch == 7
    port = free_port()
    assert earlier(replace(options, batch=9, port=port), demo) == replace(there, batch=9, studio_port=port)
