"""The clips of a phantom ward and the table of their labels."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from ml_backend.errors import InvalidRequest
from ml_backend.phantom import clips
from ml_backend.phantom import echoes as phantom
from ml_backend.phantom.breathing import BreathingClip

A_LINE, NOTHING = (1, 0, 0, 0), (0, 0, 0, 0)


@pytest.mark.parametrize("seed", range(8))
def test_the_mix_of_labels_is_that_of_a_ward(seed: int) -> None:
    plans = clips.plan(patients=12, clips_per_patient=2, seed=seed)
    assert len(plans) == 24
    assert len({item.file for item in plans}) == 24
    assert len({item.person for item in plans}) == 12
    for index in range(4):
        assert len({item.patient for item in plans if item.labels[index]}) >= 3
    assert Counter(item.labels for item in plans).most_common(1)[0][0] == A_LINE
    assert {item.person.probe.kind for item in plans} == {"convex", "linear"}
    assert not any(item.labels[0] and any(item.labels[1:]) for item in plans)


def test_four_patients_are_enough_for_every_symptom() -> None:
    for seed in range(8):
        plans = clips.plan(patients=4, clips_per_patient=1, seed=seed)
        assert np.any([item.labels for item in plans], axis=0).all()


def test_among_many_patients_healthy_places_are_common_and_empty_ones_rare() -> None:
    combinations = Counter(item.labels for item in clips.plan(patients=60, clips_per_patient=3, seed=1))
    assert 0.3 < combinations[A_LINE] / 180 < 0.6
    assert 0 < combinations[NOTHING] / 180 < 0.1
    assert len(combinations) >= 7


def written(folder: Path, seed: int = 7) -> Path:
    return clips.generate(folder, patients=3, clips_per_patient=1, frames_per_clip=4, seed=seed, size=(96, 128))


def breathing(folder: Path, seed: int = 7) -> Path:
    return clips.generate(
        folder, 2, 2, frames_per_clip=5, seed=seed, size=(96, 128), frames_per_second=3, breathing=True
    )


def test_clips_and_their_table_are_written_like_the_real_ones(tmp_path: Path) -> None:
    table = written(tmp_path)
    assert table == tmp_path / "clips.csv"
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "file", "patient", "probe", "labelled", "a_line", "b_line", "pleural_lesion", "pleural_effusion",
    ]  # fmt: skip
    assert sorted(row["file"] for row in rows) == sorted(path.name for path in (tmp_path / "clips").iterdir())
    assert len({row["patient"] for row in rows}) == 3
    assert {row["labelled"] for row in rows} == {"1"}
    for row, item in zip(rows, clips.plan(3, 1, seed=7), strict=True):
        assert [int(row[name]) for name in list(row)[4:]] == list(item.labels)


def test_breathing_clips_come_with_the_labels_of_every_frame(tmp_path: Path) -> None:
    table = breathing(tmp_path)
    assert table == tmp_path / "frames.csv"
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "frame", "time", "a_line", "b_line", "pleural_lesion", "pleural_effusion"]
    expected = []
    for item in clips.plan(2, 2, seed=7, breathing=True):
        drawn = BreathingClip(item.person, item.labels, item.seed)
        with av.open(str(tmp_path / "clips" / item.file)) as container:
            frames = list(container.decode(video=0))
        for index, frame in enumerate(frames):
            labels = map(str, drawn.labels_at(index / 3))
            expected.append([item.file, str(index), str(round(float(frame.time), 3)), *labels])
            picture = drawn.frame(index / 3, (96, 128)).astype(float)
            assert np.abs(frame.to_ndarray(format="gray") - picture).mean() < 4
    assert [list(row.values()) for row in rows] == expected
    assert len(rows) == 2 * 2 * 5


def test_of_breathing_clips_the_table_names_patients_and_labels_none(tmp_path: Path) -> None:
    breathing(tmp_path)
    table = (tmp_path / "clips.csv").read_text(encoding="utf-8").splitlines()
    assert table[:2] == ["file,patient,probe", "phantom_001_clip_01.mp4,phantom-001,convex"]
    assert len(table) == 5


def test_among_breathing_patients_every_place_may_show_a_lines_and_few_are_healthy() -> None:
    plans = clips.plan(patients=36, clips_per_patient=4, seed=2, breathing=True)
    assert all(item.labels[0] for item in plans)
    assert 0.05 < np.mean([item.labels == A_LINE for item in plans]) < 0.3
    for index in range(1, 4):
        assert len({item.patient for item in plans if item.labels[index]}) >= 9


def test_what_is_read_from_a_clip_is_what_was_drawn(tmp_path: Path) -> None:
    written(tmp_path)
    item = clips.plan(3, 1, seed=7)[0]
    with av.open(str(tmp_path / "clips" / item.file)) as container:
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    assert len(frames) == 4
    drawn = phantom.Clip(item.person, item.labels, item.seed)
    for index, frame in enumerate(frames):
        expected = drawn.frame(index / 10, (96, 128)).astype(float)
        assert np.abs(frame - expected).mean() < 4
        assert np.abs(frame - expected).mean() < 0.5 * np.abs(frame - drawn.frame(index / 10 + 1, (96, 128))).mean()


@pytest.mark.parametrize("write", [written, breathing])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    tmp_path: Path, write: Callable[[Path, int], Path]
) -> None:
    for name, seed in (("one", 7), ("two", 7), ("other", 8)):
        write(tmp_path / name, seed)
    one, two, other = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in ("one", "two", "other")
    )
    assert one == two
    assert one.keys() == other.keys()
    assert all(one[path] != other[path] for path in one if path.suffix == ".mp4")


def test_running_again_replaces_phantoms_but_never_a_table_of_real_clips(tmp_path: Path) -> None:
    written(tmp_path)
    table = written(tmp_path)
    table.write_text("file,patient\nreal.mp4,somebody\n", encoding="utf-8")
    with pytest.raises(InvalidRequest, match=r"not phantoms \(real.mp4\); choose another folder"):
        written(tmp_path)
    assert "somebody" in table.read_text(encoding="utf-8")


def test_labels_of_frames_go_with_the_breathing_clips_they_belong_to(tmp_path: Path) -> None:
    table = breathing(tmp_path)
    written(tmp_path)
    assert not table.exists()
    table.write_text("file,frame,time,a_line\nreal.mp4,0,0,1\n", encoding="utf-8")
    with pytest.raises(InvalidRequest, match=r"not phantoms \(real.mp4\)"):
        written(tmp_path)
    assert table.exists()
