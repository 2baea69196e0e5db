from __future__ import annotations

import csv
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from ml_backend.errors import InvalidRequest
from ml_backend.msml.build import build
from ml_backend.phantom.clips import generate
from studies import dataset
from tests.studies.clips import write_clips


def load(folder: Path, cache: Path, limit: int | None = None) -> dataset.ClipSet:
    return dataset.load(folder, Fraction(1), cache, limit, lambda *_: None)


def test_frames_come_with_labels_patients_and_clips(tmp_path: Path) -> None:
    clips = load(write_clips(tmp_path / "made"), tmp_path / "cache")
    assert clips.name == "made"
    assert clips.symptoms == ("A-line", "B-line", "Pleural lesion")
    assert clips.labels.tolist() == 4 * [[1, 0, 0], [0, 1, 0], [0, 1, 1]]
    assert clips.patients[:5] == ("patient 0", "patient 1", "patient 2", "patient 3", "patient 0")
    assert clips.clips[3] == "3.png"
    assert clips.pixels.shape == (12, 224, 224, 3)
    assert clips.pixels[0].max() < 80  # the first pattern is dark, the second is not
    assert clips.pixels[1].max() > 200
    assert np.bincount(clips.clip_numbers).tolist() == 12 * [1]


def test_the_second_time_nothing_is_decoded(tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "made")
    first = load(folder, tmp_path / "cache")
    shutil.rmtree(folder / "clips")
    again = load(folder, tmp_path / "cache")
    np.testing.assert_array_equal(first.pixels, again.pixels)
    np.testing.assert_array_equal(first.labels, again.labels)


def test_a_clip_that_cannot_be_read_costs_only_itself(tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "made")
    (folder / "clips" / "4.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    clips = load(folder, tmp_path / "cache")
    assert len(clips) == 11
    assert [line.split(":")[0] for line in clips.unreadable] == ["4.png"]
    assert "4.png" not in clips.clips
    assert clips.labels[4].tolist() == [0, 1, 1]  # the fifth frame is of the sixth clip


def test_a_limit_takes_clips_from_everywhere(tmp_path: Path) -> None:
    clips = load(write_clips(tmp_path / "made"), tmp_path / "cache", limit=3)
    assert clips.clips == ("0.png", "6.png", "11.png")  # of 0 to 11 the ends and 5.5, rounded to even


def breathing(folder: Path, frames: str) -> Path:
    write_clips(folder)
    (folder / "clips.csv").write_text("file,patient,probe\n0.png,one,convex\n1.png,two,convex\n2.png,,convex\n")
    (folder / "frames.csv").write_text(frames)
    return folder


def test_frames_have_labels_of_their_own_where_a_table_lists_them(tmp_path: Path) -> None:
    folder = generate(tmp_path / "made", 2, 2, 6, 7, (64, 64), 3, breathing=True).parent
    clips = dataset.load(folder, Fraction(0), tmp_path / "cache", None, lambda *_: None)
    with (folder / "frames.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert clips.symptoms == dataset.SYMPTOMS
    assert clips.labels.tolist() == [[int(value) for value in list(row.values())[3:]] for row in rows]
    assert any(len(np.unique(labels, axis=0)) > 1 for labels in np.split(clips.labels, 4))  # within a clip
    assert clips.clips == tuple(row["file"] for row in rows)
    assert clips.times == tuple(float(row["time"]) for row in rows)
    assert clips.patients == 12 * ("phantom-001",) + 12 * ("phantom-002",)
    every_second = dataset.load(folder, Fraction(1), tmp_path / "cache", 2, lambda *_: None)
    assert every_second.times == (0.0, 1.0, 0.0, 1.0)
    np.testing.assert_array_equal(every_second.labels, clips.labels[[0, 3, 18, 21]])


def test_frames_drawn_anew_under_the_same_names_are_read_anew(tmp_path: Path) -> None:
    network = build("efficientnet_lite0", 4)
    found = []
    for seed in (7, 8):
        folder = generate(tmp_path / "made", 1, 1, 4, seed, (64, 64), 2, breathing=True).parent
        clips = load(folder, tmp_path / "cache")
        found.append((clips.pixels, dataset.activations(clips, network, 1, tmp_path / "cache", lambda *_: None)))
    assert not np.array_equal(found[0][0], found[1][0])
    assert not np.array_equal(found[0][1], found[1][1])


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ("file,frame,a_line\n0.png,0,1\n", "needs the columns file, time"),
        ("file,time,colour\n0.png,0,1\n", "one for each symptom"),
        ("file,time,a_line\n0.png,0,1\n1.png,soon,1\n", "line 3: time is in seconds"),
        ("file,time,a_line\n0.png,0,2\n", "line 2: .* label 0 or 1"),
        ("file,time,a_line\n0.png,0\n", "line 2: .* label 0 or 1"),
        ("file,time,a_line\n2.png,0,1\n", "lists 2.png, for which clips.csv has no patient"),
        ("file,time,a_line\n0.png,0,1\n1.png,0.5,1\n", "no line for 1.png at 0.0 s"),
    ],
)
def test_what_is_wrong_with_labels_of_frames_is_said(tmp_path: Path, frames: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        load(breathing(tmp_path / "made", frames), tmp_path / "cache")


def test_records_are_those_of_each_frame_and_its_views(tmp_path: Path) -> None:
    clips = load(write_clips(tmp_path / "made", clips=3), tmp_path / "cache")
    network = build("efficientnet_lite0", 3)
    records = dataset.activations(clips, network, 2, tmp_path / "cache", lambda *_: None)
    assert records.shape[:2] == (3, 2)
    expected = network.activations(clips.pixels[:])
    found = dataset.restored(records[:, 0], network)
    step = (expected.max() - expected.min()) / 255
    np.testing.assert_allclose(found, expected, atol=float(step))
    assert not np.array_equal(records[:, 0], records[:, 1])
    again = dataset.activations(clips, network, 2, tmp_path / "cache", lambda *_: pytest.fail("computed twice"))
    np.testing.assert_array_equal(records, again)
